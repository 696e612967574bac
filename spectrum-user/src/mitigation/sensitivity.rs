//! What each sensitivity takes for a flood, and for a signature that is good enough.

use std::time::Duration;

use crate::config::Sensitivity;

/// Bounds of one sensitivity.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Packets per second below which there is no flood.
    pub(super) floor: u64,
    /// How many times the most that the app is used to.
    pub(super) factor: u64,
    /// How long the app has to be known, and by how many samples.
    pub(super) learn: Duration,
    pub(super) baseline_samples: usize,
    /// Percent of the flood that a signature must match.
    pub(super) coverage: usize,
    /// Samples of the baseline, of a thousand, that a signature may match.
    pub(super) spared_per_mille: usize,
}

impl Bounds {
    pub(super) const fn of(sensitivity: Sensitivity) -> Self {
        match sensitivity {
            Sensitivity::Low | Sensitivity::Off => Self {
                floor: 20_000,
                factor: 8,
                learn: Duration::from_secs(60),
                baseline_samples: 256,
                coverage: 50,
                spared_per_mille: 1,
            },
            Sensitivity::Medium => Self {
                floor: 5_000,
                factor: 4,
                learn: Duration::from_secs(10),
                baseline_samples: 64,
                coverage: 30,
                spared_per_mille: 10,
            },
            Sensitivity::High => Self {
                floor: 1_000,
                factor: 2,
                learn: Duration::from_secs(5),
                baseline_samples: 32,
                coverage: 15,
                spared_per_mille: 50,
            },
        }
    }

    /// For an app whose clients are hardly known: nothing says what to spare, so that only what is
    /// nearly all of a great flood will do.
    pub(super) const fn of_strangers(self) -> Self {
        Self {
            floor: self.floor * 4,
            coverage: 90,
            ..self
        }
    }
}
