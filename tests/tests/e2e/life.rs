//! The life of the daemon: how it starts, dies, comes back, and ends.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use spectrum_tests::{
    Lab,
    attack::{self, Flood},
    client,
    daemon::{self, AppDocument, HostDocument, Site},
    origin::{self, port},
    topology::{
        FRONT,
        address::{ATTACKER, EDGE},
    },
    wait,
};

use crate::harness::{
    Case, PATIENCE, Scene, Watch, ensure_silent, get, shielded, shielded_in, wait_for,
};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "life::the_filter_outlives_a_killed_daemon_and_the_next_takes_over",
        needs: &["nft"],
        run: the_filter_outlives_a_killed_daemon_and_the_next_takes_over,
    },
    Case {
        name: "life::a_stop_lets_connections_finish",
        needs: &[],
        run: a_stop_lets_connections_finish,
    },
    Case {
        name: "life::a_stop_does_not_wait_for_ever",
        needs: &[],
        run: a_stop_does_not_wait_for_ever,
    },
    Case {
        name: "life::a_second_signal_cuts_what_is_left",
        needs: &[],
        run: a_second_signal_cuts_what_is_left,
    },
    Case {
        name: "life::detach_leaves_nothing",
        needs: &["ip"],
        run: detach_leaves_nothing,
    },
    Case {
        name: "life::bpftool_prints_named_fields",
        needs: &["bpftool"],
        run: bpftool_prints_named_fields,
    },
    Case {
        name: "life::an_unprivileged_run_names_the_missing_capabilities",
        needs: &[],
        run: an_unprivileged_run_names_the_missing_capabilities,
    },
    Case {
        name: "life::native_xdp_on_lo_is_refused_with_the_reason",
        needs: &[],
        run: native_xdp_on_lo_is_refused_with_the_reason,
    },
    Case {
        name: "life::auto_falls_back_to_generic_xdp_and_says_so",
        needs: &[],
        run: auto_falls_back_to_generic_xdp_and_says_so,
    },
];

const ECHO: AppDocument<'_> = AppDocument::tcp("echo.lab", port::ECHO);
const HTTP: AppDocument<'_> = AppDocument::tcp("http.lab", port::HTTP);
const NONE: [&str; 0] = [];
/// Where a flood comes from that the filter drops.
const BLOCKED: &str = "198.51.100.0/24";

fn the_filter_outlives_a_killed_daemon_and_the_next_takes_over() -> Result<()> {
    let lab = Lab::new()?;
    let _http = origin::http(&lab.origin, port::HTTP)?;
    let host = HostDocument {
        protection: &format!("block = [\"{BLOCKED}\"]"),
        ..HostDocument::default()
    };
    shielded_in(&lab, host, &[HTTP], |scene| {
        let Scene { site, daemon, .. } = scene;
        let edge = (EDGE, port::HTTP).into();
        get(&lab.client, None, edge)?;
        site.run("block", &[ATTACKER.to_string()])?;

        let dropped_beyond = |count: u64| {
            wait_for(&site, "the filter to go on dropping", |status| {
                let dropped = status.app("http.lab")?.filter.dropped("blocked");
                ensure!(dropped > count, "{dropped} dropped, not more than {count}");
                Ok(())
            })?;
            Ok::<_, anyhow::Error>(site.status()?.app("http.lab")?.filter.dropped("blocked"))
        };
        let sources = attack::sources([198, 51, 100, 1].into(), 254);
        let flood = Flood {
            frames: attack::syns(lab.attack_path(), sources, edge)?,
            per_second: 20_000,
            count: u64::MAX,
        };
        let watch = Watch::start(&lab, BLOCKED)?;
        let flood = flood.start(&lab.attacker)?;
        let alive = dropped_beyond(0)?;

        daemon.kill()?;
        ensure!(
            site.status()?.daemon.is_none(),
            "status believes in a dead daemon"
        );
        let dead = dropped_beyond(alive)?;
        let daemon = site.start().context("starting the next daemon")?;
        let taken_over = dropped_beyond(dead)?;
        let sent = flood.stop()?;
        let leaked = watch.packets()?;
        ensure!(leaked == 0, "{leaked} of {sent} packets reached the host");
        ensure!(taken_over > dead);

        get(&lab.client, None, edge).context("through the next daemon")?;
        ensure_silent(&lab.attacker, None, edge).context("a block of the operator is kept")?;
        drop(daemon);
        Ok(())
    })
}

