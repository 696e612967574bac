//! What apps and rules ask of where sources are.

use spectrum_common::{
    app::App,
    geo::{ANYWHERE, asked_by},
};

use super::{Plan, mode_number, number};
use crate::{
    config::{Mode, Protection, rule::Rule},
    dataplane::{geo_table::Numbered, signatures::Signature},
    geo::Question,
};

impl Plan {
    /// Says whether any of these rules asks where a source is. One that asks what nobody knows is
    /// off.
    pub(super) fn add_rules(&mut self, scope: u32, rules: &[Rule]) -> bool {
        let mut asks = false;
        for rule in rules.iter().filter(|rule| rule.mode != Mode::Off) {
            let mut signature = Signature::of_rule(rule, scope);
            let conditions = &rule.conditions;
            let asked = [conditions.asked_country(), conditions.asked_asn()];
            if !asked.iter().flatten().all(|asked| self.is_known(asked)) {
                continue;
            }
            let [countries, asns] = asked.map(|asked| {
                let number = asked.map_or(ANYWHERE, |asked| self.ask(asked));
                u8::try_from(number).expect("a configuration asks fewer")
            });
            asks |= [countries, asns].map(u32::from) != [ANYWHERE; 2];
            signature.rule.countries = countries;
            signature.rule.asns = asns;
            self.rules.push(signature);
        }
        asks
    }

    /// Who may come to an app; a rule that asks what nobody knows is off.
    pub(super) fn add_admission(&mut self, app: &mut App, protection: &Protection) {
        let countries = protection.countries.refused();
        if let Some(refused) = countries.filter(|asked| self.is_known(asked)) {
            app.countries = mode_number(protection.countries.mode);
            app.refused_countries = self.ask(refused);
            app.geo |= asked_by::APP;
        }
        let asns = protection.asns.refused();
        if let Some(refused) = asns.filter(|asked| self.is_known(asked)) {
            app.asns = mode_number(protection.asns.mode);
            app.refused_asns = self.ask(refused);
            app.geo |= asked_by::APP;
        }
    }

    fn is_known(&self, question: &Question) -> bool {
        if question.is_about_countries() {
            self.places.has_countries()
        } else {
            self.places.has_asns()
        }
    }

    /// Takes the questions out of the plan, in which each goes by the number in its place from now on.
    pub(in crate::dataplane) fn take_questions(&mut self, numbers: &[u32]) -> Numbered {
        let number = |planned: u32| {
            let index = planned.checked_sub(ANYWHERE + 1);
            let number = index.and_then(|index| numbers.get(index as usize));
            number.copied().unwrap_or(ANYWHERE)
        };
        for app in self.apps.values_mut() {
            app.refused_countries = number(app.refused_countries);
            app.refused_asns = number(app.refused_asns);
        }
        for Signature { rule, .. } in &mut self.rules {
            let number = |planned: u8| u8::try_from(number(planned.into())).unwrap_or_default();
            rule.countries = number(rule.countries);
            rule.asns = number(rule.asns);
        }
        numbers
            .iter()
            .copied()
            .zip(self.questions.drain(..))
            .collect()
    }

    /// The number of a question, by its place among [`Plan::questions`].
    fn ask(&mut self, question: Question) -> u32 {
        let known = self.questions.iter().position(|other| *other == question);
        let index = known.unwrap_or_else(|| {
            self.questions.push(question);
            self.questions.len() - 1
        });
        ANYWHERE + 1 + number(index)
    }
}
