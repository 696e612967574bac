//! xdp-filter (package xdp-tools) over the same packets: another program of this kind, as its
//! authors build it.

use std::{fs, net::Ipv4Addr, path::PathBuf, process};

use anyhow::{Context as _, Result, ensure};
use aya::{
    Ebpf, EbpfLoader,
    maps::{PerCpuHashMap, PerCpuValues},
    programs::{TestRun as _, TestRunOptions, Xdp},
    util::nr_cpus,
};

/// Its object with all features, whose rules drop and whose policy is to let others pass.
const OBJECT: &str = "xdpfilt_alw_all.o";
const PROGRAM: &str = "xdpfilt_alw_all";
const FILTER_IPV4: &str = "filter_ipv4";
const DIRECTORIES: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/bpf",
    "/usr/lib/aarch64-linux-gnu/bpf",
    "/usr/lib64/bpf",
    "/usr/local/lib/bpf",
];
/// The bit of a rule that makes it match sources (`MAP_FLAG_SRC`).
const MATCH_SOURCE: u64 = 1;

/// The program, loaded.
pub(crate) struct XdpFilter {
    ebpf: Ebpf,
    _pins: Pins,
}

impl XdpFilter {
    /// Addresses that its rules may name (`FILTER_IPV4` of its source).
    pub(crate) const ROOM: usize = 10_000;

    /// Loads it with rules that drop these sources; `None` if it is not installed.
    pub(crate) fn load(blocked: &[Ipv4Addr]) -> Result<Option<Self>> {
        let paths = DIRECTORIES.map(|directory| PathBuf::from(directory).join(OBJECT));
        let Some(object) = paths.into_iter().find(|path| path.exists()) else {
            return Ok(None);
        };
        let pins = Pins::new()?;
        let mut ebpf = EbpfLoader::new()
            .default_map_pin_directory(&pins.0)
            .load_file(&object)
            .with_context(|| format!("loading {}", object.display()))?;
        let map = ebpf.map_mut(FILTER_IPV4).context("it has no filter_ipv4")?;
        let mut rules: PerCpuHashMap<_, u32, u64> = map.try_into()?;
        let cpus = nr_cpus().map_err(|(_, error)| error)?;
        for source in blocked {
            let rule = PerCpuValues::try_from(vec![MATCH_SOURCE; cpus])?;
            rules.insert(u32::from(*source).to_be(), rule, 0)?;
        }
        program(&mut ebpf)?.load()?;
        Ok(Some(Self { ebpf, _pins: pins }))
    }

    /// Mean duration of a run over `frame`, which must end in this action.
    pub(crate) fn nanoseconds(&mut self, frame: &[u8], repeat: u32, action: u32) -> Result<f64> {
        let result = program(&mut self.ebpf)?.test_run(TestRunOptions {
            data_in: Some(frame),
            repeat,
            ..TestRunOptions::default()
        })?;
        let ended = result.return_value;
        ensure!(ended == action, "xdp-filter answers {ended}, not {action}");
        Ok(result.duration.as_nanos() as f64)
    }
}

fn program(ebpf: &mut Ebpf) -> Result<&mut Xdp> {
    let program = ebpf.program_mut(PROGRAM);
    Ok(program
        .context("it has no program of that name")?
        .try_into()?)
}

/// Its maps insist on being pinned; what is left goes with this value.
struct Pins(PathBuf);

impl Pins {
    fn new() -> Result<Self> {
        let directory = format!("/sys/fs/bpf/spectrum-{}-bench", process::id());
        fs::create_dir_all(&directory)?;
        Ok(Self(directory.into()))
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
