//! Custom rules: by field, in their order, and what each action does.

use std::ops::RangeInclusive;

use anyhow::{Context as _, Result, ensure};
use spectrum_common::{
    reason::Reason::{Blocked, CustomRule, Signature as SignatureReason},
    signature::{Fields, SignatureMask},
};
use spectrum_tests::wait;
use spectrum_user::{
    config::{
        Mode, Transport,
        rule::{Action, Conditions, Family, Flags, Payload, Rule},
    },
    dataplane::{clock, signatures::Signature},
};

use crate::{
    fixture::{
        Cell::{Dropped, Monitored, Passed},
        EDGE, EDGE_V6, Fixture, PATIENCE,
    },
    frame::*,
    places::country,
    policy::rule,
    sequences::Sequence,
    table::{Row, row},
};

const CLIENT: &str = "100.64.0.9";
const CLIENT_V6: &str = "2001:db8:c::9";
const RULED: Option<&str> = Some("ruled");
const RULED_TCP: Option<&str> = Some("ruled-tcp");
const GAME: Option<&str> = Some("game");

/// The payload of all frames here is `payload`, in packets of 35 bytes (IPv4, UDP) or 55 (IPv6).
fn payload(offset: u16, bytes: &[u8]) -> Conditions {
    Conditions {
        payload: Some(Payload {
            offset,
            bytes: bytes.to_vec(),
        }),
        ..Conditions::default()
    }
}

fn source_port(range: RangeInclusive<u16>) -> Conditions {
    Conditions {
        source_port: Some(range),
        ..Conditions::default()
    }
}

fn port(port: u16) -> Conditions {
    Conditions {
        port: Some(port..=port),
        ..Conditions::default()
    }
}

/// For all apps.
pub(crate) fn of_host() -> Vec<Rule> {
    vec![
        rule(500, Action::Drop, source_port(6666..=6666)),
        rule(
            501,
            Action::Drop,
            Conditions {
                transport: Some(Transport::Tcp),
                ..source_port(6667..=6667)
            },
        ),
    ]
}

pub(crate) fn of_udp_app() -> Vec<Rule> {
    let limit = Action::RateLimit {
        per_second: 1,
        burst: 3,
    };
    let on_port = |number, conditions| Conditions {
        port: port(number).port,
        ..conditions
    };
    let watched = Rule {
        mode: Mode::Monitor,
        ..rule(30, Action::Drop, source_port(3000..=3001))
    };
    vec![
        rule(10, Action::Pass, source_port(1000..=1099)),
        rule(20, Action::Drop, source_port(1050..=1150)),
        watched,
        rule(40, Action::Drop, source_port(3001..=3001)),
        rule(50, limit, port(9001)),
        rule(60, Action::Drop, on_port(9002, payload(0, b"payl"))),
        rule(61, Action::Drop, on_port(9003, payload(5, b"ad"))),
        rule(62, Action::Drop, on_port(9004, payload(5, b"add"))),
        rule(
            70,
            Action::Drop,
            on_port(
                9005,
                Conditions {
                    length: Some(35..=35),
                    ..Conditions::default()
                },
            ),
        ),
        rule(
            71,
            Action::Drop,
            on_port(
                9006,
                Conditions {
                    ttl: Some(60..=63),
                    ..Conditions::default()
                },
            ),
        ),
        rule(
            72,
            Action::Drop,
            on_port(
                9007,
                Conditions {
                    family: Some(Family::Ipv6),
                    ..Conditions::default()
                },
            ),
        ),
        rule(
            73,
            Action::Drop,
            on_port(
                9008,
                Conditions {
                    countries: vec![country("KP")],
                    asns: vec![64496],
                    ..Conditions::default()
                },
            ),
        ),
        rule(
            74,
            Action::Drop,
            on_port(
                9009,
                Conditions {
                    asns: vec![64500],
                    ..Conditions::default()
                },
            ),
        ),
        rule(600, Action::Pass, source_port(6666..=6666)),
        Rule {
            mode: Mode::Off,
            ..rule(700, Action::Drop, source_port(40_000..=40_000))
        },
    ]
}

pub(crate) fn of_tcp_app() -> Vec<Rule> {
    let flags = |set, clear| Conditions {
        flags: Some(Flags { set, clear }),
        ..Conditions::default()
    };
    vec![rule(10, Action::Drop, flags(URG, SYN))]
}

