//! A run: all subjects in turn, several times.

use std::{
    env,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use super::{
    Subject,
    measurement::Measurement,
    report::Results,
    site::{Site, Stage},
};
use crate::interrupt;

/// The program that is measured: the one in `$SPECTRUM_BIN`, else the one built beside `load`.
///
/// # Errors
/// There is none.
pub fn spectrum(load: &Path) -> Result<PathBuf> {
    let built = || load.with_file_name("spectrum");
    let spectrum = env::var_os("SPECTRUM_BIN").map_or_else(built, PathBuf::from);
    ensure!(
        spectrum.is_file(),
        "no program {} (cargo build --release -p spectrum-user, or set SPECTRUM_BIN)",
        spectrum.display()
    );
    Ok(spectrum)
}

/// Measures each of `subjects`, `repeats` times.
///
/// # Errors
/// One of them does not serve, or the run is interrupted.
pub fn run<'m>(
    stage: &Stage,
    mut subjects: Vec<Subject>,
    measurements: impl IntoIterator<Item = &'m Measurement> + Clone,
    repeats: usize,
) -> Result<Results> {
    let mut results = Results::default();
    for repeat in 1..=repeats {
        for &subject in &subjects {
            let name = subject.name();
            writeln!(io::stderr(), "repeat {repeat} of {repeats}: {name}")?;
            let site = Site::open(stage, subject)?;
            for measurement in measurements.clone() {
                measure(&site, measurement, &mut results)?;
            }
        }
        // So that nobody always comes first, or after the same one.
        subjects.reverse();
        subjects.rotate_left(1);
    }
    Ok(results)
}

fn measure(site: &Site<'_>, measurement: &Measurement, results: &mut Results) -> Result<()> {
    interrupt::check()?;
    let values = (measurement.measure)(site)
        .with_context(|| format!("{}: {}", site.subject.name(), measurement.name))?;
    for (metric, value) in measurement.metrics.iter().zip(values) {
        if let Some(value) = value {
            results.add(metric, site.subject, value);
        }
    }
    Ok(())
}
