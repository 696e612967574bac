//! Custom rules: what the operator describes, and nothing else, is dropped, held to a rate, or
//! passed.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use spectrum_tests::{
    attack::Flood,
    client,
    daemon::{AppDocument, HostDocument},
    origin::{self, port},
    packet,
    topology::address::{ATTACKER, ATTACKER_V6, EDGE, EDGE_V6},
};

use crate::harness::{Case, Scene, shielded};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "rules::what_a_rule_describes_is_dropped_and_the_rest_is_served",
        needs: &[],
        run: what_a_rule_describes_is_dropped_and_the_rest_is_served,
    },
    Case {
        name: "rules::a_rate_is_held_by_all_senders_together",
        needs: &[],
        run: a_rate_is_held_by_all_senders_together,
    },
    Case {
        name: "rules::a_rule_that_passes_spares_what_it_describes",
        needs: &[],
        run: a_rule_that_passes_spares_what_it_describes,
    },
    Case {
        name: "rules::a_rule_comes_and_goes_with_a_reload",
        needs: &[],
        run: a_rule_comes_and_goes_with_a_reload,
    },
];

const ECHO: AppDocument<'_> = AppDocument::udp("echo.lab", port::ECHO);

const PROBES: &str = "
[[protection.rules]]
id = 10
name = \"probes\"
payload = { offset = 4, text = \"probe\" }
action = \"drop\"
";

fn what_a_rule_describes_is_dropped_and_the_rest_is_served() -> Result<()> {
    let app = AppDocument {
        tables: PROBES,
        ..ECHO
    };
    shielded(&[app], |scene| {
        let _echo = origin::udp_echo(&scene.lab.origin, port::ECHO)?;
        let client = client::udp(&scene.lab.client, None, (EDGE, port::ECHO).into())?;
        client::echo_datagram(&client, b"no probe at byte four")?;
        let sent = send(&scene, b"\x01\x02\x03\x04probes", 1000)?;
        client::echo_datagram(&client, b"probe")?;
        scene.wait_for("the probes to be dropped", |status| {
            let filter = &status.app("echo.lab")?.filter;
            ensure!(filter.reasons() == ["custom_rule"], "{filter:?}");
            ensure!(filter.dropped("custom_rule") == sent, "{filter:?}");
            Ok(())
        })?;
        let rule = rule_status(&scene, 10)?;
        ensure!(
            rule["name"] == "probes" && rule["packets"] == sent,
            "{rule}"
        );
        Ok(())
    })
}

fn a_rate_is_held_by_all_senders_together() -> Result<()> {
    const BURST: u64 = 50;
    let app = AppDocument {
        tables: "
[[protection.rules]]
id = 1
length = \"100-200\"
action = \"rate-limit\"
per_second = 1
burst = 50
",
        ..ECHO
    };
    shielded(&[app], |scene| {
        let _echo = origin::udp_echo(&scene.lab.origin, port::ECHO)?;
        let sent = send(&scene, &[0x55; 120], 1000)?;
        // Shorter packets are no matter of the rule.
        let client = client::udp(&scene.lab.client, None, (EDGE, port::ECHO).into())?;
        client::echo_datagram(&client, b"short")?;
        scene.wait_for("the rate to be held", |status| {
            let dropped = status.app("echo.lab")?.filter.dropped("custom_rule");
            // A tick's worth may come at once, and the flood takes its time.
            let most = sent - BURST;
            ensure!((most - 20..=most).contains(&dropped), "{dropped} of {sent}");
            Ok(())
        })?;
        let rule = rule_status(&scene, 1)?;
        let (matched, limited) = (rule["packets"].as_u64(), rule["limited"].as_u64());
        let dropped = scene.filter("echo.lab")?.dropped("custom_rule");
        ensure!(matched == Some(sent) && limited == Some(dropped), "{rule}");
        Ok(())
    })
}

fn a_rule_that_passes_spares_what_it_describes() -> Result<()> {
    let app = AppDocument {
        protection: "packet_rate = { per_second = 1, burst = 1 }",
        tables: "
[[protection.rules]]
id = 1
payload = { text = \"monitoring\" }
action = \"pass\"

[[protection.rules]]
id = 2
payload = { text = \"m\" }
action = \"drop\"
",
        ..ECHO
    };
    shielded(&[app], |scene| {
        let _echo = origin::udp_echo(&scene.lab.origin, port::ECHO)?;
        let client = client::udp(&scene.lab.client, None, (EDGE, port::ECHO).into())?;
        for _ in 0..20 {
            client::echo_datagram(&client, b"monitoring").context("spared the rate")?;
        }
        let sent = send(&scene, b"more", 100)?;
        scene.wait_for("the others to be dropped", |status| {
            let filter = &status.app("echo.lab")?.filter;
            ensure!(filter.dropped("custom_rule") == sent, "{filter:?}");
            ensure!(filter.dropped("packet_rate") == 0, "{filter:?}");
            Ok(())
        })
    })
}

fn a_rule_comes_and_goes_with_a_reload() -> Result<()> {
    shielded(&[ECHO], |scene| {
        let _echo = origin::udp_echo(&scene.lab.origin, port::ECHO)?;
        let client = client::udp(&scene.lab.client, None, (EDGE, port::ECHO).into())?;
        client::echo_datagram(&client, b"....probe")?;
        let everywhere = HostDocument {
            protection: &format!("{PROBES}mode = \"enforce\""),
            ..HostDocument::default()
        };
        scene.site.write_host(everywhere)?;
        scene.daemon.signal(nix::sys::signal::Signal::SIGHUP)?;
        scene.daemon.wait_for_log("reloaded")?;
        let sent = send(&scene, b"....probe", 100)?;
        scene.wait_for("the probes to be dropped", |status| {
            let dropped = status.app("echo.lab")?.filter.dropped("custom_rule");
            ensure!(dropped == sent, "{dropped} of {sent}");
            Ok(())
        })?;
        scene.site.write_host(HostDocument::default())?;
        scene.daemon.signal(nix::sys::signal::Signal::SIGHUP)?;
        spectrum_tests::wait::until("the rule to go", crate::harness::PATIENCE, || {
            client::echo_datagram(&client, b"....probe")
        })
    })
}

/// Datagrams to the echo from random ports of the attacker, over both families; says how many.
fn send(scene: &Scene<'_>, payload: &[u8], count: u64) -> Result<u64> {
    let path = scene.lab.attack_path();
    let mut frames = Vec::new();
    for source_port in 40_000..40_050 {
        let ways = [
            ((ATTACKER, source_port).into(), (EDGE, port::ECHO).into()),
            (
                (ATTACKER_V6, source_port).into(),
                (EDGE_V6, port::ECHO).into(),
            ),
        ];
        for (from, to) in ways {
            frames.push(packet::udp(path, from, to, payload)?);
        }
    }
    let flood = Flood {
        frames,
        per_second: 2000,
        count,
    };
    flood.run(&scene.lab.attacker)
}

/// What `spectrum status -o json` says of a rule of the echo.
fn rule_status(scene: &Scene<'_>, id: u64) -> Result<Value> {
    let status: Value = serde_json::from_str(&scene.site.run("status", &["-o", "json"])?)?;
    let rules = status["apps"][0]["rules"].as_array().context("rules")?;
    let rule = rules.iter().find(|rule| rule["id"] == id);
    rule.cloned()
        .with_context(|| format!("no rule {id}: {status}"))
}
