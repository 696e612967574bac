//! What an app gets from all sources together, one packet at a time.
//!
//! The apps have a ceiling of one per second: eight may come at once, of which the last four are for
//! sources that have proved to be real. No case takes as long as it takes to earn one more.

use anyhow::Result;
use spectrum_common::reason::Reason::Ceiling;

use crate::{
    fixture::{
        Cell::{self, Dropped, Monitored, Passed},
        EDGE, EDGE_V6, Fixture, Owner,
    },
    frame::*,
};

const CROWDED: Owner = Some("crowded");
const TCP: Owner = Some("crowded-tcp");
const UDP: Owner = Some("crowded-udp");
const HEAVY: Owner = Some("crowded-heavy");
const WATCHED: Owner = Some("crowded-watched");

/// A packet of each of `count` sources that differ from all others in `number`.
fn send(
    fixture: &mut Fixture,
    owner: Owner,
    number: u8,
    count: u8,
    cell: Cell,
    packet: impl Fn(&str) -> Vec<u8>,
) -> Result<()> {
    (0..count).try_for_each(|host| {
        let source = format!("100.70.{number}.{host}");
        fixture.check(&packet(&source), owner, cell)
    })
}

pub(super) fn packets(fixture: &mut Fixture) -> Result<()> {
    let data = |source: &str| tcp(source, EDGE, 92, ACK | PSH);
    fixture.prove(CROWDED, "100.70.1.1")?;
    fixture.prove(CROWDED, "2001:db8:c:70::1")?;
    send(fixture, CROWDED, 2, 5, Passed, data)?;
    send(fixture, CROWDED, 3, 3, Dropped(Ceiling), data)?;
    let client = data("100.70.1.1");
    fixture.check(&client, CROWDED, Passed)?;
    fixture.check(&client, CROWDED, Passed)?;
    // Any address of a network that is proven.
    let neighbour = tcp("2001:db8:c:70::2", EDGE_V6, 92, ACK | PSH);
    fixture.check(&neighbour, CROWDED, Passed)?;
    fixture.check(&client, CROWDED, Passed)?;
    // The ceiling holds for all.
    fixture.check(&client, CROWDED, Dropped(Ceiling))
}

pub(super) fn tcp_flows(fixture: &mut Fixture) -> Result<()> {
    let first = |source: &str| syn(source, EDGE, 93);
    fixture.prove(TCP, "100.70.4.1")?;
    send(fixture, TCP, 5, 5, Passed, first)?;
    send(fixture, TCP, 6, 3, Dropped(Ceiling), first)?;
    fixture.check(&first("100.70.4.1"), TCP, Passed)?;
    // Whoever is connected goes on, known or not.
    send(fixture, TCP, 7, 20, Passed, |source| {
        tcp(source, EDGE, 93, ACK | PSH)
    })
}

pub(super) fn udp_flows(fixture: &mut Fixture) -> Result<()> {
    let datagram = |source: &str| udp(source, EDGE, 9200);
    fixture.prove(UDP, "100.70.8.1")?;
    // Proof of another app is none.
    fixture.prove(CROWDED, "100.70.8.2")?;
    send(fixture, UDP, 9, 5, Passed, datagram)?;
    send(fixture, UDP, 10, 3, Dropped(Ceiling), datagram)?;
    fixture.check(&datagram("100.70.8.2"), UDP, Dropped(Ceiling))?;
    for _ in 0..20 {
        fixture.check(&datagram("100.70.8.1"), UDP, Passed)?;
    }
    Ok(())
}

pub(super) fn bytes(fixture: &mut Fixture) -> Result<()> {
    // 8 packets of 1514 bytes, of which strangers get half, and the one that exceeds it.
    let datagram = |length| move |source: &str| long_udp(source, EDGE, 9201, length);
    send(fixture, HEAVY, 11, 5, Passed, datagram(1472))?;
    send(fixture, HEAVY, 12, 2, Dropped(Ceiling), datagram(1472))?;
    send(fixture, HEAVY, 13, 2, Dropped(Ceiling), datagram(10))
}

pub(super) fn monitored(fixture: &mut Fixture) -> Result<()> {
    let datagram = |source: &str| udp(source, EDGE, 9202);
    send(fixture, WATCHED, 14, 5, Passed, datagram)?;
    send(fixture, WATCHED, 15, 3, Monitored(Ceiling), datagram)
}
