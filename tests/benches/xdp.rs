//! What each verdict costs: nanoseconds per packet of the real program, by the kernel's own
//! measure (`BPF_PROG_TEST_RUN`), beside a program that drops every packet unseen.
//!
//! Each row is the median of several repeats of at least 120 ms. A run repeats one packet, so that
//! its entries are in the processor's caches. Rows with random sources run a program that first
//! writes one into the packet, beside a bare drop that does the same; the row of answers one that
//! first makes the last answer a SYN again, which takes some 3 ns of its figure.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a bench ends by panicking"
)]

#[path = "xdp/cases.rs"]
mod cases;
#[expect(
    dead_code,
    reason = "the tables of the tests need more kinds of frames"
)]
#[path = "../tests/verdict/frame.rs"]
mod frame;
#[path = "../tests/support/host.rs"]
mod host;
#[expect(dead_code, reason = "the tables of the tests need more")]
#[path = "../tests/support/places.rs"]
mod places;
#[path = "../tests/support/policy.rs"]
mod policy;
#[path = "xdp/rules.rs"]
mod rules;
#[path = "xdp/xdp_filter.rs"]
mod xdp_filter;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use comfy_table::{CellAlignment, Table, presets};
use spectrum_tests::peers::report::{Report, Row, machine, median};
use spectrum_user::{
    config::AppId,
    dataplane::{Filter, counters::Snapshot},
};

use cases::{BLOCKED, CLIENT, Case, EDGE, EDGE_V6, Sources, case, cases};
use frame::{CLIENT_PORT, syn};
use rules::config;
use xdp_filter::XdpFilter;

/// Packets of one repeat: some 150 ms at 100 ns.
const PACKETS: u32 = 1_500_000;
const REPEATS: usize = 7;

/// Of the app whose SYNs are answered.
const CHALLENGED_PORT: u16 = 95;
/// Where the source lies in an untagged IPv4 packet.
const IP_SOURCE: usize = 26;

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

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    host::enter(&[EDGE])?;
    let mut filter = Filter::load_private()?;
    let addresses: [IpAddr; 2] = [EDGE.parse()?, EDGE_V6.parse()?];
    filter.apply(&config(), &addresses, &rules::places())?;
    let crowded = AppId::from_file_stem("crowded");
    filter.maps().prove([(crowded, CLIENT.parse()?)])?;
    let listener = TcpListener::bind((EDGE, CHALLENGED_PORT))?;
    filter.set_terms(Some(&host::TERMS))?;
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
        verify(&mut filter, &case)?;
        // For a minute and a half, in which a busy machine does not get to the last row.
        let marked = filter.mark_listeners(&[listener.local_addr()?])?;
        ensure!(marked == 1, "the listener is not marked");
        ensure_verdict(&mut filter, &case)?;
        let bare = match case.sources {
            Sources::Same | Sources::Answered => bare,
            Sources::Random => bare_random,
        };
        let value = nanoseconds(&mut filter, case.sources.program(), &case.frame)?;
        rows.push(row(&case, value, bare));
    }
    rows.extend(peer_rows(&wanted, bare)?);
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

/// Notes the connections of a case as verified, which they stay for ten seconds.
fn verify(filter: &mut Filter, case: &Case) -> Result<()> {
    let slots = filter.maps().slots()?;
    let slot = slots.get(&AppId::from_file_stem("stateful")).copied();
    let slot = slot.context("no such app")?;
    let edge = format!("{EDGE}:94").parse()?;
    let source = case.frame.get(IP_SOURCE..).and_then(<[u8]>::first_chunk);
    let first = u32::from_be_bytes(*source.context("a short frame")?);
    for number in 0..case.verified {
        let client = SocketAddr::from((Ipv4Addr::from(first + number), CLIENT_PORT));
        filter.maps_mut().verify(client, edge, slot)?;
    }
    Ok(())
}

/// A row that measured another verdict than it names would be worse than none.
fn ensure_verdict(filter: &mut Filter, case: &Case) -> Result<()> {
    let (packets, enough) = match case.sources {
        Sources::Same | Sources::Answered => (1, 1),
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
        "challenged" => totals.challenged.packets,
        reason => totals.dropped.get(reason).map_or(0, |total| total.packets),
    }
}

/// xdp-filter, where it is installed, with as many of the blocked addresses as it has room for.
fn peer_rows(wanted: &str, bare: f64) -> Result<Vec<Row>> {
    let cases = [
        (
            "xdp-filter: drop a blocked address",
            syn(BLOCKED, EDGE, 80),
            XDP_DROP,
        ),
        ("xdp-filter: pass another", syn(CLIENT, EDGE, 80), XDP_PASS),
    ];
    let cases = cases.into_iter().filter(|(name, ..)| name.contains(wanted));
    let cases: Vec<_> = cases.collect();
    if cases.is_empty() {
        return Ok(Vec::new());
    }
    let addresses = config().host.block.into_iter();
    let addresses = addresses.filter_map(|net| match net.addr() {
        IpAddr::V4(address) if net.prefix_len() == 32 => Some(address),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    });
    let mut addresses: Vec<_> = addresses.collect();
    addresses.truncate(XdpFilter::ROOM);
    let Some(mut peer) = XdpFilter::load(&addresses)? else {
        eprintln!("xdp-filter is not installed (package xdp-tools): it is left out");
        return Ok(Vec::new());
    };
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
            Sources::Same | Sources::Answered => "bare XDP_DROP",
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
