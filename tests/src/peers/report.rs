//! What comes out of a run: medians, and how Spectrum compares with the better peer.

use std::{collections::BTreeMap, fs, thread};

use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};
use serde::Serialize;

use super::{
    Subject,
    measurement::{Better, Metric},
};

/// Every value that was measured.
#[derive(Debug, Default)]
pub struct Results {
    values: BTreeMap<(&'static str, Subject), Vec<f64>>,
}

impl Results {
    pub fn add(&mut self, metric: &Metric, subject: Subject, value: f64) {
        let values = self.values.entry((metric.name, subject)).or_default();
        values.push(value);
    }

    /// The median of the repeats.
    pub fn median(&self, metric: &Metric, subject: Subject) -> Option<f64> {
        median(self.values.get(&(metric.name, subject))?)
    }

    /// The peer with the best median, and that.
    fn best_peer(&self, metric: &Metric) -> Option<(Subject, f64)> {
        let peers = Subject::ALL.into_iter().filter(|subject| subject.is_peer());
        let medians = peers.filter_map(|peer| Some((peer, self.median(metric, peer)?)));
        medians.reduce(|best, next| match metric.better {
            Better::Higher if next.1 > best.1 => next,
            Better::Lower if next.1 < best.1 => next,
            Better::Higher | Better::Lower => best,
        })
    }
}

pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = *sorted.get(middle - 1)?;
    Some(f64::midpoint(lower, upper))
}

/// A report as JSON.
#[derive(Debug, Serialize)]
pub struct Report {
    pub machine: String,
    pub rows: Vec<Row>,
}

#[derive(Debug, PartialEq, Serialize)]
pub struct Row {
    pub name: String,
    pub unit: &'static str,
    pub value: f64,
    pub compared_with: Option<&'static str>,
    pub compared_value: Option<f64>,
    /// Value to compared value.
    pub ratio: Option<f64>,
    /// What the ratio should reach, if there is a goal.
    pub goal: Option<f64>,
    pub met: Option<bool>,
}

impl Report {
    /// For each metric a row of each subject, beside the one that it is compared with.
    pub fn of_pairs(
        metrics: &[Metric],
        results: &Results,
        pairs: &[(Subject, Option<Subject>)],
    ) -> Self {
        let rows = metrics.iter().flat_map(|metric| {
            let rows = pairs.iter();
            rows.filter_map(|(subject, other)| paired_row(metric, results, *subject, *other))
        });
        Self {
            machine: machine(),
            rows: rows.collect(),
        }
    }

    /// For each metric a row of Spectrum beside the better peer, and one without any proxy.
    pub fn new(metrics: &[Metric], results: &Results) -> Self {
        let rows = metrics.iter().flat_map(|metric| {
            let compared = compared_row(metric, results);
            compared.into_iter().chain(direct_row(metric, results))
        });
        Self {
            machine: machine(),
            rows: rows.collect(),
        }
    }
}

fn compared_row(metric: &Metric, results: &Results) -> Option<Row> {
    let value = results.median(metric, Subject::Spectrum)?;
    let best = results.best_peer(metric);
    let ratio = best.map(|(_, compared)| value / compared);
    Some(Row {
        name: metric.name.to_owned(),
        unit: metric.unit,
        value,
        compared_with: best.map(|(peer, _)| peer.name()),
        compared_value: best.map(|(_, compared)| compared),
        ratio,
        goal: metric.goal,
        met: metric
            .goal
            .zip(ratio)
            .map(|(goal, ratio)| match metric.better {
                Better::Higher => ratio >= goal,
                Better::Lower => ratio <= goal,
            }),
    })
}

fn paired_row(
    metric: &Metric,
    results: &Results,
    subject: Subject,
    other: Option<Subject>,
) -> Option<Row> {
    let value = results.median(metric, subject)?;
    let compared = other.and_then(|other| Some((other, results.median(metric, other)?)));
    Some(Row {
        name: format!("{} ({})", metric.name, subject.name()),
        unit: metric.unit,
        value,
        compared_with: compared.map(|(other, _)| other.name()),
        compared_value: compared.map(|(_, compared)| compared),
        ratio: compared.map(|(_, compared)| value / compared),
        goal: None,
        met: None,
    })
}

fn direct_row(metric: &Metric, results: &Results) -> Option<Row> {
    Some(Row {
        name: format!("{} (direct)", metric.name),
        unit: metric.unit,
        value: results.median(metric, Subject::Direct)?,
        compared_with: None,
        compared_value: None,
        ratio: None,
        goal: None,
        met: None,
    })
}

/// Some subjects side by side, for people, in Markdown.
pub fn table_of(metrics: &[Metric], results: &Results, subjects: &[Subject]) -> String {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    let names = subjects.iter().map(|subject| subject.name());
    table.set_header(["", "unit"].into_iter().chain(names));
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for metric in metrics {
        let medians = subjects.iter();
        let medians = medians.map(|subject| figure(results.median(metric, *subject)));
        table.add_row(head(metric).into_iter().chain(medians));
    }
    format!("{table}\n\n↑ higher is better, ↓ lower")
}

