//! What each verdict costs: nanoseconds per packet of the real program, by the kernel's own
//! measure (`BPF_PROG_TEST_RUN`), beside a program that drops every packet unseen.
//!
//! Each row is the median of several repeats of at least 120 ms. A run repeats one packet, so that
//! its entries are in the processor's caches: sources that differ from packet to packet cost more.

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

use anyhow::{Result, ensure};
use clap::Parser;
use comfy_table::{CellAlignment, Table, presets};
use spectrum_tests::peers::report::{Report, Row, machine, median};
use spectrum_user::{
    config::{
        Config, Mode, Transport,
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
const BARE: &str = "bare_drop";

const EDGE: &str = "192.0.2.1";
const EDGE_V6: &str = "2001:db8::1";
const CLIENT: &str = "100.64.0.9";
const CLIENT_V6: &str = "2001:db8:c::9";
const BLOCKED: &str = "198.18.0.7";

/// Measure the XDP program beside a bare drop.
#[derive(Parser)]
struct Arguments {
    /// `table` or `json`
    #[arg(short, long, default_value = "table")]
    output: String,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

/// A packet, and the counter in which it must end: `passed`, or the reason of its drop.
struct Case {
    name: &'static str,
    frame: Vec<u8>,
    ends_in: &'static str,
    /// At most this many times a bare drop.
    goal: Option<f64>,
}

fn case(name: &'static str, frame: Vec<u8>, ends_in: &'static str) -> Case {
    Case {
        name,
        frame,
        ends_in,
        goal: None,
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
        case(
            "drop: blocked prefix",
            syn("198.19.7.7", EDGE, 80),
            "blocked",
        ),
        case(
            "drop: blocked IPv6 address",
            syn("2001:db8:bad::7", EDGE_V6, 80),
            "blocked",
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
            "drop: custom rule, the last of 16 in 4 masks",
            udp_from(CLIENT, 1003, EDGE, 9000),
            "custom_rule",
        ),
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

/// Ordinary apps, with 50,000 other addresses and 10,000 other prefixes blocked.
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
    ];
    for app in &mut apps {
        let rules = &mut app.protection;
        match app.name.as_str() {
            "ssh" => rules.allow = nets(&["203.0.113.0/24"]),
            "rated" => {
                rules.packet_rate = rate(Mode::Enforce, 1);
                rules.packet_rate.per_second = 1_000_000_000;
                rules.syn_rate = rate(Mode::Enforce, 100);
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
    for number in 0..60_000_u32 {
        let (length, base) = if number < 50_000 {
            (32, 0x0b00_0000)
        } else {
            (24, 0x2100_0000)
        };
        // Spread, and far from the packets of the cases.
        let ip = std::net::Ipv4Addr::from(base + (number << (32 - length).max(7)));
        let net = ipnet::Ipv4Net::new(ip, length as u8).unwrap().trunc();
        host.block.push(net.into());
    }
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

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut filter = Filter::load_private()?;
    let addresses: [IpAddr; 2] = [EDGE.parse()?, EDGE_V6.parse()?];
    filter.apply(&config(), &addresses)?;

    let bare = nanoseconds(&mut filter, BARE, &syn(CLIENT, EDGE, 80))?;
    let mut rows = Vec::new();
    for case in cases() {
        eprintln!("{}", case.name);
        ensure_verdict(&mut filter, &case)?;
        rows.push(row(
            &case,
            nanoseconds(&mut filter, "spectrum", &case.frame)?,
            bare,
        ));
    }
    rows.extend(peer_rows(bare)?);
    let report = Report {
        machine: machine(),
        rows,
    };
    let text = match arguments.output.as_str() {
        "json" => serde_json::to_string_pretty(&report)?,
        _ => table(&report, bare),
    };
    use std::io::Write as _;
    writeln!(std::io::stdout(), "{text}")?;
    Ok(())
}

/// A row that measured another verdict than it names would be worse than none.
fn ensure_verdict(filter: &mut Filter, case: &Case) -> Result<()> {
    // Twice: the first packet may be within a rate.
    for _ in 0..2 {
        let before = totals(filter)?;
        filter.test_run(&case.frame, 1)?;
        let after = totals(filter)?;
        if ended(&after, case.ends_in) == ended(&before, case.ends_in) + 1 {
            return Ok(());
        }
    }
    ensure!(false, "{} does not end in {}", case.name, case.ends_in);
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
        compared_with: Some("bare XDP_DROP"),
        compared_value: Some(bare),
        ratio: Some(ratio),
        goal: case.goal,
        met: case.goal.map(|goal| ratio <= goal),
    }
}

fn table(report: &Report, bare: f64) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::ASCII_MARKDOWN)
        .set_header(["verdict", "ns/packet", "× bare drop"]);
    table.add_row([
        "bare XDP_DROP".to_owned(),
        format!("{bare:.0}"),
        "1.0".to_owned(),
    ]);
    for row in &report.rows {
        let ratio = row.ratio.unwrap_or_default();
        table.add_row([
            row.name.clone(),
            format!("{:.0}", row.value),
            format!("{ratio:.1}"),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!("{}\n\n{table}", report.machine)
}
