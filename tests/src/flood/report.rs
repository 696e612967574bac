//! Rows for programs, and a table for people.

use std::collections::BTreeMap;

use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};

use super::{Attack, Defence, survival::Survival};
use crate::{
    client::Served,
    peers::report::{Report, Row, machine},
};

/// What came of each attack on each defence.
pub type Results = BTreeMap<(Attack, Defence), Survival>;

/// Percent of the connections that must be served, whatever comes.
const CONNECTIONS_GOAL: f64 = 100.0;
/// Percent of the datagrams of known sources.
const DATAGRAMS_GOAL: f64 = 99.0;

/// A figure of a [`Survival`].
struct Metric {
    name: &'static str,
    unit: &'static str,
    /// What Spectrum should reach.
    goal: Option<f64>,
    is_more_better: bool,
    read: fn(&Survival) -> Option<f64>,
}

const METRICS: [Metric; 6] = [
    Metric {
        name: "connections served",
        unit: "%",
        goal: Some(CONNECTIONS_GOAL),
        is_more_better: true,
        read: |survival| Some(survival.tally.connections.percent()),
    },
    Metric {
        name: "datagrams served",
        unit: "%",
        goal: Some(DATAGRAMS_GOAL),
        is_more_better: true,
        read: |survival| Some(survival.tally.datagrams.percent()),
    },
    Metric {
        name: "connect p50",
        unit: "ms",
        goal: None,
        is_more_better: false,
        read: |survival| survival.connect_ms(0.5),
    },
    Metric {
        name: "connect p99",
        unit: "ms",
        goal: None,
        is_more_better: false,
        read: |survival| survival.connect_ms(0.99),
    },
    Metric {
        name: "packets absorbed",
        unit: "1000/s",
        goal: None,
        is_more_better: true,
        read: |survival| Some(survival.packets_per_second / 1e3),
    },
    Metric {
        name: "CPU of the clients' core",
        unit: "%",
        goal: None,
        is_more_better: false,
        read: |survival| Some(survival.cpu),
    },
];

/// Spectrum's figures beside the best of the others'.
pub fn report(results: &Results) -> Report {
    let attacks = results
        .iter()
        .filter(|((_, defence), _)| *defence == Defence::Spectrum);
    let rows = attacks.flat_map(|((attack, _), survival)| {
        let row = |metric: &Metric| row(metric, *attack, survival, results);
        METRICS.iter().filter_map(row).collect::<Vec<_>>()
    });
    Report {
        machine: machine(),
        rows: rows.collect(),
    }
}

fn row(metric: &Metric, attack: Attack, survival: &Survival, results: &Results) -> Option<Row> {
    let value = (metric.read)(survival)?;
    let others = Defence::ALL
        .into_iter()
        .filter(|defence| *defence != Defence::Spectrum);
    let figures = others.filter_map(|defence| {
        let survival = results.get(&(attack, defence))?;
        Some((defence, (metric.read)(survival)?))
    });
    let best = figures.reduce(|best, next| {
        let is_better = if metric.is_more_better {
            next.1 > best.1
        } else {
            next.1 < best.1
        };
        if is_better { next } else { best }
    });
    Some(Row {
        name: format!("{}: {}", attack.name(), metric.name),
        unit: metric.unit,
        value,
        compared_with: best.map(|(defence, _)| defence.name()),
        compared_value: best.map(|(_, figure)| figure),
        ratio: best.map(|(_, figure)| value / figure),
        goal: metric.goal,
        met: metric.goal.map(|goal| value >= goal),
    })
}

/// In Markdown: a row for each attack and defence.
pub fn table(results: &Results) -> String {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header([
        "attack",
        "defence",
        "TCP served",
        "UDP served",
        "connect p50 / p99",
        "1000 packets/s",
        "CPU",
    ]);
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for ((attack, defence), survival) in results {
        let percent = |served: Served| format!("{:.1} %", served.percent());
        let latency = |share| match survival.connect_ms(share) {
            Some(ms) => format!("{ms:.1}"),
            None => "–".to_owned(),
        };
        table.add_row([
            attack.name().to_owned(),
            defence.name().to_owned(),
            percent(survival.tally.connections),
            percent(survival.tally.datagrams),
            format!("{} / {} ms", latency(0.5), latency(0.99)),
            format!("{:.0}", survival.packets_per_second / 1e3),
            format!("{:.0} %", survival.cpu),
        ]);
    }
    format!("{}\n\n{table}", machine())
}
