//! TCP segments that belong to no connection: floods of them are dropped, and clients notice nothing.

use anyhow::{Result, ensure};
use spectrum_tests::{
    attack::{self, Flood},
    client,
    daemon::AppDocument,
    origin::{self, port},
    packet::{self, Flags},
    topology::address::EDGE,
    wait,
};

use crate::harness::{Case, PATIENCE, shielded};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "strays::a_few_strays_are_reset_and_a_flood_is_not",
        needs: &[],
        run: a_few_strays_are_reset_and_a_flood_is_not,
    },
    Case {
        name: "strays::floods_without_a_connection_reach_nobody",
        needs: &[],
        run: floods_without_a_connection_reach_nobody,
    },
];

/// Who has lost a connection learns of it at once; a flood makes the edge send no resets.
fn a_few_strays_are_reset_and_a_flood_is_not() -> Result<()> {
    const FEW: u64 = 50;
    const MANY: u64 = 20_000;
    // The flood may begin in one second and become one in the next.
    const ABOVE: u64 = 2 * 100;
    let app = AppDocument {
        protection: "out_of_state_above = 100",
        ..AppDocument::tcp("echo.lab", port::ECHO)
    };
    shielded(&[app], |scene| {
        let lab = scene.lab;
        let edge = (EDGE, port::ECHO).into();
        let flags = Flags {
            ack: true,
            ..Flags::default()
        };
        let sources = attack::sources([198, 18, 0, 1].into(), 5000);
        let frame = |source| packet::tcp(lab.attack_path(), (source, 40_000).into(), edge, flags);
        let frames = sources.map(frame).collect::<Result<Vec<_>>>()?;
        let send = |per_second, count: u64| {
            Flood {
                frames: frames.clone(),
                per_second,
                count,
            }
            .run(&lab.attacker)
        };
        let resets = || lab.edge.stack_counter("Tcp", "OutRsts");
        let before = resets()?;
        send(50, FEW)?;
        wait::until("all of a few to be reset", PATIENCE, || {
            let resets = resets()? - before;
            ensure!(resets == FEW, "{resets}");
            Ok(())
        })?;
        let filter = scene.filter("echo.lab")?;
        ensure!(filter.reasons().is_empty(), "{filter:?}");

        send(5000, MANY)?;
        scene.wait_for("nearly all of the flood to be dropped", |status| {
            let filter = &status.app("echo.lab")?.filter;
            let passed = MANY.saturating_sub(filter.dropped("out_of_state"));
            ensure!(passed <= ABOVE, "{passed}: {filter:?}");
            Ok(())
        })?;
        let resets = resets()? - before;
        ensure!(resets <= FEW + ABOVE, "{resets} resets");
        let text = scene.site.run("status", &[""; 0])?;
        let line = "segments of no connection are too many since";
        ensure!(text.contains(line), "{text}");
        Ok(())
    })
}

fn floods_without_a_connection_reach_nobody() -> Result<()> {
    const EACH: u64 = 10_000;
    let app = AppDocument {
        protection: "out_of_state_above = 0",
        ..AppDocument::tcp("echo.lab", port::ECHO)
    };
    shielded(&[app], |scene| {
        let lab = scene.lab;
        let _echo = origin::tcp_echo(&lab.origin, port::ECHO)?;
        let edge = (EDGE, port::ECHO).into();
        let stream = client::connect(&lab.client, None, edge, PATIENCE)?;
        client::echo_bytes(&stream, b"before")?;
        let received = || lab.edge.stack_counter("Tcp", "InSegs");
        let before = received()?;

        let kinds = [
            (false, true, false, false),
            (false, false, false, true),
            (false, true, true, false),
            (true, true, false, false),
        ];
        for (syn, ack, fin, rst) in kinds {
            let flags = Flags { syn, ack, fin, rst };
            let sources = attack::sources([198, 18, 0, 1].into(), 5000);
            let frame =
                |source| packet::tcp(lab.attack_path(), (source, 40_000).into(), edge, flags);
            let flood = Flood {
                frames: sources.map(frame).collect::<Result<_>>()?,
                per_second: 5000,
                count: EACH,
            };
            flood.run(&lab.attacker)?;
            client::echo_bytes(&stream, b"during")?;
        }
        client::connect(&lab.client, None, edge, PATIENCE)?;
        scene.wait_for("all segments to be dropped", |status| {
            let filter = &status.app("echo.lab")?.filter;
            let dropped = filter.dropped("out_of_state");
            ensure!(dropped == 4 * EACH, "{filter:?}");
            ensure!(filter.reasons() == ["out_of_state"], "{filter:?}");
            Ok(())
        })?;
        let reached = received()? - before;
        ensure!(
            reached < EACH / 10,
            "{reached} segments reached the host's TCP"
        );
        Ok(())
    })
}
