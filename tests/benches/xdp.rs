//! What each verdict costs: nanoseconds per packet of the real program, by the kernel's own
//! measure (`BPF_PROG_TEST_RUN`), beside a program that drops every packet unseen.
//!
//! Each row is the median of several repeats of at least 120 ms. A run repeats one packet, so that
//! its entries are in the processor's caches. Rows with random sources run a program that first
//! writes one into the packet, beside a bare drop that does the same.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a bench ends by panicking"
)]

#[expect(
    dead_code,
    reason = "the tables of the tests need more kinds of frames"
)]
#[path = "../tests/verdict/frame.rs"]
mod frame;
#[path = "../tests/support/policy.rs"]
mod policy;
#[path = "xdp/xdp_filter.rs"]
mod xdp_filter;

use std::{net::IpAddr, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use comfy_table::{CellAlignment, Table, presets};
use spectrum_tests::peers::report::{Report, Row, machine, median};
use spectrum_user::{
    config::{
        AppId, Config, Mode, TcpSession, Transport,
        rule::{Action, Conditions, Payload, Rule},
    },
    dataplane::{Filter, counters::Snapshot},
};

use frame::*;
use policy::{app, host, nets, rate, rule};
use xdp_filter::XdpFilter;

/// Packets of one repeat: some 150 ms at 100 ns.
const PACKETS: u32 = 1_500_000;
const REPEATS: usize = 7;

/// A program and the bare drop that it is compared with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sources {
    Same,
    Random,
}

impl Sources {
    const fn program(self) -> &'static str {
        match self {
            Self::Same => "spectrum",
            Self::Random => "spectrum_vary",
        }
    }

    const fn bare(self) -> &'static str {
        match self {
            Self::Same => "bare_drop",
            Self::Random => "bare_drop_vary",
        }
    }
}

const EDGE: &str = "192.0.2.1";
const EDGE_V6: &str = "2001:db8::1";
const CLIENT: &str = "100.64.0.9";
const OTHER_CLIENT: &str = "100.64.0.10";
const CLIENT_V6: &str = "2001:db8:c::9";
const BLOCKED: &str = "198.18.0.7";