pub(crate) fn rows() -> Vec<Row> {
    let dropped = Dropped(CustomRule);
    let from = |source, to| udp_from(CLIENT, source, EDGE, to);
    let plain = |to| udp(CLIENT, EDGE, to);
    let with_hops = |frame, hops| with(frame, IP + 8, hops);
    vec![
        row(
            "rule::passes_what_no_rule_matches",
            plain(9000),
            RULED,
            Passed,
        ),
        row(
            "rule::the_lower_id_decides",
            from(1060, 9000),
            RULED,
            Passed,
        ),
        row("rule::a_range_of_ports", from(1100, 9000), RULED, dropped),
        row("rule::beside_a_range", from(1151, 9000), RULED, Passed),
        row(
            "rule::monitored",
            from(3000, 9000),
            RULED,
            Monitored(CustomRule),
        ),
        row(
            "rule::a_later_rule_drops_what_one_watched",
            from(3001, 9000),
            RULED,
            dropped,
        ),
        row(
            "rule::payload_at_the_beginning",
            plain(9002),
            RULED,
            dropped,
        ),
        row("rule::payload_at_an_offset", plain(9003), RULED, dropped),
        row(
            "rule::for_a_country_and_system",
            udp("100.65.0.1", EDGE, 9008),
            RULED,
            dropped,
        ),
        row("rule::for_another_country", plain(9008), RULED, Passed),
        row("rule::for_a_system", plain(9009), RULED, dropped),
        row(
            "rule::for_another_system",
            udp("100.65.0.1", EDGE, 9009),
            RULED,
            Passed,
        ),
        row("rule::payload_beyond_the_end", plain(9004), RULED, Passed),
        row(
            "rule::payload_behind_padding",
            padded(plain(9003), 6),
            RULED,
            dropped,
        ),
        row(
            "rule::padding_is_no_payload",
            padded(plain(9004), 6),
            RULED,
            Passed,
        ),
        row(
            "rule::payload_under_two_tags_and_options",
            tagged(tagged(with_options(plain(9002), 3), 0x8100), 0x88a8),
            RULED,
            dropped,
        ),
        row(
            "rule::payload_behind_extension_headers",
            with_extensions(udp(CLIENT_V6, EDGE_V6, 9002), &[0, 60]),
            RULED,
            dropped,
        ),
        row("rule::a_length", plain(9005), RULED, dropped),
        row(
            "rule::another_length",
            udp(CLIENT_V6, EDGE_V6, 9005),
            RULED,
            Passed,
        ),
        row(
            "rule::a_length_without_the_padding",
            padded(plain(9005), 11),
            RULED,
            dropped,
        ),
        row("rule::a_ttl", with_hops(plain(9006), 63), RULED, dropped),
        row("rule::another_ttl", plain(9006), RULED, Passed),
        row(
            "rule::a_family",
            udp(CLIENT_V6, EDGE_V6, 9007),
            RULED,
            dropped,
        ),
        row("rule::the_other_family", plain(9007), RULED, Passed),
        row(
            "rule::of_the_host_at_any_app",
            from(6666, 7000),
            GAME,
            dropped,
        ),
        row(
            "rule::of_the_host_before_one_of_the_app",
            from(6666, 9000),
            RULED,
            dropped,
        ),
        row("rule::of_another_transport", from(6667, 7000), GAME, Passed),
        row(
            "rule::flags",
            tcp(CLIENT, EDGE, 9000, ACK | URG),
            RULED_TCP,
            dropped,
        ),
        row(
            "rule::flags_that_are_not_set",
            tcp(CLIENT, EDGE, 9000, ACK),
            RULED_TCP,
            Passed,
        ),
        row(
            "rule::flags_that_must_not_be_set",
            tcp(CLIENT, EDGE, 9000, SYN | URG),
            RULED_TCP,
            Passed,
        ),
        row(
            "rule::a_pass_spares_nobody_the_blocklist",
            udp_from("198.18.0.7", 1060, EDGE, 9000),
            RULED,
            Dropped(Blocked),
        ),
    ]
}

