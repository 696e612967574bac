//! Apps over UDP that admit only whom another app has for a guest over TCP.

use anyhow::{Context as _, Result, ensure};
use spectrum_common::reason::Reason::{DatagramSize, NoTcpSession};
use spectrum_user::config::AppId;

use crate::{
    fixture::{
        Cell::{Dropped, Monitored, Passed},
        EDGE, EDGE_V6, Fixture, Owner,
    },
    frame::*,
};

const WEB: Owner = Some("web");
const SSH: Owner = Some("ssh");
const GUESTS: Owner = Some("guests");
const WATCHED: Owner = Some("guests-watched");

pub(super) fn connected(fixture: &mut Fixture) -> Result<()> {
    let datagram = udp("100.71.0.1", EDGE, 9301);
    fixture.check(&datagram, GUESTS, Dropped(NoTcpSession))?;
    fixture.connect(SSH, "100.71.0.1", true)?;
    fixture.check(&datagram, GUESTS, Dropped(NoTcpSession))?;
    fixture.connect(WEB, "100.71.0.1", true)?;
    fixture.check(&datagram, GUESTS, Passed)?;
    let stranger = udp("100.71.0.2", EDGE, 9301);
    fixture.check(&stranger, GUESTS, Dropped(NoTcpSession))?;
    // A client talks TCP and UDP from addresses of one network.
    fixture.connect(WEB, "2001:db8:c:71::", true)?;
    let neighbour = udp("2001:db8:c:71::9", EDGE_V6, 9301);
    fixture.check(&neighbour, GUESTS, Passed)?;

    fixture.connect(WEB, "100.71.0.1", false)?;
    fixture.check(&datagram, GUESTS, Dropped(NoTcpSession))?;
    fixture.check(&neighbour, GUESTS, Passed)
}

/// A daemon that starts knows better than what the last one left behind.
pub(super) fn replaced(fixture: &mut Fixture) -> Result<()> {
    let (old, new) = ("100.71.1.1", "100.71.1.2");
    fixture.connect(WEB, old, true)?;
    let web = AppId::from_file_stem(WEB.context("an app")?);
    let left_out = fixture
        .filter()
        .maps()
        .replace_sessions([(web, new.parse()?)])?;
    ensure!(left_out == 0, "{left_out} found no room");
    fixture.check(&udp(old, EDGE, 9301), GUESTS, Dropped(NoTcpSession))?;
    fixture.check(&udp(new, EDGE, 9301), GUESTS, Passed)
}

pub(super) fn monitored(fixture: &mut Fixture) -> Result<()> {
    let datagram = |length| long_udp("100.71.2.1", EDGE, 9302, length);
    fixture.check(&datagram(100), WATCHED, Monitored(NoTcpSession))?;
    fixture.check(&datagram(0), WATCHED, Monitored(DatagramSize))
}
