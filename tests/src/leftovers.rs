//! What a lab leaves on the machine, and how it is found again.
//!
//! Namespaces, pin directories and temporary directories are all named `spectrum-<pid>-<n>…`
//! after the process that made them. A lab removes its own; whatever a killed process left is
//! removed when the next lab starts.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::{
        PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicU32, Ordering},
    },
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

const PREFIX: &str = "spectrum-";

/// Where `ip netns` keeps namespaces.
pub(crate) const NETNS_DIR: &str = "/run/netns";

/// Where the kernel keeps pinned BPF objects.
pub(crate) const BPF_DIR: &str = "/sys/fs/bpf";

/// A name that no other lab has.
pub(crate) fn unique_name() -> String {
    static LABS: AtomicU32 = AtomicU32::new(0);
    let number = LABS.fetch_add(1, Ordering::Relaxed);
    format!("{PREFIX}{}-{number}", process::id())
}

/// A directory for the files of a lab.
pub(crate) fn directory(lab: &str) -> io::Result<TempDir> {
    let _making = make();
    tempfile::Builder::new()
        .prefix(&format!("{lab}-"))
        .tempdir()
}

/// Removes what processes that are gone have left.
pub fn sweep_dead() {
    sweep(|pid| !Path::new("/proc").join(pid.to_string()).exists());
}

/// Held by whoever makes something, and for good by the one who removes everything.
static MAKING: RwLock<()> = RwLock::new(());

/// To be held while something is made that outlives the process. Once [`sweep_own_and_exit`] has begun,
/// this never returns: what was made now would stay.
pub(crate) fn make() -> RwLockReadGuard<'static, ()> {
    MAKING.read().unwrap_or_else(PoisonError::into_inner)
}

/// Removes everything that this process has made, and exits with `status` before anybody can make
/// more.
pub(crate) fn sweep_own_and_exit(status: i32) -> ! {
    let _nobody_makes_more = MAKING.write().unwrap_or_else(PoisonError::into_inner);
    sweep(|pid| pid == process::id());
    process::exit(status)
}

/// Best effort: what cannot be removed now is tried again by the next lab.
fn sweep(condemned: impl Fn(u32) -> bool) {
    let is_condemned = |path: &PathBuf| maker(path).is_some_and(&condemned);
    for netns in entries(Path::new(NETNS_DIR)).filter(&is_condemned) {
        remove_netns(&netns);
    }
    for pins in entries(Path::new(BPF_DIR)).filter(&is_condemned) {
        let _ = fs::remove_dir_all(pins);
    }
    for files in entries(&env::temp_dir()).filter(&is_condemned) {
        let _ = fs::remove_dir_all(files);
    }
}

fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let listing = fs::read_dir(directory).into_iter().flatten();
    listing.filter_map(|entry| entry.ok().map(|entry| entry.path()))
}

/// The process id in a name that [`unique_name`] gave.
fn maker(path: &Path) -> Option<u32> {
    let rest = path.file_name()?.to_str()?.strip_prefix(PREFIX)?;
    rest.split('-').next()?.parse().ok()
}

/// Ends what still runs in a namespace, and removes it.
pub(crate) fn remove_netns(path: &Path) {
    let Some(name) = path.file_name() else { return };
    let pids = Command::new("ip")
        .args(["netns", "pids"])
        .arg(name)
        .output();
    let pids = pids.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    for pid in pids.iter().flat_map(|text| text.split_whitespace()) {
        if let Ok(pid) = pid.parse::<i32>() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
    let _ = Command::new("ip").args(["netns", "del"]).arg(name).output();
}
