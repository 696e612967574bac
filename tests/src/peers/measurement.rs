//! What is measured of each subject, and by which load.

use std::{thread, time::Duration};

use anyhow::Result;

use super::site::{ECHO, SINK, SOURCE, Site, UDP_ECHO};
use crate::{
    interrupt,
    load::{Bulk, ConnectRate, Direction, Idle, PingPong, RoundTrips, UdpPingPong},
};

/// One load, and the metrics that it gives.
pub struct Measurement {
    /// For the command line.
    pub name: &'static str,
    pub metrics: &'static [Metric],
    /// A value for each metric, if the subject has it.
    pub measure: fn(&Site<'_>) -> Result<Vec<Option<f64>>>,
}

/// A row of the report.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    pub name: &'static str,
    pub unit: &'static str,
    pub better: Better,
    /// What the ratio of Spectrum to the better peer should reach.
    pub goal: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    Higher,
    Lower,
}

/// In the order of a run: memory first, while the proxy is as new.
pub const MEASUREMENTS: &[Measurement] = &[
    Measurement {
        name: "idle",
        metrics: &[lower("memory per idle connection", "B")],
        measure: idle,
    },
    Measurement {
        name: "bulk-up-1",
        metrics: &[
            higher("bulk up, 1 flow", "Gbit/s"),
            lower("proxy CPU, bulk up, 1 flow", "s/GB"),
        ],
        measure: |site| bulk(site, Direction::Upload, 1),
    },
    Measurement {
        name: "bulk-down-1",
        metrics: &[
            higher("bulk down, 1 flow", "Gbit/s"),
            lower("proxy CPU, bulk down, 1 flow", "s/GB"),
        ],
        measure: |site| bulk(site, Direction::Download, 1),
    },
    Measurement {
        name: "bulk-up-8",
        metrics: &[
            higher("bulk up, 8 flows", "Gbit/s"),
            lower("proxy CPU, bulk up, 8 flows", "s/GB"),
        ],
        measure: |site| bulk(site, Direction::Upload, 8),
    },
    Measurement {
        name: "bulk-down-8",
        metrics: &[
            higher("bulk down, 8 flows", "Gbit/s"),
            lower("proxy CPU, bulk down, 8 flows", "s/GB"),
        ],
        measure: |site| bulk(site, Direction::Download, 8),
    },
    Measurement {
        name: "ping-pong",
        metrics: &[
            lower("ping-pong 64 B, 1 connection, p50", "µs"),
            lower("ping-pong 64 B, 1 connection, p99", "µs"),
        ],
        measure: |site| Ok(latency(ping_pong(site, 1)?)),
    },
    Measurement {
        name: "requests",
        metrics: &[higher("requests 64 B, 1000 connections", "1/s")],
        measure: |site| Ok(vec![Some(ping_pong(site, 1000)?.per_second)]),
    },
    Measurement {
        name: "connections",
        metrics: &[higher("new connections", "1/s")],
        measure: new_connections,
    },
    Measurement {
        name: "udp-ping-pong",
        metrics: &[
            lower("UDP ping-pong 64 B, 1 flow, p50", "µs"),
            lower("UDP ping-pong 64 B, 1 flow, p99", "µs"),
        ],
        measure: |site| Ok(udp(site, 1, 1)?.map_or(vec![None; 2], latency)),
    },
    Measurement {
        name: "udp-echo",
        metrics: &[higher("UDP echo 64 B, 32 flows", "1/s")],
        measure: |site| Ok(vec![udp(site, 32, 16)?.map(|trips| trips.per_second)]),
    },
];

/// What is measured of those that carry datagrams.
pub const DATAGRAMS: &[Measurement] = &[
    Measurement {
        name: "latency",
        metrics: &[
            lower("UDP ping-pong 64 B, 1 flow, p50", "µs"),
            lower("UDP ping-pong 64 B, 1 flow, p99", "µs"),
        ],
        measure: |site| Ok(udp(site, 1, 1)?.map_or(vec![None; 2], latency)),
    },
    Measurement {
        name: "echo",
        metrics: &[higher("UDP echo 64 B, 32 flows", "1/s")],
        measure: |site| Ok(vec![udp(site, 32, 16)?.map(|trips| trips.per_second)]),
    },
];

const fn higher(name: &'static str, unit: &'static str) -> Metric {
    metric(name, unit, Better::Higher)
}

const fn lower(name: &'static str, unit: &'static str) -> Metric {
    metric(name, unit, Better::Lower)
}

const fn metric(name: &'static str, unit: &'static str, better: Better) -> Metric {
    Metric {
        name,
        unit,
        better,
        goal: None,
    }
}

fn bulk(site: &Site<'_>, direction: Direction, flows: usize) -> Result<Vec<Option<f64>>> {
    let port = match direction {
        Direction::Upload => SINK,
        Direction::Download => SOURCE,
    };
    let before = site.cpu_time()?;
    let report = site.run(Bulk {
        to: site.address(port),
        direction,
        flows,
        span: site.stage.settings.span,
    })?;
    let cpu = site.cpu_time()?.saturating_sub(before);
    let gigabytes = report.total_bytes as f64 / 1e9;
    let cpu_per_gigabyte = cpu.as_secs_f64() / gigabytes;
    Ok(vec![
        Some(report.bits_per_second / 1e9),
        site.is_proxied().then_some(cpu_per_gigabyte),
    ])
}

fn ping_pong(site: &Site<'_>, connections: usize) -> Result<RoundTrips> {
    site.run(PingPong {
        to: site.address(ECHO),
        connections,
        size: 64,
        span: site.stage.settings.span,
    })
}

fn new_connections(site: &Site<'_>) -> Result<Vec<Option<f64>>> {
    let report = site.run(ConnectRate {
        to: site.address(ECHO),
        concurrency: 32,
        span: site.stage.settings.span,
    })?;
    Ok(vec![Some(report.per_second)])
}

fn udp(site: &Site<'_>, flows: usize, window: usize) -> Result<Option<RoundTrips>> {
    if !site.subject.serves_udp() {
        return Ok(None);
    }
    let report = site.run(UdpPingPong {
        to: site.address(UDP_ECHO),
        flows,
        window,
        size: 64,
        span: site.stage.settings.span,
    })?;
    Ok(Some(report))
}

fn latency(trips: RoundTrips) -> Vec<Option<f64>> {
    vec![Some(trips.p50_us), Some(trips.p99_us)]
}

fn idle(site: &Site<'_>) -> Result<Vec<Option<f64>>> {
    if !site.is_proxied() {
        return Ok(vec![None]);
    }
    let connections = site.stage.idle_connections();
    let load = Idle {
        to: site.address(ECHO),
        connections,
    };
    let before = settled(|| site.memory())?;
    let after = site.while_idle(load, || settled(|| site.memory()))?;
    // Closing them is work that does not belong to the next measurement.
    settled(|| site.open_files())?;
    Ok(vec![Some(
        (after as f64 - before as f64) / connections as f64,
    )])
}

/// The first reading that is like the one before it, within a percent.
fn settled(mut read: impl FnMut() -> Result<u64>) -> Result<u64> {
    let mut last = read()?;
    for _ in 0..50 {
        interrupt::check()?;
        thread::sleep(Duration::from_millis(100));
        let next = read()?;
        if next.abs_diff(last) <= last / 100 {
            return Ok(next);
        }
        last = next;
    }
    Ok(last)
}
