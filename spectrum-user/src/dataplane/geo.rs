//! Countries and autonomous systems: which questions the table of places answers, under which
//! numbers, and the table itself.
//!
//! A question keeps its number for as long as anything asks it, and a number is not given to another
//! while something in the maps may still ask the one before: whatever a packet meets first, the new
//! table or the new apps and rules, it gets answers to its own questions.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::Ordering,
};

use spectrum_common::{
    access::{LINE_WORDS, Line},
    address::Address,
    app::mode,
    geo::{ANYWHERE, Answers, MAX_CLASSES, MAX_QUESTIONS, QUESTIONS, first_line, header},
    maps as names,
};
use spectrum_ebpf::geo;

use super::{
    error::Error,
    geo_table::{self, Numbered},
    maps::Maps,
    plan::Plan,
    table_map::{self, SharedTable},
};
use crate::geo::{Places, Question};

/// What has to be known of the maps to number the questions of a plan and to build their table.
pub(super) struct Known {
    /// Who the questions are that the table answers or that may be asked, and their numbers.
    numbered: BTreeMap<u64, u32>,
    /// The numbers that apps and rules ask for.
    in_use: BTreeSet<u32>,
    digest: u64,
    /// What apps and rules may ask, as far as this process knows.
    asked: Numbered,
}

impl Known {
    pub(super) fn of(maps: &Maps, asked: &Numbered) -> Result<Self, Error> {
        let digest = maps.geo.words().get(header::DIGEST);
        let asked_by_us = asked.iter();
        let asked_by_us = asked_by_us.map(|(number, question)| (question.identity(), *number));
        Ok(Self {
            numbered: identities(maps).chain(asked_by_us).collect(),
            in_use: in_use(maps)?,
            digest: digest.map_or(0, |word| word.load(Ordering::Relaxed)),
            asked: asked.clone(),
        })
    }

    /// A number for each question: its own if it has one already, or one that nothing asks.
    fn numbers(&self, questions: &[Question]) -> Result<Vec<u32>, Error> {
        let known = |question: &Question| self.numbered.get(&question.identity()).copied();
        let known: Vec<Option<u32>> = questions.iter().map(known).collect();
        let mut taken: BTreeSet<u32> = known.iter().flatten().copied().collect();
        taken.extend(&self.in_use);
        taken.extend(self.asked.keys());
        let mut free = (ANYWHERE + 1..QUESTIONS).filter(|number| !taken.contains(number));
        let numbers = known
            .into_iter()
            .map(|known| known.or_else(|| free.next()).ok_or_else(too_many_questions));
        numbers.collect()
    }
}

/// The answers to the questions of a plan, worked out ahead of their use.
pub(super) struct Draft {
    /// What the plan asks.
    pub(super) asked: Numbered,
    /// `None`: the table in use answers it.
    table: Option<SharedTable>,
}

impl Draft {
    /// The table answers what the plan asks, beside what the maps still ask; the plan asks it by the
    /// numbers of the table from then on.
    pub(super) fn new(plan: &mut Plan, known: Known) -> Result<Self, Error> {
        let numbers = known.numbers(&plan.questions)?;
        let asked = plan.take_questions(&numbers);
        let digest = digest(&plan.places, &asked);
        let mut table = None;
        if digest != known.digest {
            let mut answered = asked.clone();
            if !answered.is_empty() {
                for (number, question) in known.asked {
                    answered.entry(number).or_insert(question);
                }
            }
            table = Some(built(&plan.places, &answered, digest)?);
        }
        Ok(Self { asked, table })
    }

    /// Has the table answer what was worked out; says whether it is another one.
    pub(super) fn replace(&mut self, maps: &mut Maps) -> Result<bool, Error> {
        let Some(table) = self.table.take() else {
            return Ok(false);
        };
        maps.geo.replace(table)?;
        Ok(true)
    }
}

pub(super) fn too_many_questions() -> Error {
    Error::Full {
        map: names::GEO,
        capacity: MAX_QUESTIONS,
        remedy: "let more apps and rules ask for the same countries and autonomous systems",
    }
}

fn built(places: &Places, questions: &Numbered, digest: u64) -> Result<SharedTable, Error> {
    if questions.is_empty() {
        return SharedTable::create(table_map::GEO, 1);
    }
    let lines = geo_table::build(places, questions, digest).map_err(|_too_fine| Error::Full {
        map: names::GEO,
        capacity: MAX_CLASSES,
        remedy: "ask for fewer different lists of autonomous systems",
    })?;
    let table = SharedTable::create(table_map::GEO, lines.len())?;
    let words = lines.iter().flat_map(|line| line.words);
    for (place, word) in table.words().iter().zip(words) {
        place.store(word, Ordering::Relaxed);
    }
    Ok(table)
}

/// The numbers of the questions that the apps and rules in the maps ask.
fn in_use(maps: &Maps) -> Result<BTreeSet<u32>, Error> {
    let mut numbers = BTreeSet::new();
    for (_, app) in maps.apps_in_use()? {
        let asked = [
            (app.countries, app.refused_countries),
            (app.asns, app.refused_asns),
        ];
        let asked = asked.into_iter().filter(|(mode, _)| *mode != mode::OFF);
        numbers.extend(asked.map(|(_, number)| number));
    }
    for installed in maps.signatures()? {
        let rule = installed.signature.rule;
        numbers.extend([rule.countries, rule.asns].map(u32::from));
    }
    Ok(numbers)
}

/// The questions that the table in use answers: who they are, and their numbers.
fn identities(maps: &Maps) -> impl Iterator<Item = (u64, u32)> + '_ {
    let first = first_line::IDENTITIES as usize * LINE_WORDS;
    let words = maps.geo.words().get(first..first + QUESTIONS as usize);
    let words = words.unwrap_or_default().iter();
    let words = words.map(|word| word.load(Ordering::Relaxed)).zip(0..);
    words.filter(|(identity, _)| *identity != 0)
}

/// Tells these answers from others; 0 if there are none.
fn digest(places: &Places, asked: &Numbered) -> u64 {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};

    if asked.is_empty() {
        return 0;
    }
    let mut hasher = DefaultHasher::new();
    places.digest().hash(&mut hasher);
    for (number, question) in asked {
        (number, question.identity()).hash(&mut hasher);
    }
    hasher.finish().max(1)
}

impl Maps {
    /// The answers about a source, as the program finds them.
    pub(super) fn answers_about(&self, source: &Address) -> Answers {
        geo::find(self, source)
    }
}

impl geo::Places for Maps {
    fn line(&self, index: u32) -> Option<impl std::borrow::Borrow<Line>> {
        let first = index as usize * LINE_WORDS;
        let words = self.geo.words().get(first..)?.first_chunk()?;
        Some(Line {
            words: words.each_ref().map(|word| word.load(Ordering::Relaxed)),
        })
    }
}
