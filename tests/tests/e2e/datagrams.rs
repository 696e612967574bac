//! What only apps over UDP need: guests known over TCP, datagrams of the right size, and answers
//! that are no weapon.

use std::{net::UdpSocket, time::Duration};

use anyhow::{Result, ensure};
use spectrum_tests::{
    attack::Flood,
    client,
    daemon::AppDocument,
    origin::{self, port},
    packet,
    topology::address::EDGE,
    wait,
};

use crate::{
    ceilings::random_sources,
    harness::{Case, PATIENCE, SILENCE, Scene, shielded},
};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "datagrams::only_who_is_connected_over_tcp_is_served_over_udp",
        needs: &[],
        run: only_who_is_connected_over_tcp_is_served_over_udp,
    },
    Case {
        name: "datagrams::too_small_or_too_large_ones_do_not_reach_the_origin",
        needs: &[],
        run: too_small_or_too_large_ones_do_not_reach_the_origin,
    },
    Case {
        name: "datagrams::a_stranger_gets_no_more_than_a_multiple_of_what_it_sends",
        needs: &[],
        run: a_stranger_gets_no_more_than_a_multiple_of_what_it_sends,
    },
    Case {
        name: "datagrams::amplification_is_counted_by_default",
        needs: &[],
        run: amplification_is_counted_by_default,
    },
];

const APP: &str = "echo.lab";

fn only_who_is_connected_over_tcp_is_served_over_udp() -> Result<()> {
    let login = AppDocument::tcp("login.lab", port::HTTP);
    let guests = AppDocument {
        protection: "require_tcp_session = \"login.lab\"",
        ..AppDocument::udp(APP, port::ECHO)
    };
    shielded(&[login, guests], |scene| {
        let lab = scene.lab;
        let _login = origin::tcp_echo(&lab.origin, port::HTTP)?;
        let _echo = origin::udp_echo(&lab.origin, port::ECHO)?;
        let edge = (EDGE, port::ECHO).into();
        let socket = client::udp(&lab.client, None, edge)?;
        ensure_silent(&socket, b"hello")?;

        let session = client::connect(&lab.client, None, (EDGE, port::HTTP).into(), PATIENCE)?;
        client::echo_bytes(&session, b"log me in")?;
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        wait::until("the guest to be let in", PATIENCE, || {
            client::echo_datagram(&socket, b"hello")
        })?;

        let frames = random_sources()
            .map(|source| packet::udp(lab.attack_path(), source, edge, b"flood"))
            .collect::<Result<_>>()?;
        let flood = Flood {
            frames,
            per_second: 40_000,
            count: 80_000,
        };
        let flood = flood.start(&lab.attacker)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        for _ in 0..20 {
            client::echo_datagram(&socket, b"still here")?;
        }
        let sent = flood.stop()?;
        let filter = scene.filter(APP)?;
        ensure!(filter.reasons() == ["no_tcp_session"], "{filter:?}");
        ensure!(
            filter.dropped("no_tcp_session") >= sent,
            "{sent}: {filter:?}"
        );

        drop(session);
        wait::until("the guest to be forgotten", PATIENCE, || {
            ensure_silent(&socket, b"hello")
        })
    })
}

fn too_small_or_too_large_ones_do_not_reach_the_origin() -> Result<()> {
    let app = AppDocument {
        protection: "datagrams = { min = 1, max = 100 }",
        ..AppDocument::udp(APP, port::ECHO)
    };
    shielded(&[app], |scene| {
        let lab = scene.lab;
        let _echo = origin::udp_echo(&lab.origin, port::ECHO)?;
        let socket = client::udp(&lab.client, None, (EDGE, port::ECHO).into())?;
        client::echo_datagram(&socket, &[7; 100])?;
        client::echo_datagram(&socket, &[7; 1])?;
        ensure_silent(&socket, &[7; 101])?;
        ensure_silent(&socket, &[])?;
        let filter = scene.filter(APP)?;
        ensure!(filter.reasons() == ["datagram_size"], "{filter:?}");
        ensure!(filter.dropped("datagram_size") == 2, "{filter:?}");
        Ok(())
    })
}

/// With headers a question is 128 bytes, and so is each answer: of 20, three are three times it.
const QUESTION: [u8; 100] = [7; 100];
const ANSWERS: usize = 20;

fn a_stranger_gets_no_more_than_a_multiple_of_what_it_sends() -> Result<()> {
    amplified("amplification = { ratio = 3 }", |scene, socket| {
        let proxy = || -> Result<_> { Ok(scene.site.status()?.proxy()) };
        ensure!(ask(socket)? == 3, "not three answers");
        let withheld = (ANSWERS - 3) as u64;
        wait::until("the rest to be counted", PATIENCE, || {
            let proxy = proxy()?;
            ensure!(proxy.amplification_dropped == withheld, "{proxy:?}");
            ensure!(proxy.egress_bytes == 300, "{proxy:?}");
            Ok(())
        })?;
        // Who goes on, and reacts to what it gets, is there.
        wait::until("the client to be known", PATIENCE, || {
            let answers = ask(socket)?;
            ensure!(answers == ANSWERS, "{answers} answers");
            Ok(())
        })
    })
}

fn amplification_is_counted_by_default() -> Result<()> {
    amplified("", |scene, socket| {
        ensure!(ask(socket)? == ANSWERS, "not all answers");
        let proxy = scene.site.status()?.proxy();
        let beyond = (ANSWERS - 3) as u64;
        ensure!(proxy.amplification_monitored == beyond, "{proxy:?}");
        ensure!(proxy.amplification_dropped == 0, "{proxy:?}");
        Ok(())
    })
}

/// A client of an app whose origin answers each question many times.
fn amplified(
    protection: &str,
    play: impl FnOnce(&Scene<'_>, &UdpSocket) -> Result<()>,
) -> Result<()> {
    let app = AppDocument {
        protection,
        ..AppDocument::udp(APP, port::ECHO)
    };
    shielded(&[app], |scene| {
        let lab = scene.lab;
        let _loud = origin::udp_repeater(&lab.origin, port::ECHO, ANSWERS)?;
        let socket = client::udp(&lab.client, None, (EDGE, port::ECHO).into())?;
        socket.set_read_timeout(Some(Duration::from_millis(300)))?;
        play(&scene, &socket)
    })
}

/// How many answers come to a question.
fn ask(socket: &UdpSocket) -> Result<usize> {
    socket.send(&QUESTION)?;
    let mut answer = [0; 200];
    let mut answers = 0;
    while answers < ANSWERS && socket.recv(&mut answer).is_ok() {
        answers += 1;
    }
    Ok(answers)
}

/// Nobody sends the datagram back.
fn ensure_silent(socket: &UdpSocket, payload: &[u8]) -> Result<()> {
    socket.set_read_timeout(Some(SILENCE))?;
    ensure!(
        client::echo_datagram(socket, payload).is_err(),
        "{} bytes were served",
        payload.len()
    );
    Ok(())
}
