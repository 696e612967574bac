//! Countries and autonomous systems: which databases know them, and who may come.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use super::{app::App, host::Host, protection::Mode, rule::Rule};
use crate::geo::{Country, Question};

/// The table `[geo]` of `spectrum.toml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Geo {
    /// Of two that know where an address is, the earlier is right.
    pub databases: Vec<PathBuf>,
    /// How often they are looked at.
    pub refresh: Duration,
}

impl Geo {
    /// How often databases are looked at by default.
    pub const REFRESH: Duration = Duration::from_mins(1);

    /// No database.
    pub const NONE: Self = Self {
        databases: Vec::new(),
        refresh: Self::REFRESH,
    };
}

/// Who may come, by country (`T` is [`Country`]) or autonomous system (its number).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission<T> {
    pub mode: Mode,
    /// If not empty, nobody else. Sorted.
    pub allow: Vec<T>,
    /// Sorted.
    pub block: Vec<T>,
}

impl<T> Admission<T> {
    pub const ALL: Self = Self {
        mode: Mode::Off,
        allow: Vec::new(),
        block: Vec::new(),
    };

    fn asks(&self) -> bool {
        self.mode != Mode::Off && !(self.allow.is_empty() && self.block.is_empty())
    }
}

impl Admission<Country> {
    /// Whom it refuses; `None` if that is nobody.
    pub fn refused(&self) -> Option<Question> {
        let asks = self.asks();
        asks.then(|| Question::refused_countries(&self.allow, &self.block))
    }
}

impl Admission<u32> {
    /// Whom it refuses; `None` if that is nobody.
    pub fn refused(&self) -> Option<Question> {
        let asks = self.asks();
        asks.then(|| Question::refused_asns(&self.allow, &self.block))
    }
}

/// Everything that a configuration asks of where sources are, each once.
pub(crate) fn all_questions<'a>(
    host: &'a Host,
    apps: impl Iterator<Item = &'a App>,
) -> BTreeSet<Question> {
    let mut questions: BTreeSet<Question> = of_rules(&host.rules).collect();
    for app in apps {
        let protection = &app.protection;
        if app.ip_firewall {
            questions.extend(protection.countries.refused());
            questions.extend(protection.asns.refused());
        }
        questions.extend(of_rules(&protection.rules));
    }
    questions
}

fn of_rules(rules: &[Rule]) -> impl Iterator<Item = Question> {
    let used = rules.iter().filter(|rule| rule.mode != Mode::Off);
    let conditions = used.map(|rule| &rule.conditions);
    conditions.flat_map(|asked| asked.asked_country().into_iter().chain(asked.asked_asn()))
}