/// Measure the XDP program beside a bare drop.
#[derive(Parser)]
struct Arguments {
    /// `table` or `json`
    #[arg(short, long, default_value = "table")]
    output: String,
    /// Only verdicts whose name has this in it
    filter: Option<String>,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

/// A packet, and the counter in which it must end (nearly always, where sources are random):
/// `passed`, or the reason of its drop.
struct Case {
    name: &'static str,
    sources: Sources,
    frame: Vec<u8>,
    ends_in: &'static str,
    /// At most this many times a bare drop.
    goal: Option<f64>,
    /// The packet belongs to a TCP connection that has proved itself.
    is_verified: bool,
}

fn case(name: &'static str, frame: Vec<u8>, ends_in: &'static str) -> Case {
    Case {
        name,
        sources: Sources::Same,
        frame,
        ends_in,
        goal: None,
        is_verified: false,
    }
}

fn random(name: &'static str, frame: Vec<u8>, goal: f64) -> Case {
    Case {
        sources: Sources::Random,
        goal: Some(goal),
        ..case(name, frame, "passed")
    }
}

/// Of sources that differ in so many bits.
fn flood(name: &'static str, frame: Vec<u8>, bits: u8, ends_in: &'static str) -> Case {
    // Where the program that varies them looks for their number.
    let identification = IP + 5;
    Case {
        ends_in,
        ..random(name, with(frame, identification, bits), 5.0)
    }
}

fn cases() -> Vec<Case> {
    vec![
        case(
            "pass: not for an edge address",
            syn(CLIENT, "192.0.2.200", 80),
            "passed",
        ),
        case(
            "pass: TCP data to an app",
            tcp(CLIENT, EDGE, 80, ACK | PSH),
            "passed",
        ),
        case("pass: UDP to an app", udp(CLIENT, EDGE, 7000), "passed"),
        case(
            "pass: the same over IPv6",
            udp(CLIENT_V6, EDGE_V6, 7000),
            "passed",
        ),
        case(
            "pass: the same under a VLAN tag",
            tagged(udp(CLIENT, EDGE, 7000), 0x8100),
            "passed",
        ),
        case(
            "pass: TCP data with rates on",
            tcp(CLIENT, EDGE, 90, ACK | PSH),
            "passed",
        ),
        Case {
            goal: Some(8.0),
            ..case(
                "pass: UDP with rates on and 16 signatures in 4 masks",
                udp(CLIENT, EDGE, 9000),
                "passed",
            )
        },
        case(
            "pass: an allowed source",
            syn("203.0.113.5", EDGE, 22),
            "passed",
        ),
        Case {
            goal: Some(2.3),
            ..case("drop: blocked address", syn(BLOCKED, EDGE, 80), "blocked")
        },
        Case {
            goal: Some(2.3),
            ..case(
                "drop: blocked prefix",
                syn("198.19.7.7", EDGE, 80),
                "blocked",
            )
        },
        case(
            "drop: blocked IPv6 address",
            syn("2001:db8:bad::7", EDGE_V6, 80),
            "blocked",
        ),
        random(
            "pass: random unlisted sources",
            tcp(CLIENT, EDGE, 80, ACK | PSH),
            2.5,
        ),
        random(
            "pass: random unlisted sources, IPv6",
            tcp(CLIENT_V6, EDGE_V6, 80, ACK | PSH),
            2.5,
        ),
        random(
            "pass: random sources with rates on",
            tcp(CLIENT, EDGE, 90, ACK | PSH),
            8.0,
        ),
        case(
            "drop: not on the allowlist",
            syn(CLIENT, EDGE, 22),
            "not_allowed",
        ),
        case(
            "drop: SYN to a closed port",
            syn(CLIENT, EDGE, 9),
            "closed_port",
        ),
        case(
            "drop: UDP to a closed port",
            udp(CLIENT, EDGE, 9),
            "closed_port",
        ),
        case(
            "drop: reflector",
            udp_from(CLIENT, 53, EDGE, 7000),
            "reflector",
        ),
        case(
            "drop: fragment",
            fragment(udp(CLIENT, EDGE, 7000), 0, true),
            "fragment",
        ),
        case(
            "drop: over the packet rate",
            tcp(CLIENT, EDGE, 91, ACK),
            "packet_rate",
        ),
        case("drop: over the SYN rate", syn(CLIENT, EDGE, 92), "syn_rate"),
        case(
            "pass: UDP of a known source under a ceiling",
            udp(CLIENT, EDGE, 9400),
            "passed",
        ),
        flood(
            "drop: above the ceiling, 1,024 random sources",
            udp(CLIENT, EDGE, 9400),
            10,
            "ceiling",
        ),
        flood(
            "drop: above the ceiling, 65,536 random sources",
            udp(CLIENT, EDGE, 9400),
            16,
            "ceiling",
        ),
        flood(
            "drop: above the ceiling, 16,777,216 random sources",
            udp(CLIENT, EDGE, 9400),
            24,
            "ceiling",
        ),
        flood(
            "drop: SYNs above the ceiling, 16,777,216 random sources",
            syn(CLIENT, EDGE, 93),
            24,
            "ceiling",
        ),
        flood(
            "drop: no TCP session, 16,777,216 random sources",
            udp(CLIENT, EDGE, 9401),
            24,
            "no_tcp_session",
        ),
        case(
            "drop: custom rule, the last of 16 in 4 masks",
            udp_from(CLIENT, 1003, EDGE, 9000),
            "custom_rule",
        ),
        Case {
            goal: Some(3.0),
            is_verified: true,
            ..case(
                "pass: TCP data of a verified connection",
                tcp(CLIENT, EDGE, 94, ACK | PSH),
                "passed",
            )
        },
        Case {
            goal: Some(9.0),
            ..case(
                "drop: ACK of no connection",
                tcp(OTHER_CLIENT, EDGE, 94, ACK),
                "out_of_state",
            )
        },
        case(
            "drop: impossible flags",
            tcp(CLIENT, EDGE, 80, SYN | FIN),
            "tcp_flags",
        ),
        case(
            "drop: malformed",
            with(syn(CLIENT, EDGE, 80), IP, 0x44),
            "malformed",
        ),
        case("drop: martian", syn("127.0.0.1", EDGE, 80), "martian"),
    ]
}

/// Ordinary apps, with 1,000,000 other addresses and 100,000 other prefixes blocked, a tenth and a
/// fifth of them of IPv6.
fn config() -> Config {
    use Transport::{Tcp, Udp};
    let mut apps = vec![
        app("web", Tcp, 80, 80),
        app("ssh", Tcp, 22, 22),
        app("game", Udp, 7000, 7999),
        app("rated", Tcp, 90, 90),
        app("slow", Tcp, 91, 91),
        app("shy", Tcp, 92, 92),
        app("signed", Udp, 9000, 9000),
        app("crowded", Udp, 9400, 9400),
        app("crowded-tcp", Tcp, 93, 93),
        app("stateful", Tcp, 94, 94),
        app("guests", Udp, 9401, 9401),
    ];
    for app in &mut apps {
        let rules = &mut app.protection;
        match app.name.as_str() {
            "ssh" => rules.allow = nets(&["203.0.113.0/24"]),
            "stateful" => rules.out_of_state = Mode::Enforce,
            "rated" => {
                rules.packet_rate = rate(Mode::Enforce, 1);
                rules.packet_rate.per_second = 1_000_000_000;
                rules.syn_rate = rate(Mode::Enforce, 100);
            }
            // With a rate per source on as well, as all apps have it by default.
            "crowded" | "crowded-tcp" => {
                rules.packet_rate = rate(Mode::Enforce, 1);
                rules.packet_rate.per_second = 1_000_000_000;
                rules.ceiling.new_flows_per_second = Some(1);
            }
            "guests" => {
                let app = "web".to_owned();
                let mode = Mode::Enforce;
                rules.tcp_session = Some(TcpSession { mode, app });
            }
            "slow" => rules.packet_rate = rate(Mode::Enforce, 1),
            "shy" => rules.syn_rate = rate(Mode::Enforce, 1),
            "signed" => {
                rules.packet_rate = rate(Mode::Enforce, 1);
                rules.packet_rate.per_second = 1_000_000_000;
                rules.rules = signatures();
            }
            _ => {}
        }
    }
    let mut host = host(Mode::Enforce);
    host.block = nets(&["198.18.0.7/32", "198.19.0.0/16", "2001:db8:bad::7/128"]);
    let mut random = Random(1);
    host.block.extend((0..1_100_000).map(|number| {
        let bits = random.next();
        if number < 900_000 {
            random_net(bits, 32)
        } else if number < 980_000 {
            random_net(bits, 20 + (bits >> 32) as u8 % 9)
        } else {
            let length = if number < 1_080_000 {
                128
            } else {
                32 + bits as u8 % 33
            };
            let ip = std::net::Ipv6Addr::from(0x2a00 << 112 | u128::from(bits) << 48);
            ipnet::Ipv6Net::new(ip, length).unwrap().trunc().into()
        }
    }));
    Config {
        host,
        apps: apps.into_iter().map(Arc::new).collect(),
    }
}

/// Four rules for each of four masks: by payload, by length and TTL, by these and the payload, and
/// by source port.
fn signatures() -> Vec<Rule> {
    let payload = |byte| {
        Some(Payload {
            offset: 0,
            bytes: vec![byte; 8],
        })
    };
    let conditions = |mask, number: u8| match mask {
        0 => Conditions {
            payload: payload(number),
            ..Conditions::default()
        },
        1 => Conditions {
            length: Some(35..=35),
            ttl: Some(number..=number),
            ..Conditions::default()
        },
        2 => Conditions {
            length: Some(35..=35),
            ttl: Some(64..=64),
            payload: payload(number),
            ..Conditions::default()
        },
        _ => Conditions {
            source_port: Some(1000 + u16::from(number)..=1000 + u16::from(number)),
            ..Conditions::default()
        },
    };
    let rules = (0..16).map(|n| rule(n + 1, Action::Drop, conditions(n / 4, (n % 4) as u8)));
    rules.collect()
}

/// Anywhere but where the packets of the cases come from.
fn random_net(bits: u64, length: u8) -> ipnet::IpNet {
    let mut octets = (bits as u32).to_be_bytes();
    if matches!(octets[0], 0 | 100 | 127 | 198 | 203 | 224..) {
        octets[0] = 1 + (bits >> 40) as u8 % 99;
    }
    let net = ipnet::Ipv4Net::new(octets.into(), length).unwrap();
    net.trunc().into()
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut filter = Filter::load_private()?;
    let addresses: [IpAddr; 2] = [EDGE.parse()?, EDGE_V6.parse()?];
    filter.apply(&config(), &addresses)?;
    let crowded = AppId::from_file_stem("crowded");
    filter.maps().prove([(crowded, CLIENT.parse()?)])?;

    let packet = syn(CLIENT, EDGE, 80);
    let bare = nanoseconds(&mut filter, Sources::Same.bare(), &packet)?;
    let bare_random = nanoseconds(&mut filter, Sources::Random.bare(), &packet)?;
    let mut rows = Vec::new();
    let wanted = arguments.filter.unwrap_or_default();
    for case in cases() {
        if !case.name.contains(&wanted) {
            continue;
        }
        eprintln!("{}", case.name);
        if case.is_verified {
            verify(&mut filter)?;
        }
        ensure_verdict(&mut filter, &case)?;
        let bare = match case.sources {
            Sources::Same => bare,
            Sources::Random => bare_random,
        };
        let value = nanoseconds(&mut filter, case.sources.program(), &case.frame)?;
        rows.push(row(&case, value, bare));
    }
    rows.extend(peer_rows(bare)?);
    let report = Report {
        machine: machine(),
        rows,
    };
    let text = match arguments.output.as_str() {
        "json" => serde_json::to_string_pretty(&report)?,
        _ => table(&report, bare, bare_random),
    };
    use std::io::Write as _;
    writeln!(std::io::stdout(), "{text}")?;
    Ok(())
}

/// Notes the connection of the case's packet as verified, which it stays for ten seconds.
fn verify(filter: &mut Filter) -> Result<()> {
    let slots = filter.maps().slots()?;
    let slot = slots.get(&AppId::from_file_stem("stateful")).copied();
    let client = format!("{CLIENT}:{CLIENT_PORT}").parse()?;
    let edge = format!("{EDGE}:94").parse()?;
    let slot = slot.context("no such app")?;
    Ok(filter.maps_mut().verify(client, edge, slot)?)
}

/// A row that measured another verdict than it names would be worse than none.
fn ensure_verdict(filter: &mut Filter, case: &Case) -> Result<()> {
    let (packets, enough) = match case.sources {
        Sources::Same => (1, 1),
        // Some are on a list by chance.
        Sources::Random => (10_000, 9_500),
    };
    // Twice: the first packet may be within a rate.
    for _ in 0..2 {
        let before = totals(filter)?;
        filter.test_run_program(case.sources.program(), &case.frame, packets)?;
        let after = totals(filter)?;
        if ended(&after, case.ends_in) - ended(&before, case.ends_in) >= enough {
            return Ok(());
        }
    }
    ensure!(
        false,
        "{} does not end in {}: {:?}",
        case.name,
        case.ends_in,
        totals(filter)?
    );
    Ok(())
}

fn totals(filter: &Filter) -> Result<Snapshot> {
    let mut all = filter.maps().host_counters()?;
    for counters in filter.maps().app_counters()?.values() {
        all.merge(counters);
    }
    Ok(all)
}

fn ended(totals: &Snapshot, cell: &str) -> u64 {
    match cell {
        "passed" => totals.passed.packets,
        reason => totals.dropped.get(reason).map_or(0, |total| total.packets),
    }
}

/// xdp-filter, where it is installed, with as many blocked addresses as ours has.
fn peer_rows(bare: f64) -> Result<Vec<Row>> {
    let addresses = config().host.block.into_iter();
    let addresses = addresses.filter_map(|net| match net.addr() {
        IpAddr::V4(address) if net.prefix_len() == 32 => Some(address),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    });
    let mut addresses: Vec<_> = addresses.collect();
    // It has room for so many.
    addresses.truncate(10_000);
    let Some(mut peer) = XdpFilter::load(&addresses)? else {
        eprintln!("xdp-filter is not installed (package xdp-tools): it is left out");
        return Ok(Vec::new());
    };
    let cases = [
        (
            "xdp-filter: drop a blocked address",
            syn(BLOCKED, EDGE, 80),
            XDP_DROP,
        ),
        ("xdp-filter: pass another", syn(CLIENT, EDGE, 80), XDP_PASS),
    ];
    cases
        .into_iter()
        .map(|(name, frame, action)| {
            eprintln!("{name}");
            let repeat = |_| peer.nanoseconds(&frame, PACKETS, action);
            let values: Vec<f64> = (0..REPEATS).map(repeat).collect::<Result<_>>()?;
            Ok(row(&case(name, frame, ""), median(&values).unwrap(), bare))
        })
        .collect()
}

/// Of `enum xdp_action`.
const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;

fn nanoseconds(filter: &mut Filter, program: &'static str, frame: &[u8]) -> Result<f64> {
    let mut values = Vec::with_capacity(REPEATS);
    for _ in 0..REPEATS {
        let run = filter.test_run_program(program, frame, PACKETS)?;
        values.push(run.duration.as_nanos() as f64);
    }
    Ok(median(&values).unwrap())
}

fn row(case: &Case, value: f64, bare: f64) -> Row {
    let ratio = value / bare;
    Row {
        name: case.name.to_owned(),
        unit: "ns/packet",
        value,
        compared_with: Some(match case.sources {
            Sources::Same => "bare XDP_DROP",
            Sources::Random => "bare XDP_DROP of random sources",
        }),
        compared_value: Some(bare),
        ratio: Some(ratio),
        goal: case.goal,
        met: case.goal.map(|goal| ratio <= goal),
    }
}

fn table(report: &Report, bare: f64, bare_random: f64) -> String {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header([
        "verdict",
        "ns/packet",
        "× bare drop",
        "goal",
    ]);
    for (name, value) in [
        ("bare XDP_DROP", bare),
        ("bare XDP_DROP of random sources", bare_random),
    ] {
        table.add_row([name, &format!("{value:.0}"), "1.0", ""]);
    }
    for row in &report.rows {
        let ratio = row.ratio.unwrap_or_default();
        let goal = row
            .goal
            .map_or_else(String::new, |goal| format!("≤ {goal:.1}"));
        table.add_row([
            row.name.clone(),
            format!("{:.0}", row.value),
            format!("{ratio:.1}"),
            goal,
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!("{}\n\n{table}", report.machine)
}
