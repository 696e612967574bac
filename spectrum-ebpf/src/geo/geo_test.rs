//! Counting ones by hand has to agree with the processor. That the right answers are found is tested
//! with the table itself, in `spectrum-user`.

use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn ones_are_counted(word: u64) {
        prop_assert_eq!(ones(word), u64::from(word.count_ones()));
    }

    #[test]
    fn a_question_has_a_bit_of_its_own(question in 0..spectrum_common::geo::QUESTIONS) {
        let bits = 1_u128 << question;
        let answers = Answers { words: [bits as u64, (bits >> 64) as u64] };
        for other in 0..spectrum_common::geo::QUESTIONS {
            prop_assert_eq!(says(&answers, other), other == question);
        }
    }
}
