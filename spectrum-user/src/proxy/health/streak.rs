//! Checks in a row, and what they say: pure.

/// What is thought of an origin after its checks so far.
#[derive(Debug)]
pub(super) struct Streak {
    rise: u32,
    fall: u32,
    /// `None` before the first check of all, which decides alone: there is nothing to weigh it against.
    is_up: Option<bool>,
    passed: bool,
    in_a_row: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    None,
    Down,
    Up,
}

impl Streak {
    /// `is_up` is what earlier checks have found.
    pub(super) fn new(rise: u32, fall: u32, is_up: Option<bool>) -> Self {
        Self {
            rise,
            fall,
            is_up,
            passed: true,
            in_a_row: 0,
        }
    }

    pub(super) fn note(&mut self, passed: bool) -> Change {
        if passed != self.passed {
            self.in_a_row = 0;
        }
        self.passed = passed;
        self.in_a_row = self.in_a_row.saturating_add(1);
        let needed = if passed { self.rise } else { self.fall };
        match self.is_up {
            // An origin is taken for good until then, so that a first success changes nothing.
            None => {
                self.is_up = Some(passed);
                if passed { Change::None } else { Change::Down }
            }
            Some(is_up) if is_up != passed && self.in_a_row >= needed => {
                self.is_up = Some(passed);
                if passed { Change::Up } else { Change::Down }
            }
            Some(_) => Change::None,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.is_up != Some(false)
    }

    /// How many checks have ended as the last one.
    pub(super) fn in_a_row(&self) -> u32 {
        self.in_a_row
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `+` passes, `-` fails; what has changed after each: `U`, `D` or `.`.
    fn changes(results: &str) -> String {
        changes_after(None, results)
    }

    fn changes_after(is_up: Option<bool>, results: &str) -> String {
        let mut streak = Streak::new(2, 3, is_up);
        let changes = results
            .chars()
            .map(|result| match streak.note(result == '+') {
                Change::None => '.',
                Change::Down => 'D',
                Change::Up => 'U',
            });
        changes.collect()
    }

    #[test]
    fn the_first_check_decides_alone() {
        assert_eq!(changes("+"), ".");
        assert_eq!(changes("-"), "D");
    }

    /// As after a change of the settings.
    #[test]
    fn what_earlier_checks_have_found_is_not_forgotten() {
        assert_eq!(changes_after(Some(false), "-++"), "..U");
        assert_eq!(changes_after(Some(true), "+---"), "...D");
    }

    #[test]
    fn later_it_takes_as_many_in_a_row_as_the_document_says() {
        assert_eq!(changes("+--+--+---"), ".........D");
        assert_eq!(changes("-+-+-++"), "D.....U");
        assert_eq!(changes("+---------"), "...D......");
        assert_eq!(changes("-++---++"), "D.U..D.U");
    }
}