/// What a row begins with.
fn head(metric: &Metric) -> [String; 2] {
    let better = match metric.better {
        Better::Higher => '↑',
        Better::Lower => '↓',
    };
    [metric.name.to_owned(), format!("{} {better}", metric.unit)]
}

/// The same for people, in Markdown: every subject, and the ratio to the better peer.
pub fn table(metrics: &[Metric], results: &Results) -> String {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    let subjects = Subject::ALL.map(Subject::name);
    table.set_header(["", "unit"].into_iter().chain(subjects).chain(["ratio"]));
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for metric in metrics {
        let medians = Subject::ALL.map(|subject| figure(results.median(metric, subject)));
        let ratio = compared_row(metric, results).and_then(|row| row.ratio);
        let ratio = ratio.map_or(String::new(), |ratio| format!("{ratio:.2}"));
        table.add_row(head(metric).into_iter().chain(medians).chain([ratio]));
    }
    format!("{table}\n\n↑ higher is better, ↓ lower; ratio: spectrum to the better peer")
}

/// Three digits that mean something.
fn figure(value: Option<f64>) -> String {
    match value {
        None => "–".to_owned(),
        Some(value) if value.abs() >= 100.0 => format!("{value:.0}"),
        Some(value) if value.abs() >= 10.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.2}"),
    }
}

/// Processor, number of CPUs and kernel of this machine.
pub fn machine() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown processor", |(_, name)| name);
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{processor}, {cpus} CPUs, Linux {}", kernel.trim())
}

#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]
mod tests {
    use super::*;

    const SPEED: Metric = Metric {
        name: "speed",
        unit: "Gbit/s",
        better: Better::Higher,
        goal: Some(1.15),
    };
    const COST: Metric = Metric {
        name: "cost",
        unit: "s/GB",
        better: Better::Lower,
        goal: None,
    };

    fn results(metric: &Metric, values: &[(Subject, &[f64])]) -> Results {
        let mut results = Results::default();
        for (subject, values) in values {
            for value in *values {
                results.add(metric, *subject, *value);
            }
        }
        results
    }

    #[test]
    fn a_median_is_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0]), Some(5.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[100.0, 1.0, 3.0, 2.0]), Some(2.5));
    }

    #[test]
    fn the_better_peer_is_compared_with_even_if_another_had_the_best_repeat() {
        let results = results(
            &SPEED,
            &[
                (Subject::Direct, &[40.0]),
                (Subject::Spectrum, &[18.0, 17.0, 1.0]),
                (Subject::Haproxy, &[7.0, 7.0, 30.0]),
                (Subject::NginxTuned, &[15.0, 15.0, 16.0]),
            ],
        );
        let rows = Report::new(&[SPEED], &results).rows;
        let row = &rows[0];
        assert_eq!((row.value, row.compared_with), (17.0, Some("nginx tuned")));
        assert_eq!(row.compared_value, Some(15.0));
        assert_eq!(row.ratio, Some(17.0 / 15.0));
        assert_eq!((row.goal, row.met), (Some(1.15), Some(false)));
        assert_eq!(
            (rows[1].name.as_str(), rows[1].value),
            ("speed (direct)", 40.0)
        );
        assert_eq!(rows.len(), 2);
    }

    #[test]
    fn less_is_better_where_it_costs() {
        let results = results(
            &COST,
            &[
                (Subject::Spectrum, &[0.2]),
                (Subject::HaproxyTuned, &[0.25]),
                (Subject::Nginx, &[0.5]),
            ],
        );
        let row = compared_row(&COST, &results).unwrap();
        assert_eq!(row.compared_with, Some("haproxy tuned"));
        assert_eq!(row.ratio, Some(0.8));
        assert_eq!((row.goal, row.met), (None, None));
        let met = |goal| {
            let metric = Metric {
                goal: Some(goal),
                ..COST
            };
            compared_row(&metric, &results).unwrap().met
        };
        assert_eq!((met(0.8), met(0.75)), (Some(true), Some(false)));
    }

    #[test]
    fn json_has_the_documented_fields_and_null_where_nothing_is_compared() {
        let results = results(&COST, &[(Subject::Direct, &[2.0])]);
        let rows = Report::new(&[COST], &results).rows;
        let json = serde_json::to_value(&rows).unwrap();
        let expected = serde_json::json!([{
            "name": "cost (direct)", "unit": "s/GB", "value": 2.0,
            "compared_with": null, "compared_value": null, "ratio": null,
            "goal": null, "met": null,
        }]);
        assert_eq!(json, expected);
    }

    #[test]
    fn the_table_has_every_subject_and_a_dash_for_what_it_has_not() {
        let results = results(
            &COST,
            &[(Subject::Spectrum, &[0.2]), (Subject::Nginx, &[0.4])],
        );
        let table = table(&[COST], &results);
        let row = table.lines().find(|line| line.contains("cost")).unwrap();
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        assert_eq!(
            cells[1..10],
            ["cost", "s/GB ↓", "–", "0.20", "–", "–", "0.40", "–", "0.50"]
        );
    }
}
