//! Limits per source, and ceilings for all. Time passes while packets are sent, so that each is
//! held to bounds rather than to a number: its burst at least, and what its rate adds in the time
//! at most.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use spectrum_user::{
    config::{App, Config, Mode, Rate},
    dataplane::counters::Snapshot,
};

use crate::{
    XDP_DROP, addresses,
    generator::{self, Random},
    hex, load,
    reference::{self, Outcome, Sender},
};

/// Packets that hardly differ are what limits are for.
const REPEATS: usize = 10;

/// What a source sent under a limit, and how much of it was admitted.
#[derive(Debug, Default)]
struct Account {
    sent: u32,
    admitted: u32,
}

/// Sends `count` frames under a policy whose rates are in `mode`.
pub(crate) fn agree(mode: Mode, random: &mut Random, count: usize) -> Result<()> {
    let config = generator::rated_policy(mode);
    let addresses = addresses();
    let mut filter = load(&config)?;
    let slots = filter.maps().slots()?;
    let mut accounts: BTreeMap<(&str, IpAddr), Account> = BTreeMap::new();
    let started = Instant::now();
    for _ in 0..count {
        let frame = generator::frame(random);
        let verdict = reference::decide(&config, &addresses, &frame);
        let charge = limit(&config, &verdict, &frame);
        let Some((app, reason, sender)) = charge else {
            let dropped = filter.test_run(&frame, 1)?.action == XDP_DROP;
            let agreed = dropped == matches!(verdict.outcome, Outcome::Dropped(_));
            ensure!(agreed, "{verdict:?}, but not so: {}", hex(&frame));
            continue;
        };
        let account = accounts.entry((&app.name, sender.network)).or_default();
        for _ in 0..REPEATS {
            let before = filter.maps().counters(slots[&app.id])?;
            let dropped = filter.test_run(&frame, 1)?.action == XDP_DROP;
            let after = filter.maps().counters(slots[&app.id])?;
            let admitted = after.passed.packets - before.passed.packets;
            let refused = objections(&after, mode, reason) - objections(&before, mode, reason);
            let must_drop = refused == 1 && mode == Mode::Enforce;
            ensure!(
                admitted + refused == 1 && dropped == must_drop,
                "{admitted} admitted, {refused} over the {reason}, dropped: {dropped}: {}",
                hex(&frame)
            );
            account.sent += 1;
            account.admitted += u32::from(admitted == 1);
        }
    }
    let seconds = started.elapsed().as_secs() as u32 + 1;
    ensure_within_bounds(&config, &accounts, seconds)
}

/// The limit that a packet without another objection is under, its reason, and who is charged.
fn limit<'a>(
    config: &'a Config,
    verdict: &reference::Verdict,
    frame: &[u8],
) -> Option<(&'a App, &'static str, Sender)> {
    let name = verdict.app.as_ref()?;
    let app = config.apps.iter().find(|app| app.name == *name)?;
    let sender = reference::sender(frame)?;
    let rules = &app.protection;
    match verdict.outcome {
        Outcome::Passed if rules.packet_rate.mode != Mode::Off => {
            Some((app, "packet_rate", sender))
        }
        Outcome::Passed if rules.syn_rate.mode != Mode::Off && sender.opens => {
            Some((app, "syn_rate", sender))
        }
        Outcome::Passed if rules.ceiling.packets_per_second.is_some() => {
            let all = Sender {
                network: Ipv6Addr::UNSPECIFIED.into(),
                ..sender
            };
            Some((app, "ceiling", all))
        }
        Outcome::Passed | Outcome::Monitored(_) | Outcome::Dropped(_) | Outcome::Challenged => None,
    }
}

fn objections(snapshot: &Snapshot, mode: Mode, reason: &str) -> u64 {
    let cells = match mode {
        Mode::Enforce => &snapshot.dropped,
        Mode::Off | Mode::Monitor => &snapshot.monitored,
    };
    cells.get(reason).map_or(0, |total| total.packets)
}

fn ensure_within_bounds(
    config: &Config,
    accounts: &BTreeMap<(&str, IpAddr), Account>,
    seconds: u32,
) -> Result<()> {
    let mut limited = BTreeMap::new();
    for (&(name, network), account) in accounts {
        let app = config.apps.iter().find(|app| app.name == name);
        let rules = &app.context("an app")?.protection;
        let rate = match (rules.packet_rate.mode, rules.ceiling.packets_per_second) {
            // Of the eight packets that may come at once, four are not for newcomers.
            (Mode::Off, Some(per_second)) => Rate {
                mode: Mode::Off,
                per_second: per_second as u32,
                burst: 5,
            },
            (Mode::Off, None) => rules.syn_rate,
            (Mode::Monitor | Mode::Enforce, _) => rules.packet_rate,
        };
        let least = account.sent.min(rate.burst);
        let most = account.sent.min(rate.burst + rate.per_second * seconds);
        ensure!(
            (least..=most).contains(&account.admitted),
            "{name} from {network} in {seconds} s: {account:?} under {rate:?}"
        );
        if account.admitted < account.sent {
            *limited.entry(name).or_insert(0) += 1;
            let family = if network.is_ipv4() { "IPv4" } else { "IPv6" };
            *limited.entry(family).or_insert(0) += 1;
        }
    }
    let reached: Vec<_> = limited.keys().copied().collect();
    let all = ["IPv4", "IPv6", "game", "ssh", "web"];
    ensure!(reached == all, "limited only {limited:?}: {accounts:?}");
    Ok(())
}
