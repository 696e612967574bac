//! What a process costs, from `/proc`.

use std::{fs, time::Duration};

use anyhow::{Context, Result};
use nix::unistd::{Pid, SysconfVar, sysconf};

/// Time that a process has spent on a CPU, in user space and in the kernel.
///
/// # Errors
/// When the process has ended.
pub fn cpu_time(process: Pid) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let ticks = cpu_ticks(&stat).with_context(|| format!("unexpected stat: {stat}"))?;
    let per_second = sysconf(SysconfVar::CLK_TCK)?.context("no clock tick")?;
    Ok(Duration::from_secs_f64(ticks as f64 / per_second as f64))
}

/// `utime` and `stime` (`proc_pid_stat(5)`: fields 14 and 15, of which the second may contain
/// anything in parentheses).
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some(ticks()? + ticks()?)
}

/// Memory of a process in bytes; what it shares counts by its share (PSS).
///
/// # Errors
/// When the process has ended.
pub fn memory(process: Pid) -> Result<u64> {
    memory_of(process, "Pss:")
}

/// The part of it that is no file's: heaps and stacks. Who else runs the same program is nothing to it.
///
/// # Errors
/// When the process has ended.
pub fn anonymous_memory(process: Pid) -> Result<u64> {
    memory_of(process, "Anonymous:")
}

fn memory_of(process: Pid, field: &str) -> Result<u64> {
    let rollup = fs::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
    bytes(&rollup, field).with_context(|| format!("unexpected smaps_rollup: {rollup}"))
}

fn bytes(rollup: &str, field: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix(field))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// Ranges of memory that a process has mapped: of files, of BPF maps, and of its own.
///
/// # Errors
/// When the process has ended.
pub fn mappings(process: Pid) -> Result<usize> {
    Ok(fs::read_to_string(format!("/proc/{process}/maps"))?
        .lines()
        .count())
}

/// Files, sockets and pipes that a process has open.
///
/// # Errors
/// When the process has ended.
pub fn open_files(process: Pid) -> Result<u64> {
    Ok(fs::read_dir(format!("/proc/{process}/fd"))?.count() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_ticks_are_found_behind_any_name() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 9 0 0 0 300 70 5 6 20 0 2 0 1 2 3";
        assert_eq!(cpu_ticks(stat), Some(370));
        assert_eq!(cpu_ticks("42 (cut) S 1 42"), None);
    }

    #[test]
    fn memory_is_the_line_of_that_name() {
        let rollup = "5581c000-7fff ---p 00000000 00:00 0 [rollup]\n\
                      Rss:  9000 kB\nPss:                1234 kB\nPss_Dirty:   5 kB\n\
                      Anonymous:          70 kB\n";
        assert_eq!(bytes(rollup, "Pss:"), Some(1_263_616));
        assert_eq!(bytes(rollup, "Anonymous:"), Some(71_680));
        assert_eq!(bytes("Rss: 1 kB\n", "Pss:"), None);
    }
}
