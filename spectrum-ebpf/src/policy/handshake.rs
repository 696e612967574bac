//! TCP's handshake and state.

use spectrum_common::{
    app::{App, mode},
    reason::Reason,
};

use super::{Case, Dropped};
use crate::{
    parse::{Fragment, Packet},
    tables::{Holder, Tables},
    verdict::Outcome,
};

/// Is `packet`, a SYN, to be answered in place of the app?
#[inline(always)]
pub(super) fn answers(case: &Case, packet: &Packet, app: &App, tables: &impl Tables) -> bool {
    app.challenge != 0
        && packet.fragment == Fragment::Whole
        && packet.defect.is_none()
        && tables.challenges(case.slot, app)
        && is_new(packet, tables)
}

/// Is there somebody to speak for, who does not know this flow? The kernel alone can say whether the
/// port of a connection that is not quite over may be used again.
#[inline(always)]
fn is_new(packet: &Packet, tables: &impl Tables) -> bool {
    matches!(
        tables.holder(packet),
        Holder::Listener | Holder::CookieTaker
    )
}

/// Objects to a segment, other than a SYN, that belongs to no connection; says whether it is one of a
/// connection whose peer has answered.
#[inline(always)]
pub(super) fn judge_segment(
    case: &mut Case,
    packet: &Packet,
    app: &App,
    tables: &impl Tables,
) -> Result<bool, Dropped> {
    if app.out_of_state == mode::OFF {
        return Ok(false);
    }
    match tables.holder(packet) {
        Holder::Nobody | Holder::Listener => {
            // The kernel resets a few, so that who has lost a connection knows.
            if app.out_of_state_above == 0 || tables.has_too_many_strays(case.slot, app) {
                case.matched(app.out_of_state, Reason::OutOfState)?;
            }
            Ok(false)
        }
        Holder::HalfOpen => Ok(false),
        Holder::CookieTaker | Holder::Connection => {
            // A flow that is watched must meet the rules again, to be counted by them.
            if packet.continues_tcp() && case.monitored.outcome == Outcome::Passed {
                tables.verify(packet, case.slot);
            }
            Ok(true)
        }
    }
}
