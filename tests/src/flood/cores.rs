//! Who runs where: the attackers on one core, everybody else on another.

use std::{fs, process::Command, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

use crate::{
    Lab,
    daemon::output,
    topology::{FRONT, Host},
};

pub const ATTACKERS: usize = 0;
pub const CLIENTS: usize = 1;

/// The bridge's end of the link to the edge.
const EDGE_PORT: &str = "edge";

/// Runs `work` on a thread that stays on `core`, as do the threads and processes it starts.
///
/// # Errors
/// There is no such core.
pub fn on<T: Send>(core: usize, work: impl FnOnce() -> T + Send) -> Result<T> {
    let pinned = || -> Result<T> {
        let mut cores = CpuSet::new();
        cores.set(core)?;
        sched_setaffinity(Pid::from_raw(0), &cores)
            .with_context(|| format!("this machine has no core {core}: floods need two"))?;
        Ok(work())
    };
    let joined = thread::scope(|scope| scope.spawn(pinned).join());
    joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Gives the edge's interface a queue for each of the two cores, as a network card has.
///
/// # Errors
/// `ethtool` is not installed, or the kernel's veth has one queue only (before 5.17).
pub fn split_queues(lab: &Lab) -> Result<()> {
    // Where a program is attached, nobody may send on more queues than it receives from.
    for queues in ["rx 2", "tx 2"] {
        for (host, device) in [(&lab.edge, FRONT), (&lab.internet, EDGE_PORT)] {
            let line = format!("ethtool -L {device} {queues}");
            run(host, &line, "package ethtool")?;
        }
    }
    for (queue, core) in [(0, ATTACKERS), (1, CLIENTS)] {
        let mask = 1 << core;
        let file = format!("/sys/class/net/{EDGE_PORT}/queues/tx-{queue}/xps_cpus");
        run(
            &lab.internet,
            &format!("echo {mask:x} > {file}"),
            "a kernel with XPS",
        )?;
    }
    Ok(())
}

/// Runs a line of shell that sees the sysfs of the host's own namespace.
fn run(host: &Host, line: &str, needs: &str) -> Result<()> {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", host.namespace.name(), "sh", "-c", line]);
    let output = output(host, &mut command)?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "`{line}` (needs {needs}): {complaint}"
    );
    Ok(())
}

/// How long a core has been busy since boot, and how long it could have been.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    busy: u64,
    total: u64,
}

impl Usage {
    /// # Errors
    /// There is no such core.
    pub fn now(core: usize) -> Result<Self> {
        let table = fs::read_to_string("/proc/stat")?;
        Self::parse(&table, core).with_context(|| format!("/proc/stat has no core {core}"))
    }

    /// Reads proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal, in ticks.
    fn parse(table: &str, core: usize) -> Option<Self> {
        let name = format!("cpu{core}");
        let mut rows = table.lines().map(str::split_whitespace);
        let row = rows.find_map(|mut row| (row.next()? == name).then_some(row))?;
        let ticks: Vec<u64> = row
            .take(8)
            .map(|ticks| ticks.parse().ok())
            .collect::<Option<_>>()?;
        let total = ticks.iter().sum();
        let idle: u64 = ticks.iter().skip(3).take(2).sum();
        Some(Self {
            busy: total - idle,
            total,
        })
    }

    /// The share of the time since `before` in which the core was busy, in percent.
    pub fn percent_since(self, before: Self) -> f64 {
        let total = (self.total - before.total).max(1);
        (self.busy - before.busy) as f64 / total as f64 * 100.0
    }
}

/// How long a core has been busy while `work` went on, in percent, and what came of it.
///
/// # Errors
/// Those of `work`.
pub fn measured<T>(core: usize, work: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
    let before = Usage::now(core)?;
    let result = work()?;
    Ok((result, Usage::now(core)?.percent_since(before)))
}

/// Long enough for proxies and caches to settle.
pub const SETTLE: Duration = Duration::from_millis(500);

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::Usage;

    #[test]
    fn idle_and_waiting_are_not_busy() {
        let before = Usage::parse("cpu  9 9 9 9\ncpu1 10 0 10 100 20 0 0 0 7 7\n", 1).unwrap();
        let after = Usage::parse("cpu  9 9 9 9\ncpu1 30 0 10 140 40 0 20 0 9 9\n", 1).unwrap();
        assert!((after.percent_since(before) - 40.0).abs() < 1e-9);
        assert!(Usage::parse("cpu0 1 2 3 4 5 6 7 8\n", 1).is_none());
    }
}
