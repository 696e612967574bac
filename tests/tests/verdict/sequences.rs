//! Rules that remember, and frames by the dozen.

mod ceilings;
mod guests;
mod lists;

use std::{
    net::{IpAddr, TcpListener, UdpSocket},
    str::FromStr as _,
};

use anyhow::{Context as _, Result, ensure};
use spectrum_common::reason::Reason::{Blocked, ClosedPort, Malformed, PacketRate, SynRate};
use spectrum_ebpf::verdict::{Outcome, Verdict};
use spectrum_tests::wait;
use spectrum_user::config::Mode;

use crate::{
    fixture::{
        Cell::{Dropped, Monitored, Passed},
        EDGE, EDGE_V6, Fixture, PATIENCE,
    },
    frame::*,
};

pub(crate) type Sequence = fn(&mut Fixture) -> Result<()>;

pub(crate) const ALL: &[(&str, Sequence)] = &[
    ("truncated::tcp_over_ipv4_at_each_length", |fixture| {
        truncated(fixture, &syn("100.64.0.9", EDGE, 80))
    }),
    ("truncated::udp_over_ipv4_at_each_length", |fixture| {
        truncated(fixture, &udp("100.64.0.9", EDGE, 7000))
    }),
    ("truncated::tcp_over_ipv6_at_each_length", |fixture| {
        truncated(fixture, &syn("2001:db8:c::9", EDGE_V6, 80))
    }),
    (
        "truncated::udp_behind_extension_headers_at_each_length",
        |fixture| {
            let frame = with_extensions(udp("2001:db8:c::9", EDGE_V6, 7000), &[0, 43, 60]);
            truncated(fixture, &frame)
        },
    ),
    (
        "truncated::ipv4_with_options_under_two_tags_at_each_length",
        |fixture| {
            let frame = with_options(syn("100.64.0.9", EDGE, 80), 5);
            truncated_tagged(fixture, &tagged(tagged(frame, 0x8100), 0x88a8))
        },
    ),
    ("packet_rate::a_burst_passes_and_no_more", packet_rate),
    (
        "packet_rate::sources_do_not_share_it",
        packet_rate_by_source,
    ),
    (
        "packet_rate::an_ipv6_network_shares_it",
        packet_rate_by_network,
    ),
    ("packet_rate::monitored", packet_rate_monitored),
    ("packet_rate::is_earned_back", packet_rate_is_earned_back),
    ("syn_rate::a_burst_passes_and_no_more", syn_rate),
    ("sources::are_counted_at_their_app", sources_are_counted),
    (
        "sources::who_sends_most_stays_on_top_in_a_flood_of_random_sources",
        who_sends_most,
    ),
    ("ceiling::keeps_room_for_who_is_proven", ceilings::packets),
    ("ceiling::opens_few_tcp_connections", ceilings::tcp_flows),
    (
        "ceiling::admits_few_strangers_over_udp",
        ceilings::udp_flows,
    ),
    ("ceiling::counts_bytes", ceilings::bytes),
    ("ceiling::monitored", ceilings::monitored),
    ("no_tcp_session::is_who_is_not_connected", guests::connected),
    (
        "no_tcp_session::all_sessions_are_replaced",
        guests::replaced,
    ),
    ("no_tcp_session::monitored", guests::monitored),
    (
        "lists::an_entry_of_the_operator_holds_at_once_and_ends",
        lists::entries_end,
    ),
    (
        "lists::an_expired_address_falls_back_to_its_prefix",
        lists::expired_entries_fall_back,
    ),
    (
        "lists::documents_have_their_word_when_the_operators_is_over",
        lists::documents_outlive_the_operator,
    ),
    (
        "samples::tell_of_passed_and_dropped_packets_alike",
        samples_tell,
    ),
    (
        "ports::a_service_of_the_host_is_not_closed",
        a_local_socket_is_no_closed_port,
    ),
];

