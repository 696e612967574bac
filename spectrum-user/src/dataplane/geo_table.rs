//! The table of countries and autonomous systems, built from what databases say and rules ask: pure,
//! so that it can be held against a naive search. Its layout is that of
//! [`spectrum_common::geo`].

use std::collections::{BTreeMap, HashMap, VecDeque};

use spectrum_common::{
    access::{LINE_WORDS, Line},
    geo::{
        Answers, CHILD, CLASSES_PER_LINE, MAX_CLASSES, NODE, QUESTIONS, first_line, header, link,
        node,
    },
};

use crate::geo::{Place, Places, Question, Run};

/// The questions by their numbers.
pub(super) type Numbered = BTreeMap<u32, Question>;

/// More combinations of answers, or more nodes, than the table has numbers for.
#[derive(Debug)]
pub(super) struct TooFine;

/// Slots of a node, and the bits of an address that say which.
const SLOTS: u64 = 256;
const SLOT_BITS: u32 = 8;
/// Bits of an address below an entry of the root.
const BELOW_ROOT: u32 = 48;

/// The addresses from `first` to that of the next run, and their class.
type ClassRun = (u64, u16);

/// The lines of a table in which `questions` are answered for all addresses.
pub(super) fn build(
    places: &Places,
    questions: &Numbered,
    digest: u64,
) -> Result<Vec<Line>, TooFine> {
    let mut classes = Classes::new(places, questions);
    let [v4, v6] = places.runs();
    let v4 = classes.runs(v4)?;
    let v6 = classes.runs(v6)?;
    let mut table = Builder::new(digest, questions, &classes);
    table.root(first_line::ROOT_V4, &v4)?;
    table.root(first_line::ROOT_V6, &v6)?;
    Ok(table.lines)
}

/// The classes: which answers belong together.
struct Classes<'a> {
    places: &'a Places,
    questions: &'a Numbered,
    answers: Vec<Answers>,
    numbers: HashMap<Answers, u16>,
    of_places: HashMap<Place, u16>,
}

impl<'a> Classes<'a> {
    fn new(places: &'a Places, questions: &'a Numbered) -> Self {
        Self {
            places,
            questions,
            answers: Vec::new(),
            numbers: HashMap::new(),
            of_places: HashMap::new(),
        }
    }

    fn of(&mut self, place: Place) -> Result<u16, TooFine> {
        if let Some(class) = self.of_places.get(&place) {
            return Ok(*class);
        }
        let mut answers = Answers::default();
        for (&number, question) in self.questions {
            let word = answers.words.get_mut((number / u64::BITS) as usize);
            if let Some(word) = word.filter(|_| self.places.answer(question, place)) {
                *word |= 1 << (number % u64::BITS);
            }
        }
        let class = match self.numbers.get(&answers) {
            Some(class) => *class,
            None => {
                let class = below(self.answers.len(), MAX_CLASSES)?;
                self.answers.push(answers);
                self.numbers.insert(answers, class);
                class
            }
        };
        self.of_places.insert(place, class);
        Ok(class)
    }

    /// The runs of one family, neighbours of a class made one. The first begins at 0.
    fn runs(&mut self, runs: &[Run]) -> Result<Vec<ClassRun>, TooFine> {
        let mut merged = vec![(0, self.of(Place::default())?)];
        for run in runs {
            let class = self.of(run.place)?;
            match merged.last_mut() {
                Some((first, last)) if *first == run.first => *last = class,
                Some((_, last)) if *last == class => {}
                _ => merged.push((run.first, class)),
            }
        }
        Ok(merged)
    }
}

/// A node that has its line, and is not filled yet.
struct Open<'a> {
    line: usize,
    /// Its first address.
    base: u64,
    /// Bits of an address that tell its slots from each other, and what is below.
    bits: u32,
    /// From the run in which it begins.
    runs: &'a [ClassRun],
}

struct Builder {
    lines: Vec<Line>,
}

impl Builder {
    fn new(digest: u64, questions: &Numbered, classes: &Classes<'_>) -> Self {
        let of_classes = classes.answers.len().div_ceil(CLASSES_PER_LINE as usize);
        let lines = vec![Line::default(); first_line::CLASSES as usize + of_classes];
        let mut table = Self { lines };
        table.set(first_line::HEADER as usize, header::DIGEST, digest);
        table.set(
            first_line::HEADER as usize,
            header::CLASSES,
            classes.answers.len() as u64,
        );
        for (&number, question) in questions {
            debug_assert!(number < QUESTIONS);
            let first = first_line::IDENTITIES as usize;
            table.set(first, number as usize, question.identity());
        }
        for (class, answers) in classes.answers.iter().enumerate() {
            let [low, high] = answers.words;
            table.set(first_line::CLASSES as usize, 2 * class, low);
            table.set(first_line::CLASSES as usize, 2 * class + 1, high);
        }
        table
    }

    /// Sets a word of the part that begins with line `first`.
    fn set(&mut self, first: usize, word: usize, value: u64) {
        let line = self.lines.get_mut(first + word / LINE_WORDS);
        if let Some(place) = line.and_then(|line| line.words.get_mut(word % LINE_WORDS)) {
            *place = value;
        }
    }

