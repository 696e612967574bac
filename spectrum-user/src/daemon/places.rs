//! Where addresses are: from the databases to the filters.

use super::{Daemon, work::Cause};
use crate::{
    config::Config,
    geo::{Databases, Update},
};

/// Follows the databases of a configuration, and says which of its rules they leave off.
pub(super) async fn follow(databases: &mut Databases, config: &Config) {
    let geo = &config.host.geo;
    databases.follow(&geo.databases, geo.refresh).await;
    warn(databases, config);
}

/// Rules that ask what no database knows are off: nobody is locked out because a file is missing, but
/// everybody should know.
fn warn(databases: &Databases, config: &Config) {
    let places = databases.places();
    let questions = config.questions();
    let asks = |about_countries| {
        let mut asked = questions.iter();
        asked.any(|question| question.is_about_countries() == about_countries)
    };
    for (what, asks, is_known) in [
        ("countries", asks(true), places.has_countries()),
        ("autonomous systems", asks(false), places.has_asns()),
    ] {
        if asks && !is_known {
            log::error!(
                "no database knows {what}: the rules that ask for them are OFF. `spectrum lists` \
                 shows what is wrong with the files in [geo]"
            );
        }
    }
}

impl Daemon {
    /// Takes note of another edition of a database.
    pub(super) fn take_places(&mut self, update: Update) {
        if !self.databases.take(update) {
            return;
        }
        warn(&self.databases, &self.config);
        self.want(Cause::Others);
    }

    /// Looks at the source of one feed, or of all and at the databases, at once; says how many that
    /// are.
    pub(super) fn refresh_lists(&self, name: Option<&str>) -> usize {
        let databases = if name.is_none() {
            self.databases.refresh()
        } else {
            0
        };
        self.feeds.refresh(name) + databases
    }
}
