//! Entries of the operator, beside those of the documents.

use std::time::Duration;

use anyhow::{Result, ensure};
use ipnet::IpNet;
use spectrum_common::reason::Reason::Blocked;
use spectrum_tests::wait;
use spectrum_user::{
    config::Mode,
    dataplane::{
        clock,
        lists::{self, Action},
    },
};

use crate::{
    fixture::{
        Cell::{Dropped, Passed},
        EDGE, Fixture, Owner,
    },
    frame::*,
};

const WEB: Owner = Some("web");
/// How long entries that last for a second or two may take to be over.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn entries_end(fixture: &mut Fixture) -> Result<()> {
    let packet = syn("100.66.0.1", EDGE, 80);
    let forever = (0, "100.66.0.0/16".parse()?);
    fixture.check(&packet, WEB, Passed)?;
    lists::put(fixture.filter().maps_mut(), forever, Action::Block, None)?;
    fixture.check(&packet, WEB, Dropped(Blocked))?;
    ensure!(
        lists::remove(fixture.filter().maps_mut(), forever)?,
        "it was there"
    );
    fixture.check(&packet, WEB, Passed)?;

    let second = Some(Duration::from_secs(1));
    lists::put(fixture.filter().maps_mut(), forever, Action::Block, second)?;
    fixture.check(&packet, WEB, Dropped(Blocked))?;
    passes_before_long(fixture, &packet)?;
    lists::remove(fixture.filter().maps_mut(), forever)?;
    Ok(())
}

pub(super) fn expired_entries_fall_back(fixture: &mut Fixture) -> Result<()> {
    let packet = syn("100.67.0.1", EDGE, 80);
    let net = (0, "100.67.0.0/16".parse()?);
    let host = (0, "100.67.0.1/32".parse()?);
    lists::put(fixture.filter().maps_mut(), net, Action::Allow, None)?;
    let second = Some(Duration::from_secs(1));
    lists::put(fixture.filter().maps_mut(), host, Action::Block, second)?;
    fixture.check(&packet, WEB, Dropped(Blocked))?;
    passes_before_long(fixture, &packet)?;
    lists::remove(fixture.filter().maps_mut(), net)?;
    lists::remove(fixture.filter().maps_mut(), host)?;
    Ok(())
}

/// What the documents list or drop while the operator's word hides it holds once that is over.
pub(super) fn documents_outlive_the_operator(_shared: &mut Fixture) -> Result<()> {
    // Of its own, since documents change.
    let mut fixture = Fixture::new(Mode::Enforce)?;
    let listed = syn("100.67.1.1", EDGE, 80);
    let dropped = syn("100.67.2.1", EDGE, 80);
    let [new, old] = ["100.67.1.1/32", "100.67.2.1/32"].map(|prefix| prefix.parse::<IpNet>());
    let (new, old) = (new?, old?);
    fixture.change(|host| host.block.push(old))?;
    let lifetime = Some(Duration::from_secs(2));
    for (prefix, action) in [(new, Action::Block), (old, Action::Allow)] {
        lists::put(fixture.filter().maps_mut(), (0, prefix), action, lifetime)?;
    }
    let end = clock::since_boot_s() + 2;
    fixture.filter().tidy()?;
    fixture.change(|host| {
        host.block.retain(|prefix| *prefix != old);
        host.block.push(new);
    })?;
    wait::until("the operator's entries to expire", PATIENCE, || {
        ensure!(clock::since_boot_s() >= end);
        Ok(())
    })?;
    fixture.filter().tidy()?;
    fixture.check(&listed, WEB, Dropped(Blocked))?;
    fixture.check(&dropped, WEB, Passed)?;
    let left = lists::get(fixture.filter().maps(), (0, old));
    ensure!(left.is_none(), "nobody lists it any more: {left:?}");
    Ok(())
}

fn passes_before_long(fixture: &mut Fixture, packet: &[u8]) -> Result<()> {
    wait::until("the entry to expire", PATIENCE, || {
        fixture.check(packet, WEB, Passed)
    })
}