/// Every cut makes a packet that is shorter than it says.
fn truncated(fixture: &mut Fixture, frame: &[u8]) -> Result<()> {
    cut_from(fixture, frame, IP)
}

fn truncated_tagged(fixture: &mut Fixture, frame: &[u8]) -> Result<()> {
    cut_from(fixture, frame, IP + 8)
}

fn cut_from(fixture: &mut Fixture, frame: &[u8], first: usize) -> Result<()> {
    for length in first..frame.len() {
        fixture
            .check(&frame[..length], None, Dropped(Malformed))
            .with_context(|| format!("cut to {length} of {} bytes", frame.len()))?;
    }
    Ok(())
}

const SLOW: Option<&str> = Some("slow");
const SHY: Option<&str> = Some("shy");

fn packet_rate(fixture: &mut Fixture) -> Result<()> {
    let packet = tcp("100.65.0.1", EDGE, 90, ACK);
    for _ in 0..3 {
        fixture.check(&packet, SLOW, Passed)?;
    }
    fixture.check(&packet, SLOW, Dropped(PacketRate))?;
    fixture.check(&packet, SLOW, Dropped(PacketRate))
}

fn packet_rate_by_source(fixture: &mut Fixture) -> Result<()> {
    for _ in 0..3 {
        fixture.check(&tcp("100.65.1.1", EDGE, 90, ACK), SLOW, Passed)?;
    }
    fixture.check(&tcp("100.65.1.1", EDGE, 90, ACK), SLOW, Dropped(PacketRate))?;
    fixture.check(&tcp("100.65.1.2", EDGE, 90, ACK), SLOW, Passed)
}

/// Who has a /64 has 2⁶⁴ addresses.
fn packet_rate_by_network(fixture: &mut Fixture) -> Result<()> {
    for host in 1..=3 {
        let source = format!("2001:db8:c:1::{host}");
        fixture.check(&tcp(&source, EDGE_V6, 90, ACK), SLOW, Passed)?;
    }
    let fourth = tcp("2001:db8:c:1:ffff::4", EDGE_V6, 90, ACK);
    fixture.check(&fourth, SLOW, Dropped(PacketRate))?;
    fixture.check(&tcp("2001:db8:c:2::1", EDGE_V6, 90, ACK), SLOW, Passed)
}

fn packet_rate_monitored(fixture: &mut Fixture) -> Result<()> {
    let packet = tcp("203.0.113.90", EDGE, 81, ACK);
    fixture.check(&packet, Some("watched"), Passed)?;
    fixture.check(&packet, Some("watched"), Passed)?;
    fixture.check(&packet, Some("watched"), Monitored(PacketRate))
}

fn packet_rate_is_earned_back(fixture: &mut Fixture) -> Result<()> {
    let packet = tcp("100.65.2.1", EDGE, 90, ACK);
    for _ in 0..3 {
        fixture.check(&packet, SLOW, Passed)?;
    }
    fixture.check(&packet, SLOW, Dropped(PacketRate))?;
    wait::until("the rate to be earned back", PATIENCE, || {
        fixture.check(&packet, SLOW, Passed)
    })
}

fn syn_rate(fixture: &mut Fixture) -> Result<()> {
    let first = syn("100.65.3.1", EDGE, 91);
    fixture.check(&first, SHY, Passed)?;
    fixture.check(&first, SHY, Passed)?;
    fixture.check(&first, SHY, Dropped(SynRate))?;
    // Who is connected goes on.
    fixture.check(&tcp("100.65.3.1", EDGE, 91, ACK | PSH), SHY, Passed)
}