fn a_stop_lets_connections_finish() -> Result<()> {
    let lab = Lab::new()?;
    let _echo = origin::tcp_echo(&lab.origin, port::ECHO)?;
    let host = HostDocument {
        drain: "30s",
        ..HostDocument::default()
    };
    shielded_in(&lab, host, &[ECHO], |scene| {
        let edge = (EDGE, port::ECHO).into();
        let session = client::connect(&lab.client, None, edge, PATIENCE)?;
        client::echo_bytes(&session, b"before")?;
        let mut daemon = scene.daemon;
        daemon.signal(Signal::SIGTERM)?;
        ensure_not_accepted(&lab, edge)?;
        client::echo_bytes(&session, b"while it drains")?;
        drop(session);
        let status = daemon.wait().context("the last connection is gone")?;
        ensure!(status.success(), "{status}");
        Ok(())
    })
}

/// Waits until new connections are no longer taken.
fn ensure_not_accepted(lab: &Lab, edge: std::net::SocketAddr) -> Result<()> {
    wait::until("the listener to close", PATIENCE, || {
        let patience = Duration::from_millis(200);
        let accepted = client::connect(&lab.client, None, edge, patience).is_ok();
        ensure!(!accepted, "it still accepts");
        Ok(())
    })
}

fn a_stop_does_not_wait_for_ever() -> Result<()> {
    let lab = Lab::new()?;
    let _echo = origin::tcp_echo(&lab.origin, port::ECHO)?;
    let host = HostDocument {
        drain: "1s",
        ..HostDocument::default()
    };
    shielded_in(&lab, host, &[ECHO], |scene| {
        let edge = (EDGE, port::ECHO).into();
        let session = client::connect(&lab.client, None, edge, PATIENCE)?;
        client::echo_bytes(&session, b"before")?;
        let begun = Instant::now();
        let status = scene.daemon.stop()?;
        ensure!(status.success(), "{status}");
        let drained = begun.elapsed();
        ensure!(
            drained >= Duration::from_millis(900),
            "it did not wait at all: {drained:?}"
        );
        Ok(())
    })
}

fn a_second_signal_cuts_what_is_left() -> Result<()> {
    let lab = Lab::new()?;
    let _echo = origin::tcp_echo(&lab.origin, port::ECHO)?;
    let host = HostDocument {
        drain: "10m",
        ..HostDocument::default()
    };
    shielded_in(&lab, host, &[ECHO], |scene| {
        let edge = (EDGE, port::ECHO).into();
        let session = client::connect(&lab.client, None, edge, PATIENCE)?;
        client::echo_bytes(&session, b"before")?;
        let mut daemon = scene.daemon;
        daemon.signal(Signal::SIGTERM)?;
        daemon.wait_for_log("again to cut them")?;
        daemon.signal(Signal::SIGTERM)?;
        let status = daemon.wait()?;
        ensure!(status.success(), "{status}");
        daemon.wait_for_log("connections cut")?;
        let events = fs::read_to_string(scene.site.events())?;
        ensure!(
            events.contains("\"disconnect\""),
            "the end of the connection is on no record:\n{events}"
        );
        Ok(())
    })
}

fn detach_leaves_nothing() -> Result<()> {
    shielded(&[HTTP], |scene| {
        let Scene { lab, site, daemon } = scene;
        daemon.kill()?;
        ensure!(has_xdp(lab)?, "a killed daemon took its filter along");
        site.run("detach", &NONE)?;
        ensure!(!has_xdp(lab)?, "the program is still attached");
        ensure!(!lab.pin_dir().join(FRONT).exists(), "pins are left");
        // The closed port answers again: the host is as it was.
        let refused = client::connect(&lab.client, None, (EDGE, 9).into(), PATIENCE);
        let error = refused.err().context("connected to nobody")?;
        ensure!(
            error.kind() == std::io::ErrorKind::ConnectionRefused,
            "{error}"
        );
        Ok(())
    })
}

