//! Rows for programs, and a table for people.

use std::collections::BTreeMap;

use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};

use super::{Attack, Defence, survival::Survival};
use crate::peers::report::{Report, Row, machine, median};

/// What came of each attack on each defence, in every repeat.
#[derive(Debug, Default)]
pub struct Results {
    survivals: BTreeMap<(Attack, Defence), Vec<Survival>>,
}

impl Results {
    pub fn add(&mut self, attack: Attack, defence: Defence, survival: Survival) {
        let survivals = self.survivals.entry((attack, defence)).or_default();
        survivals.push(survival);
    }

    /// The median of the repeats.
    fn median(&self, metric: &Metric, attack: Attack, defence: Defence) -> Option<f64> {
        let survivals = self.survivals.get(&(attack, defence))?;
        let figures: Vec<f64> = survivals.iter().filter_map(metric.read).collect();
        median(&figures)
    }
}

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

const CONNECTIONS: Metric = Metric {
    name: "connections served",
    unit: "%",
    goal: Some(CONNECTIONS_GOAL),
    is_more_better: true,
    read: |survival| Some(survival.tally.connections.percent()),
};

const DATAGRAMS: Metric = Metric {
    name: "datagrams served",
    unit: "%",
    goal: Some(DATAGRAMS_GOAL),
    is_more_better: true,
    read: |survival| Some(survival.tally.datagrams.percent()),
};

const CONNECT_P50: Metric = Metric {
    name: "connect p50",
    unit: "ms",
    goal: None,
    is_more_better: false,
    read: |survival| survival.connect_ms(0.5),
};

const CONNECT_P99: Metric = Metric {
    name: "connect p99",
    unit: "ms",
    goal: None,
    is_more_better: false,
    read: |survival| survival.connect_ms(0.99),
};

const PACKETS: Metric = Metric {
    name: "packets absorbed",
    unit: "1000/s",
    goal: None,
    is_more_better: true,
    read: |survival| Some(survival.packets_per_second / 1e3),
};

const CPU: Metric = Metric {
    name: "CPU of the clients' core",
    unit: "%",
    goal: None,
    is_more_better: false,
    read: |survival| Some(survival.cpu),
};

const METRICS: [&Metric; 6] = [
    &CONNECTIONS,
    &DATAGRAMS,
    &CONNECT_P50,
    &CONNECT_P99,
    &PACKETS,
    &CPU,
];

/// Spectrum's figures beside the best of the others'.
pub fn report(results: &Results) -> Report {
    let cases = results.survivals.keys();
    let attacks = cases.filter(|(_, defence)| *defence == Defence::Spectrum);
    let rows = attacks.flat_map(|(attack, _)| {
        let row = |metric: &&Metric| row(metric, *attack, results);
        METRICS.iter().filter_map(row).collect::<Vec<_>>()
    });
    Report {
        machine: machine(),
        rows: rows.collect(),
    }
}

fn row(metric: &Metric, attack: Attack, results: &Results) -> Option<Row> {
    let value = results.median(metric, attack, Defence::Spectrum)?;
    let others = Defence::ALL
        .into_iter()
        .filter(|defence| *defence != Defence::Spectrum);
    let figures =
        others.filter_map(|defence| Some((defence, results.median(metric, attack, defence)?)));
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
    for &(attack, defence) in results.survivals.keys() {
        let figure = |metric, decimals| match results.median(metric, attack, defence) {
            Some(figure) => format!("{figure:.decimals$}"),
            None => "–".to_owned(),
        };
        table.add_row([
            attack.name().to_owned(),
            defence.name().to_owned(),
            format!("{} %", figure(&CONNECTIONS, 1)),
            format!("{} %", figure(&DATAGRAMS, 1)),
            format!(
                "{} / {} ms",
                figure(&CONNECT_P50, 1),
                figure(&CONNECT_P99, 1)
            ),
            figure(&PACKETS, 0),
            format!("{} %", figure(&CPU, 0)),
        ]);
    }
    format!("{}\n\n{table}", machine())
}