fn sources_are_counted(fixture: &mut Fixture) -> Result<()> {
    let packet = tcp("100.65.4.1", EDGE, 90, ACK);
    for _ in 0..3 {
        fixture.check(&packet, SLOW, Passed)?;
    }
    fixture.check(&packet, SLOW, Dropped(PacketRate))?;
    let slot = fixture.slot(SLOW)?;
    let totals = fixture
        .filter()
        .maps()
        .source_at("100.65.4.1".parse()?, slot)?;
    let totals = totals.context("the source is not in the table")?;
    ensure!(totals.packets == 4 && totals.limited == 1, "{totals:?}");
    ensure!(totals.bytes == 4 * packet.len() as u64, "{totals:?}");
    Ok(())
}

/// A million packets of random sources, and among them one in some thousand of each of these.
fn who_sends_most(_shared: &mut Fixture) -> Result<()> {
    // Of its own: the flood uses up the budgets of events and samples.
    let mut fixture = Fixture::new(Mode::Enforce)?;
    const ROUNDS: u64 = 100;
    let frame = |source: &str| udp(source, EDGE, 8081);
    let busy: Vec<String> = (1..=8).map(|host| format!("203.0.113.{host}")).collect();
    let slot = fixture.slot(Some("watched-udp"))?;
    let filter = fixture.filter();
    for _ in 0..ROUNDS {
        filter.test_run_program("spectrum_vary", &frame("100.64.0.9"), 10_000)?;
        for source in &busy {
            filter.test_run(&frame(source), 1)?;
        }
    }
    let top = filter.maps().top_sources(busy.len())?;
    let mut found: Vec<_> = top.iter().map(|totals| totals.source.to_string()).collect();
    found.sort();
    ensure!(found == busy, "{top:?}");
    for totals in top {
        ensure!(totals.slot == slot, "{totals:?}");
        // One that is pushed out begins again: seldom, and not for long.
        ensure!(totals.packets >= ROUNDS / 2, "{totals:?}");
    }
    Ok(())
}

/// One packet of a tick is sampled, with what became of it and where its payload begins; and all
/// together stand for every packet.
fn samples_tell(fixture: &mut Fixture) -> Result<()> {
    let slot = fixture.slot(Some("game"))?;
    let mut samples = fixture.filter().take_samples()?;
    // No other trial sends from here.
    for (source, outcome) in [
        ("100.68.0.1", Outcome::Passed),
        ("198.18.1.68", Outcome::Dropped(Blocked)),
    ] {
        let frame = tagged(udp(source, EDGE, 7000), 0x8100);
        let from = IpAddr::from_str(source)?.into();
        let verdict = Verdict { slot, outcome };
        let mut sent = 0;
        let sample = wait::until("one of the packets to be sampled", PATIENCE, || {
            fixture.filter().test_run(&frame, 10)?;
            sent += 10;
            let known = samples.drain(fixture.filter().maps(), 1000);
            let mut known = known.into_iter();
            let known = known.rfind(|sample| sample.packet.source == from);
            known.context("none was")
        })?;
        ensure!(sample.verdict == verdict, "{sample:?}");
        ensure!(sample.packet.length as usize == frame.len(), "{sample:?}");
        ensure!((1..=sent).contains(&sample.weight), "{sample:?} of {sent}");
        let [payload, _] = sample.fields.payload;
        ensure!(payload.to_be_bytes() == *b"payload\0", "{sample:?}");
        ensure!(sample.bytes() == frame, "{sample:?}");
    }
    Ok(())
}

fn a_local_socket_is_no_closed_port(fixture: &mut Fixture) -> Result<()> {
    let tcp = TcpListener::bind("0.0.0.0:0")?;
    let port = tcp.local_addr()?.port();
    fixture.check(&syn("100.64.0.9", EDGE, port), None, Passed)?;
    drop(tcp);
    fixture.check(&syn("100.64.0.9", EDGE, port), None, Dropped(ClosedPort))?;

    let socket = UdpSocket::bind("0.0.0.0:0")?;
    let port = socket.local_addr()?.port();
    fixture.check(&udp("100.64.0.9", EDGE, port), None, Passed)?;
    drop(socket);
    fixture.check(&udp("100.64.0.9", EDGE, port), None, Dropped(ClosedPort))
}