    /// Fills a root and all that is below it.
    fn root(&mut self, first: u32, runs: &[ClassRun]) -> Result<(), TooFine> {
        let mut open = VecDeque::new();
        let mut entries = Slots::new(0, BELOW_ROOT, runs);
        for pair in 0..1 << 15 {
            let mut word = 0;
            for half in 0..2 {
                let entry = match entries.next_slot() {
                    Slot::Class(class) => u32::from(class),
                    Slot::Divided(base, runs) => {
                        let line = self.allot(1)?;
                        open.push_back(Open {
                            line,
                            base,
                            bits: BELOW_ROOT,
                            runs,
                        });
                        NODE | number(line)?
                    }
                };
                word |= u64::from(entry) << (half * u32::BITS);
            }
            self.set(first as usize, pair, word);
        }
        while let Some(node) = open.pop_front() {
            self.fill(&node, &mut open)?;
        }
        Ok(())
    }

    /// Writes a node, and notes the nodes below it.
    fn fill<'a>(&mut self, place: &Open<'a>, open: &mut VecDeque<Open<'a>>) -> Result<(), TooFine> {
        let bits_below = place.bits - SLOT_BITS;
        let mut slots = Slots::new(place.base, bits_below, place.runs);
        let mut begins = [0_u64; 4];
        let mut values: Vec<u16> = Vec::new();
        let mut children = Vec::new();
        for slot in 0..SLOTS {
            let value = match slots.next_slot() {
                Slot::Class(class) if values.last() == Some(&class) => continue,
                Slot::Class(class) => class,
                Slot::Divided(base, runs) => {
                    children.push((base, runs));
                    CHILD | below::<u16>(children.len() - 1, MAX_CLASSES)?
                }
            };
            if let Some(word) = begins.get_mut((slot / 64) as usize) {
                *word |= 1 << (slot % 64);
            }
            values.push(value);
        }
        let spilled = if values.len() > node::INLINE {
            values.len().div_ceil(node::PER_LINE)
        } else {
            0
        };
        let base = self.allot(spilled + children.len())?;
        for (word, bits) in begins.iter().enumerate() {
            self.set(place.line, node::BITS + word, *bits);
        }
        let mut links = spilled as u64 | u64::from(number(base)?) << link::BASE_SHIFT;
        let mut ones = 0;
        for (word, bits) in (1..).zip(begins.iter().take(3)) {
            ones += u64::from(bits.count_ones());
            links |= ones << (8 * word);
        }
        self.set(place.line, node::LINK, links);
        for (word, values) in values.chunks(4).enumerate() {
            let packed = values.iter().rev();
            let packed = packed.fold(0, |word, value| word << 16 | u64::from(*value));
            if spilled == 0 {
                self.set(place.line, node::VALUES + word, packed);
            } else {
                self.set(base, word, packed);
            }
        }
        for (line, (base, runs)) in (base + spilled..).zip(children) {
            open.push_back(Open {
                line,
                base,
                bits: bits_below,
                runs,
            });
        }
        Ok(())
    }

    /// The first of so many new lines.
    fn allot(&mut self, count: usize) -> Result<usize, TooFine> {
        let first = self.lines.len();
        number(first + count)?;
        self.lines.resize(first + count, Line::default());
        Ok(first)
    }
}

/// A line as entries refer to it.
fn number(line: usize) -> Result<u32, TooFine> {
    below(line, NODE as usize)
}

fn below<T: TryFrom<usize>>(number: usize, limit: usize) -> Result<T, TooFine> {
    let number = Some(number).filter(|number| *number < limit);
    number
        .and_then(|number| number.try_into().ok())
        .ok_or(TooFine)
}

/// What is in a slot.
enum Slot<'a> {
    /// One class throughout.
    Class(u16),
    /// More of them: its first address, and the runs from the one in which it begins.
    Divided(u64, &'a [ClassRun]),
}

/// Equal parts of the addresses from a first one on, one after the other.
struct Slots<'a> {
    base: u64,
    /// Bits of an address within a slot.
    bits: u32,
    /// From the run that holds at `base`.
    runs: &'a [ClassRun],
}

impl<'a> Slots<'a> {
    fn new(base: u64, bits: u32, runs: &'a [ClassRun]) -> Self {
        Self { base, bits, runs }
    }

    fn next_slot(&mut self) -> Slot<'a> {
        let base = self.base;
        let last = base | ((1 << self.bits) - 1);
        let runs = self.runs;
        let ends_within = |runs: &[ClassRun]| runs.get(1).is_some_and(|(first, _)| *first <= last);
        let slot = match runs.first() {
            Some((_, class)) if !ends_within(runs) => Slot::Class(*class),
            _ => Slot::Divided(base, runs),
        };
        while ends_within(self.runs) {
            self.runs = self.runs.get(1..).unwrap_or_default();
        }
        // The next slot may begin with the next run.
        self.base = last.wrapping_add(1);
        let begins = self
            .runs
            .get(1)
            .is_some_and(|(first, _)| *first == self.base);
        if begins {
            self.runs = self.runs.get(1..).unwrap_or_default();
        }
        slot
    }
}

#[cfg(test)]
#[path = "geo_table_test.rs"]
mod geo_table_test;
