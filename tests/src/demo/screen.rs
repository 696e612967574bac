//! How the demonstration looks: redrawn in place on a terminal, a line per second elsewhere.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal as _, Stdout, Write as _},
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{Outcome, attackers::Kind, services::Origins};
use crate::{
    Lab,
    client::Served,
    daemon::status::{Filter, Status},
    topology::{
        FRONT,
        address::{ATTACKER, CLIENT, EDGE, ORIGIN},
    },
};

/// What there is to show at an instant.
pub(super) struct Frame<'a> {
    pub(super) elapsed: Duration,
    pub(super) status: &'a Status,
    pub(super) attack: Option<Kind>,
    pub(super) served: &'a [(&'static str, Served)],
}

pub(super) struct Screen {
    out: Stdout,
    is_terminal: bool,
    /// Lines of the last frame, to be drawn over.
    lines: usize,
    /// Counters of the last frame, for rates.
    last: Option<(Instant, Filter)>,
}

impl Screen {
    /// Says what runs where.
    pub(super) fn open(lab: &Lab, origins: &Origins, status: &Status) -> Result<Self> {
        let mut out = io::stdout();
        let mode = status.interface(FRONT)?.mode.clone();
        let edge = lab.edge.namespace.name();
        let pins = lab.pin_dir().join(FRONT).join("counters");
        writeln!(out, "The lab")?;
        writeln!(
            out,
            "  client    {CLIENT:<13} HTTP, SSH and UDP clients, IPv4 and IPv6"
        )?;
        writeln!(
            out,
            "  attacker  {ATTACKER:<13} raw frames, spoofed sources"
        )?;
        writeln!(
            out,
            "  edge      {EDGE:<13} spectrum, {mode} XDP on {FRONT}"
        )?;
        writeln!(out, "  origin    {ORIGIN:<13} {}", origins.describe())?;
        writeln!(out, "Look inside:")?;
        writeln!(out, "  nsenter --net=/run/netns/{edge} ip address")?;
        writeln!(out, "  bpftool map dump pinned {}", pins.display())?;
        writeln!(out, "Ctrl-C ends it.\n")?;
        Ok(Self {
            is_terminal: out.is_terminal(),
            out,
            lines: 0,
            last: None,
        })
    }

    /// Time between two frames.
    pub(super) const fn interval(&self) -> Duration {
        Duration::from_millis(if self.is_terminal { 500 } else { 1000 })
    }

    pub(super) fn draw(&mut self, frame: &Frame<'_>) -> Result<()> {
        let now = Instant::now();
        let filter = frame.status.filter();
        let rates = Rates::between(self.last.as_ref(), now, &filter);
        if self.is_terminal {
            let picture = picture(frame, &filter, &rates)?;
            self.erase()?;
            self.out.write_all(picture.as_bytes())?;
            self.lines = picture.lines().count();
        } else {
            writeln!(self.out, "{}", line(frame, &rates)?)?;
        }
        self.out.flush()?;
        self.last = Some((now, filter));
        Ok(())
    }

    /// The summary takes the place of the last frame.
    pub(super) fn close(&mut self, outcome: &Outcome) -> Result<()> {
        self.erase()?;
        write!(self.out, "{outcome}")?;
        Ok(self.out.flush()?)
    }

    fn erase(&mut self) -> Result<()> {
        if self.lines > 0 {
            // Cursor to the start of the frame, and clear all below (ECMA-48 CPL, ED).
            write!(self.out, "\x1b[{}F\x1b[J", self.lines)?;
            self.lines = 0;
        }
        Ok(())
    }
}

/// Packets per second since the last frame.
struct Rates {
    passed: f64,
    /// SYNs that got a cookie.
    answered: f64,
    /// By reason, those that have ever been dropped.
    dropped: Vec<(String, f64)>,
}

impl Rates {
    fn between(last: Option<&(Instant, Filter)>, now: Instant, filter: &Filter) -> Self {
        let seconds = last.map_or(0.0, |(then, _)| (now - *then).as_secs_f64());
        let rate = |new: u64, old: u64| match seconds {
            0.0 => 0.0,
            seconds => new.saturating_sub(old) as f64 / seconds,
        };
        let before = |reason: &str| last.map_or(0, |(_, filter)| filter.dropped(reason));
        let passed_before = last.map_or(0, |(_, filter)| filter.passed.packets);
        let answered_before = last.map_or(0, |(_, filter)| filter.challenged.packets);
        let dropped = |reason: &str| {
            let rate = rate(filter.dropped(reason), before(reason));
            (reason.to_owned(), rate)
        };
        Self {
            passed: rate(filter.passed.packets, passed_before),
            answered: rate(filter.challenged.packets, answered_before),
            dropped: filter.reasons().into_iter().map(dropped).collect(),
        }
    }
}

fn picture(frame: &Frame<'_>, filter: &Filter, rates: &Rates) -> Result<String> {
    let mut text = String::new();
    let attack = frame.attack.map_or("none", Kind::describe);
    let proxy = frame.status.proxy();
    writeln!(text, "time         {} s", frame.elapsed.as_secs())?;
    writeln!(text, "attack       {attack}")?;
    writeln!(
        text,
        "\n{:<24} {:>14} {:>12}",
        "packets", "total", "per second"
    )?;
    let mut row = |name: &str, total: u64, rate: f64| {
        writeln!(
            text,
            "  {name:<22} {:>14} {:>12}",
            grouped(total),
            grouped_rate(rate)
        )
    };
    row("passed", filter.passed.packets, rates.passed)?;
    if filter.challenged.packets > 0 {
        let answered = filter.challenged.packets;
        row("answered with a cookie", answered, rates.answered)?;
    }
    for (reason, rate) in &rates.dropped {
        row(&format!("dropped: {reason}"), filter.dropped(reason), *rate)?;
    }
    writeln!(
        text,
        "\nconnections  {} open, {} so far; {} B from clients, {} B to clients",
        proxy.active,
        grouped(proxy.total),
        grouped(proxy.ingress_bytes),
        grouped(proxy.egress_bytes),
    )?;
    writeln!(text, "clients served")?;
    for (name, served) in frame.served {
        let Served {
            attempts,
            successes,
        } = served;
        writeln!(
            text,
            "  {name:<10} {:>6.1} %  {successes} of {attempts}",
            served.percent()
        )?;
    }
    Ok(text)
}

fn line(frame: &Frame<'_>, rates: &Rates) -> Result<String> {
    let mut text = String::new();
    let attack = frame.attack.map_or("no attack", Kind::name);
    let proxy = frame.status.proxy();
    write!(text, "{:>4} s  {attack:<14}  ", frame.elapsed.as_secs())?;
    write!(text, "passed {}/s", grouped_rate(rates.passed))?;
    if rates.answered > 0.0 {
        write!(text, "  answered {}/s", grouped_rate(rates.answered))?;
    }
    for (reason, rate) in rates.dropped.iter().filter(|(_, rate)| *rate > 0.0) {
        write!(text, "  {reason} {}/s", grouped_rate(*rate))?;
    }
    write!(
        text,
        "  connections {} ({} open)",
        proxy.total, proxy.active
    )?;
    write!(
        text,
        "  bytes {}",
        grouped(proxy.ingress_bytes + proxy.egress_bytes)
    )?;
    for (name, served) in frame.served {
        write!(text, "  {name} {:.1} %", served.percent())?;
    }
    Ok(text)
}

fn grouped_rate(rate: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate of packets"
    )]
    let whole = rate.round() as u64;
    grouped(whole)
}

/// `1234567` as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn digits_are_grouped_by_three() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(grouped(number), text);
        }
    }
}