pub(crate) const SEQUENCES: &[(&str, Sequence)] = &[
    ("rule::a_rate_is_shared_by_all_sources", a_rate_is_shared),
    ("rule::hits_are_counted_by_rule", hits_are_counted),
    (
        "mitigation::drops_what_it_describes_until_it_ends",
        a_mitigation_ends,
    ),
    (
        "mitigation::comes_after_the_operators_own_rules",
        a_mitigation_comes_last,
    ),
];

/// A mitigation of the app called "ruled", for packets from one port.
fn from_port(fixture: &Fixture, port: u64, mode: Mode, expires_ns: u64) -> Result<Signature> {
    let ports = |bits| Fields {
        endpoint: bits << 32,
        ..Fields::default()
    };
    let mask = SignatureMask {
        fields: ports(0xffff),
        ..SignatureMask::default()
    };
    let slot = fixture.slot(RULED)?;
    let look = (mask, ports(port));
    Ok(Signature::of_mitigation(1, slot, look, mode, expires_ns))
}

fn a_mitigation_ends(fixture: &mut Fixture) -> Result<()> {
    let slot = fixture.slot(RULED)?;
    let frame = udp_from(CLIENT, 5555, EDGE, 9000);
    fixture.check(&frame, RULED, Passed)?;
    let soon = clock::monotonic_coarse_ns() + 1_000_000_000;
    for (mode, cell) in [
        (Mode::Monitor, Monitored(SignatureReason)),
        (Mode::Enforce, Dropped(SignatureReason)),
    ] {
        let signature = from_port(fixture, 5555, mode, 0)?;
        fixture.filter().put_mitigation(signature)?;
        fixture.check(&frame, RULED, cell)?;
    }
    fixture.check(&udp_from(CLIENT, 5556, EDGE, 9000), RULED, Passed)?;
    fixture.check(&udp_from(CLIENT, 5555, EDGE, 7000), GAME, Passed)?;

    let signature = from_port(fixture, 5555, Mode::Enforce, soon)?;
    fixture.filter().put_mitigation(signature)?;
    let known = fixture.filter().maps().mitigations()?;
    ensure!(known.len() == 1 && known[0].1.packets == 2, "{known:?}");
    wait::until("it to end by itself", PATIENCE, || {
        fixture.check(&frame, RULED, Passed)
    })?;
    fixture.filter().remove_mitigation(slot, 1)?;
    let left = fixture.filter().maps().mitigations()?;
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

fn a_mitigation_comes_last(fixture: &mut Fixture) -> Result<()> {
    let slot = fixture.slot(RULED)?;
    for (port, cell) in [(1060, Passed), (1100, Dropped(CustomRule))] {
        let signature = from_port(fixture, port, Mode::Enforce, 0)?;
        fixture.filter().put_mitigation(signature)?;
        let port = u16::try_from(port)?;
        fixture.check(&udp_from(CLIENT, port, EDGE, 9000), RULED, cell)?;
    }
    fixture
        .filter()
        .remove_mitigation(slot, 1)
        .context("removing it")
}

fn a_rate_is_shared(fixture: &mut Fixture) -> Result<()> {
    for source in ["100.70.0.1", "100.70.0.2", "100.70.0.3"] {
        fixture.check(&udp(source, EDGE, 9001), RULED, Passed)?;
    }
    fixture.check(&udp("100.70.0.4", EDGE, 9001), RULED, Dropped(CustomRule))
}

fn hits_are_counted(fixture: &mut Fixture) -> Result<()> {
    let slot = fixture.slot(RULED)?;
    let hits = |fixture: &mut Fixture, id| {
        let hits = fixture.filter().maps().rule_hits()?;
        hits.get(&(slot, id)).copied().context("no such rule")
    };
    let before = hits(fixture, 20)?;
    let frame = udp_from(CLIENT, 1100, EDGE, 9000);
    fixture.check(&frame, RULED, Dropped(CustomRule))?;
    let after = hits(fixture, 20)?;
    ensure!(
        after.packets == before.packets + 1
            && after.bytes == before.bytes + frame.len() as u64
            && after.limited == 0,
        "{before:?}, then {after:?}"
    );
    ensure!(
        hits(fixture, 700).is_err(),
        "a rule that is off has no place in the maps"
    );
    Ok(())
}
