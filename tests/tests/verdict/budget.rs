//! What the verifier makes of the programs: it gives up after a million instructions, and counts them
//! differently from kernel to kernel.

use anyhow::{Result, ensure};
use libtest_mimic::{Completion, Failed, Trial};
use spectrum_tests::requirements;
use spectrum_user::dataplane::Filter;

use crate::frame::syn;

/// A quarter of what the verifier would look at: the rest is for kernels that we do not know.
const BUDGET: u32 = 250_000;

pub(crate) fn trials() -> [Trial; 2] {
    [
        trial("verifier_accepts_the_programs_within_budget", || {
            check(&Filter::load_private()?, "")
        }),
        trial("verifier_accepts_the_log_of_packets_within_budget", || {
            let mut filter = Filter::load_private_logging()?;
            filter.test_run(&syn("100.64.0.9", "192.0.2.1", 80), 1)?;
            check(&filter, " with the log of packets")
        }),
    ]
}

fn trial(name: &'static str, run: fn() -> Result<()>) -> Trial {
    Trial::ignorable_test(name, move || {
        if let Some(reason) = requirements::missing(&[]) {
            return Ok(Completion::ignored_with(reason));
        }
        match run() {
            Ok(()) => Ok(Completion::Completed),
            Err(error) => Err(Failed::from(format!("{error:#}"))),
        }
    })
}

#[expect(clippy::print_stdout, reason = "what the kernels differ in")]
fn check(filter: &Filter, variant: &str) -> Result<()> {
    for (program, count) in filter.verified_instructions()? {
        println!("verified: {program}{variant}: {count} of at most {BUDGET} instructions");
        ensure!(
            count <= BUDGET,
            "{program}{variant}: the verifier looked at {count} instructions, and {BUDGET} is the budget: \
             cut it into more global functions"
        );
    }
    Ok(())
}