fn has_xdp(lab: &Lab) -> Result<bool> {
    let mut ip = Command::new("ip");
    ip.args(["-json", "link", "show", FRONT]);
    let output = daemon::output(&lab.edge, &mut ip)?;
    let links: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    Ok(links[0].get("xdp").is_some())
}

fn bpftool_prints_named_fields() -> Result<()> {
    shielded(&[HTTP], |scene| {
        for (map, fields) in [
            (
                "counters",
                &["passed", "dropped", "closed_port", "syn_rate"][..],
            ),
            ("apps", &["blocklist", "packet_rate", "per_second"]),
            ("edges", &["halves_be", "tcp_directory"]),
            ("settings", &["abi_version", "ticks_per_second"]),
            ("forwards", &["new_destination_port", "renewed_ns"]),
            ("forward_counts", &["carried", "no_neighbour"]),
        ] {
            let pin = scene.lab.pin_dir().join(FRONT).join(map);
            let output = Command::new("bpftool")
                .args(["map", "dump", "pinned"])
                .arg(&pin)
                .output()?;
            let complaint = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "{map}: {complaint}");
            let dump = String::from_utf8(output.stdout)?;
            for field in fields {
                ensure!(
                    dump.contains(&format!("\"{field}\"")),
                    "{map} names no {field}"
                );
            }
        }
        Ok(())
    })
}

fn an_unprivileged_run_names_the_missing_capabilities() -> Result<()> {
    const NOBODY: u32 = 65534;
    let lab = Lab::new()?;
    let site = Site::new(&lab, HostDocument::default())?;
    site.write_app(&HTTP)?;
    // A copy that nobody can reach, wherever the checkout is.
    let copy = lab.dir().join("binary");
    fs::copy(daemon::binary()?, &copy)?;
    fs::set_permissions(lab.dir(), fs::Permissions::from_mode(0o755))?;
    let mut command = Command::new(copy);
    command
        .arg("run")
        .arg("--config")
        .arg(site.config())
        .uid(NOBODY)
        .gid(NOBODY);
    let output = daemon::output(&lab.edge, &mut command)?;
    let complaint = String::from_utf8(output.stderr)?;
    ensure!(!output.status.success(), "it ran");
    for capability in ["CAP_BPF", "CAP_NET_ADMIN", "CAP_NET_BIND_SERVICE"] {
        ensure!(
            complaint.contains(capability),
            "no {capability} in:\n{complaint}"
        );
    }
    Ok(())
}

/// lo, whose driver has no native XDP.
fn on_lo(xdp_mode: &'static str) -> HostDocument<'static> {
    HostDocument {
        interface: "lo",
        xdp_mode,
        ..HostDocument::default()
    }
}

fn native_xdp_on_lo_is_refused_with_the_reason() -> Result<()> {
    let lab = Lab::new()?;
    let site = Site::new(&lab, on_lo("native"))?;
    site.write_app(&HTTP)?;
    let output = site.attempt("run", &NONE)?;
    let complaint = String::from_utf8(output.stderr)?;
    ensure!(!output.status.success(), "it ran");
    ensure!(
        complaint.contains("lo: native XDP refused by driver (EOPNOTSUPP)"),
        "{complaint}"
    );
    ensure!(!lab.pin_dir().join("lo").exists(), "pins are left");
    Ok(())
}

fn auto_falls_back_to_generic_xdp_and_says_so() -> Result<()> {
    shielded_in(&Lab::new()?, on_lo("auto"), &[HTTP], |scene| {
        let mode = scene.site.status()?.interface("lo")?.mode.clone();
        ensure!(mode == "generic", "{mode}");
        scene.daemon.wait_for_log(
            "lo: native XDP refused by driver (EOPNOTSUPP) → generic mode; expect lower pps. \
             Set xdp_mode = \"native\" to fail instead.",
        )
    })
}
