//! `cargo xtask bench`: what it costs, beside what others cost on the same machine.

use anyhow::{Result, bail};

use crate::{build, setup, shell};

/// Measure the XDP program, the proxy beside HAProxy and nginx, the ways of datagrams, or who survives a
/// flood.
///
/// Needs root. With `-o json` stdout has the result and nothing else.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask bench xdp               ns per packet and verdict, beside a bare drop
  cargo xtask bench flood             who is served under attack, beside the kernel's defences
  cargo xtask bench udp               datagrams through the proxy and past it, beside nginx and nftables
  cargo xtask bench proxy -o json     throughput, latency, memory, beside the peers")]
pub(crate) struct Arguments {
    /// What to measure.
    subject: Subject,
    /// Form of the result.
    #[arg(short, long, value_name = "FORM")]
    output: Option<Form>,
    /// Arguments of the benchmark itself.
    #[arg(last = true)]
    benchmark: Vec<String>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Subject {
    /// The XDP program, by `BPF_PROG_TEST_RUN`.
    Xdp,
    /// The proxy, between hosts in network namespaces.
    Proxy,
    /// The ways of datagrams, between hosts in network namespaces.
    Udp,
    /// Clients under attack, in network namespaces.
    Flood,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Form {
    Json,
}

pub(crate) fn main(arguments: &Arguments) -> Result<()> {
    if !shell::is_root() {
        bail!(
            "benches need root: they load XDP programs and make network namespaces\n  \
             run `sudo -E env \"PATH=$PATH\" cargo xtask bench …`"
        );
    }
    let name = match arguments.subject {
        Subject::Xdp => "xdp",
        Subject::Proxy => "proxy",
        Subject::Udp => "udp",
        Subject::Flood => "flood",
    };
    let mut command = shell::cargo("bench");
    command.args(["--package", "spectrum-tests", "--bench", name]);
    let packages = setup::LAB.iter().chain(setup::BENCH);
    setup::ensure_packages_if_possible(packages, "they are left out")?;
    match arguments.subject {
        Subject::Xdp => setup::ensure_toolchain()?,
        Subject::Proxy | Subject::Udp | Subject::Flood => {
            command.env("SPECTRUM_BIN", build::spectrum("release")?);
        }
    }
    setup::mount_bpffs()?;
    command.arg("--");
    if let Some(Form::Json) = arguments.output {
        command.args(["-o", "json"]);
    }
    shell::run(command.args(&arguments.benchmark))
}
