//! The file system in which programs, links and maps are pinned.

use anyhow::{Context as _, Result};
use nix::{
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};

use crate::shell;

const BPFFS: &str = "/sys/fs/bpf";

/// Mounts bpffs where it is missing, as in most containers; systemd mounts it at boot. Needs root.
///
/// # Errors
/// The kernel or the container forbids it.
pub(crate) fn mount_bpffs() -> Result<()> {
    if statfs(BPFFS).is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC) {
        return Ok(());
    }
    let none: Option<&str> = None;
    mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), none).with_context(|| {
        format!("cannot mount bpffs (in a container: `--privileged`, or `-v {BPFFS}:{BPFFS}`)")
    })?;
    shell::say(&format!("setup: mounted bpffs at {BPFFS}"));
    Ok(())
}
