//! The real program on a private copy of the rules: what it does with a packet that does not arrive.
//!
//! Counters, limits and events of the filter that runs are not touched. What counts packets over
//! time (rates, ceilings, rules that limit) is off in the copy: a replay is far from the pace at
//! which its packets came. So is what asks for the host's connections, which are others by now.

use std::{net::IpAddr, sync::Arc};

use aya::{
    Pod,
    maps::{Array, MapData, RingBuf},
};
use spectrum_common::{
    app::mode, event::DropEvent, maps as names, reason::Reason, settings::Settings,
    signature::action,
};
use spectrum_ebpf::{
    parse::{Packet, parse},
    verdict::{Outcome, Verdict},
};

use super::{Error, Filter, Maps, Pins, sync};
use crate::{
    config::{AppId, Config},
    geo::Places,
};

/// A filter to ask, and its answers.
pub struct Replay {
    filter: Filter,
    events: RingBuf<MapData>,
    apps: Vec<(AppId, u32)>,
}

impl Replay {
    /// With the rules of the filter that is pinned for an interface.
    ///
    /// # Errors
    /// Nothing is pinned, it is of another version, or the program cannot be loaded.
    pub fn of_pinned(pins: &Pins) -> Result<Self, Error> {
        let mut filter = Filter::load_private()?;
        // Apps, rules and tables are of one policy as long as nobody writes another.
        let lock = pins.lock()?;
        filter.maps_mut().take_rules(pins.open_maps()?)?;
        drop(lock);
        Self::new(filter)
    }

    /// With the rules of documents, as if the shielded interfaces had these addresses, and all
    /// addresses were at `places`.
    ///
    /// # Errors
    /// The program cannot be loaded, or a map is too small.
    pub fn of_documents(
        config: &Config,
        addresses: &[IpAddr],
        places: &Arc<Places>,
    ) -> Result<Self, Error> {
        let mut filter = Filter::load_private()?;
        filter.apply(config, addresses, places)?;
        Self::new(filter)
    }

    fn new(mut filter: Filter) -> Result<Self, Error> {
        filter.maps_mut().forget_time()?;
        Ok(Self {
            events: filter.take_events()?,
            apps: filter.maps().slots()?.into_iter().collect(),
            filter,
        })
    }

    /// The app that a slot belongs to.
    pub fn app_at(&self, slot: u32) -> Option<AppId> {
        let found = self.apps.iter().find(|(_, of_app)| *of_app == slot);
        found.map(|(id, _)| *id)
    }

    /// The facts about a frame, and the app that it is for.
    ///
    /// # Errors
    /// The kernel refuses a look-up.
    pub fn look_at(&self, frame: &[u8]) -> Result<(Packet, Option<AppId>), Error> {
        let mut packet = Packet::default();
        parse(frame, &mut packet);
        let slot = self.filter.maps().slot_of(&packet)?;
        Ok((packet, self.app_at(slot)))
    }

    /// What the program does with a frame.
    ///
    /// # Errors
    /// The kernel refuses to run it.
    pub fn judge(&mut self, frame: &[u8]) -> Result<Outcome, Error> {
        self.filter.test_run(frame, 1)?;
        // The program tells of every packet that a rule objects to.
        let record = self.events.next();
        let outcome = record.and_then(|record| outcome_of(&record));
        Ok(outcome.unwrap_or(Outcome::Passed))
    }
}

fn outcome_of(record: &[u8]) -> Option<Outcome> {
    if record.len() < size_of::<DropEvent>() {
        return None;
    }
    // SAFETY: long enough, and every bit pattern is a valid `DropEvent`.
    let event = unsafe { record.as_ptr().cast::<DropEvent>().read_unaligned() };
    let reason = Reason::try_from(event.reason).ok()?;
    let bits = u64::from(reason as u32) << 8 | u64::from(event.mode);
    Some(Verdict::from_bits(bits).outcome)
}

impl Maps {
    /// Makes these maps hold the rules of others, and what has been learnt of sources; the tables
    /// are theirs.
    fn take_rules(&mut self, from: Self) -> Result<(), Error> {
        copy(names::SETTINGS, &from.settings, &mut self.settings)?;
        copy(names::PORTS, &from.ports, &mut self.ports)?;
        copy(names::APPS, &from.apps, &mut self.apps)?;
        copy(names::REFLECTORS, &from.reflectors, &mut self.reflectors)?;
        copy(
            names::SIGNATURE_MASKS,
            &from.signature_masks,
            &mut self.signature_masks,
        )?;
        copy(
            names::SIGNATURE_RULES,
            &from.signature_rules,
            &mut self.signature_rules,
        )?;
        copy(names::SIGNATURES, &from.signatures, &mut self.signatures)?;
        copy(names::EDGES, &from.edges, &mut self.edges)?;
        self.proven.copy(&from.proven);
        self.tcp_sessions.copy(&from.tcp_sessions);
        self.access.share(from.access)?;
        self.geo.share(from.geo)
    }

    /// Turns off what depends on when packets come, and has every objection reported.
    fn forget_time(&mut self) -> Result<(), Error> {
        let settings = Settings {
            events_per_second: u32::MAX,
            ..self.settings()?
        };
        self.settings
            .set(0, settings, 0)
            .map_err(Error::map(names::SETTINGS, "write"))?;
        for (slot, mut app) in self.apps_in_use()? {
            app.packet_rate.mode = mode::OFF;
            app.syn_rate.mode = mode::OFF;
            app.ceiling.mode = mode::OFF;
            app.out_of_state = mode::OFF;
            app.challenge = 0;
            sync::write_app(self, slot, app)?;
        }
        for index in 0..self.signature_rules.len() {
            let read = self.signature_rules.get(&index, 0);
            let mut rule = read.map_err(Error::map(names::SIGNATURE_RULES, "read"))?;
            if rule.action == action::RATE_LIMIT {
                rule.mode = mode::OFF;
                self.signature_rules
                    .set(index, rule, 0)
                    .map_err(Error::map(names::SIGNATURE_RULES, "write"))?;
            }
        }
        Ok(())
    }
}

/// Copies what differs from the zeros of a new map.
fn copy<T: Pod + PartialEq + Default>(
    name: &'static str,
    from: &Array<MapData, T>,
    to: &mut Array<MapData, T>,
) -> Result<(), Error> {
    for index in 0..from.len() {
        let value = from.get(&index, 0).map_err(Error::map(name, "read"))?;
        if value != T::default() {
            to.set(index, value, 0).map_err(Error::map(name, "copy"))?;
        }
    }
    Ok(())
}
