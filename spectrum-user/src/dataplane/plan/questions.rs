//! What apps and rules ask of where sources are.

use spectrum_common::{
    app::App,
    geo::{ANYWHERE, MAX_QUESTIONS, asked_by},
};

use super::{Plan, mode_number, number};
use crate::{
    config::{Mode, Protection, rule::Rule},
    dataplane::{
        error::Error, geo::too_many_questions, geo_table::Numbered, signatures::Signature,
    },
    geo::Question,
};

impl Plan {
    /// Says whether any of these rules asks where a source is. One that asks what nobody knows is
    /// off.
    pub(super) fn add_rules(&mut self, scope: u32, rules: &[Rule]) -> Result<bool, Error> {
        let mut asks = false;
        for rule in rules.iter().filter(|rule| rule.mode != Mode::Off) {
            let mut signature = Signature::of_rule(rule, scope);
            let conditions = &rule.conditions;
            let asked = [conditions.asked_country(), conditions.asked_asn()];
            if !asked.iter().flatten().all(|asked| self.is_known(asked)) {
                continue;
            }
            let [countries, asns] = asked;
            asks |= countries.is_some() || asns.is_some();
            signature.rule.countries = self.ask_by_rule(countries)?;
            signature.rule.asns = self.ask_by_rule(asns)?;
            self.rules.push(signature);
        }
        Ok(asks)
    }

    /// Who may come to an app; a rule that asks what nobody knows is off.
    pub(super) fn add_admission(
        &mut self,
        app: &mut App,
        protection: &Protection,
    ) -> Result<(), Error> {
        let countries = protection.countries.refused();
        if let Some(refused) = countries.filter(|asked| self.is_known(asked)) {
            app.countries = mode_number(protection.countries.mode);
            app.refused_countries = self.ask(refused)?;
            app.geo |= asked_by::APP;
        }
        let asns = protection.asns.refused();
        if let Some(refused) = asns.filter(|asked| self.is_known(asked)) {
            app.asns = mode_number(protection.asns.mode);
            app.refused_asns = self.ask(refused)?;
            app.geo |= asked_by::APP;
        }
        Ok(())
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
    fn ask(&mut self, question: Question) -> Result<u32, Error> {
        let known = self.questions.iter().position(|other| *other == question);
        let index = known.unwrap_or(self.questions.len());
        if index == MAX_QUESTIONS {
            return Err(too_many_questions());
        }
        if known.is_none() {
            self.questions.push(question);
        }
        Ok(ANYWHERE + 1 + number(index))
    }

    /// The same as rules have it.
    fn ask_by_rule(&mut self, question: Option<Question>) -> Result<u8, Error> {
        let number = question.map_or(Ok(ANYWHERE), |question| self.ask(question))?;
        Ok(u8::try_from(number).expect("a plan asks fewer"))
    }
}
