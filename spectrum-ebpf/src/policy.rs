//! From facts to a verdict: the rules, cheapest and most certain first.
//!
//! 1. What is not for an edge address is not ours, and passes.
//! 2. Broken packets.
//! 3. Fragments without ports, and ports without an app.
//! 4. The app's lists, then the countries and autonomous systems that it admits.
//! 5. Reflectors, sizes of datagrams, and fragments.
//! 6. Signatures: the operator's custom rules, then mitigations.
//! 7. A TCP session with another app, where one is asked for; rates of each source; TCP segments that
//!    belong to no connection; and the app's ceiling: the rules that remember.
//! 8. SYNs that are answered with a cookie.
//!
//! A TCP flow that has proved itself goes from 3 straight to 6, past the state of connections: it has
//! met what comes between under the same policy. A source that is blocked is remembered for a second,
//! and refused before all else.
//!
//! A rule in mode `monitor` lets the packet go on to the next rule, so that a packet is dropped by
//! whatever rule enforces, and else counted at the first rule that matched.

mod handshake;

use core::borrow::Borrow as _;

use spectrum_common::{
    access::GLOBAL_SCOPE,
    app::{App, HOST_SLOT, mode},
    edge::Edge,
    geo::asked_by,
    reason::Reason,
};

use crate::{
    access::Listed,
    parse::{Fragment, Kind, Packet, protocol},
    refusals,
    signatures::Ruling,
    tables::Tables,
    verdict::{Outcome, Verdict},
};

/// Decides about a packet.
#[inline(always)]
pub fn decide(packet: &Packet, tables: &impl Tables) -> Verdict {
    let mut case = Case {
        slot: HOST_SLOT,
        monitored: Verdict {
            slot: HOST_SLOT,
            outcome: Outcome::Passed,
        },
        answers: false,
    };
    let judged = match packet.kind {
        Kind::Foreign => Ok(()),
        Kind::Unaddressed => case.matched(tables.settings().malformed, Reason::Malformed),
        Kind::Addressed => judge_addressed(&mut case, packet, tables),
    };
    match judged {
        Err(Dropped(reason)) => Verdict {
            slot: case.slot,
            outcome: Outcome::Dropped(reason),
        },
        Ok(()) if case.answers => Verdict {
            slot: case.slot,
            outcome: Outcome::Answered,
        },
        Ok(()) if case.monitored.outcome == Outcome::Passed => Verdict {
            slot: case.slot,
            outcome: Outcome::Passed,
        },
        Ok(()) => case.monitored,
    }
}

/// A packet on its way through the rules.
struct Case {
    /// Where the rules that come now are counted.
    slot: u32,
    /// The first rule that would have dropped the packet; [`Outcome::Passed`] if there is none.
    monitored: Verdict,
    /// It is a SYN that gets a cookie for an answer.
    answers: bool,
}

/// A rule enforced: no further rule is asked.
struct Dropped(Reason);

impl Case {
    /// A rule in mode `mode` matches.
    #[inline(always)]
    fn matched(&mut self, mode: u32, reason: Reason) -> Result<(), Dropped> {
        if mode == mode::ENFORCE {
            return Err(Dropped(reason));
        }
        if mode == mode::MONITOR && self.monitored.outcome == Outcome::Passed {
            self.monitored = Verdict {
                slot: self.slot,
                outcome: Outcome::Monitored(reason),
            };
        }
        Ok(())
    }
}

/// Refuses a source that was found to be blocked a moment ago before anything else is looked up.
#[inline(always)]
fn judge_addressed(case: &mut Case, packet: &Packet, tables: &impl Tables) -> Result<(), Dropped> {
    let may_be_refused = tables.may_be_listed(&packet.source) && refusals::is_plain(packet);
    if may_be_refused && let Some(slot) = tables.refused_at(packet) {
        case.slot = slot;
        return Err(Dropped(Reason::Blocked));
    }
    let judged = judge_packet(case, packet, tables);
    if matches!(judged, Err(Dropped(Reason::Blocked))) && refusals::is_plain(packet) {
        tables.refuse(packet, case.slot);
    }
    judged
}

#[inline(always)]
fn judge_packet(case: &mut Case, packet: &Packet, tables: &impl Tables) -> Result<(), Dropped> {
    let Some(edge) = tables.edge(&packet.destination) else {
        return Ok(());
    };
    if let Some(defect) = packet.defect {
        case.matched(tables.settings().malformed, defect)?;
    }
    let is_tcp = match packet.protocol {
        protocol::TCP => true,
        protocol::UDP => false,
        _ => return Ok(()),
    };
    if packet.fragment == Fragment::Later {
        return case.matched(fragments_mode(&edge, is_tcp), Reason::Fragment);
    }
    // Ports that cannot be read are a defect, judged above.
    if !packet.has_ports {
        return Ok(());
    }
    let directory = if is_tcp {
        edge.tcp_directory
    } else {
        edge.udp_directory
    };
    let slot = tables.app_slot(directory, packet.destination_port);
    match tables.app(slot) {
        Some(app) if slot != HOST_SLOT => {
            case.slot = slot;
            judge_app(case, packet, app.borrow(), tables)
        }
        Some(_) | None => judge_closed_port(case, packet, tables),
    }
}

#[inline(always)]
fn fragments_mode(edge: &Edge, is_tcp: bool) -> u32 {
    if is_tcp {
        edge.tcp_fragments
    } else {
        edge.udp_fragments
    }
}

/// No app here, but perhaps a service of the host itself, or a connection that the host opened.
#[inline(always)]
fn judge_closed_port(
    case: &mut Case,
    packet: &Packet,
    tables: &impl Tables,
) -> Result<(), Dropped> {
    let rule = tables.settings().closed_ports;
    if rule == mode::OFF || tables.has_socket(packet) {
        return Ok(());
    }
    let opens = packet.protocol == protocol::UDP || packet.opens_tcp();
    let reason = if opens {
        Reason::ClosedPort
    } else {
        Reason::OutOfState
    };
    case.matched(rule, reason)
}

#[inline(always)]
fn judge_app(
    case: &mut Case,
    packet: &Packet,
    app: &App,
    tables: &impl Tables,
) -> Result<(), Dropped> {
    let mut is_verified = may_be_verified(packet, app) && tables.is_verified(packet, case.slot);
    if !is_verified {
        judge_origin(case, packet, app, tables)?;
    }
    if judge_traffic(case, packet, is_verified, app, tables)? == Ruling::Pass {
        return Ok(());
    }
    if !is_verified && packet.protocol == protocol::TCP && !packet.opens_tcp() {
        is_verified = handshake::judge_segment(case, packet, app, tables)?;
    }
    judge_ceiling(case, packet, is_verified, app, tables)?;
    case.answers = packet.opens_tcp() && handshake::answers(case, packet, app, tables);
    Ok(())
}

/// Where a packet comes from, and in which shape.
#[inline(always)]
fn judge_origin(
    case: &mut Case,
    packet: &Packet,
    app: &App,
    tables: &impl Tables,
) -> Result<(), Dropped> {
    let is_exempt = judge_lists(case, packet, app, tables)?;
    if app.geo & asked_by::APP != 0 {
        let objection = tables.judge_place(&packet.source, is_exempt, app);
        case.matched(objection.mode, objection.reason())?;
    }
    if packet.protocol == protocol::UDP {
        judge_datagram(case, packet, app, tables)?;
    }
    if packet.fragment == Fragment::First {
        case.matched(app.fragments, Reason::Fragment)?;
    }
    Ok(())
}

/// Can the packet be one of a flow that has proved itself? Only an app that asks whether there is a
/// connection has such flows.
#[inline(always)]
fn may_be_verified(packet: &Packet, app: &App) -> bool {
    app.out_of_state != mode::OFF && packet.continues_tcp() && packet.defect.is_none()
}

#[inline(always)]
fn judge_datagram(
    case: &mut Case,
    packet: &Packet,
    app: &App,
    tables: &impl Tables,
) -> Result<(), Dropped> {
    if app.reflectors != mode::OFF && tables.is_reflector(app.reflector_set, packet.source_port) {
        case.matched(app.reflectors, Reason::Reflector)?;
    }
    let length = u32::from(packet.datagram_length);
    if app.datagrams != mode::OFF && !(app.datagram_least..=app.datagram_most).contains(&length) {
        case.matched(app.datagrams, Reason::DatagramSize)?;
    }
    Ok(())
}

/// The blocklist, then the allowlist. An entry of the global scope that allows exempts from global
/// blocks alone: only the app's own scope says who is on its allowlist. Says whether an entry of
/// either allows the source, which exempts it from the rules on where it is.
#[inline(always)]
fn judge_lists(
    case: &mut Case,
    packet: &Packet,
    app: &App,
    tables: &impl Tables,
) -> Result<bool, Dropped> {
    let asks_place = app.geo & asked_by::APP != 0;
    if app.blocklist == mode::OFF && app.allowlist == mode::OFF && !asks_place {
        return Ok(false);
    }
    // Asked a second time: the verifier would follow all that lies between twice if it knew the answer.
    let may_be_listed = tables.may_be_listed(&packet.source);
    let own = if may_be_listed && app.has_access_entries != 0 {
        tables.look_up(case.slot, &packet.source)
    } else {
        Listed::Nowhere
    };
    let mut is_exempt = own == Listed::Allowed;
    if may_be_listed && (app.blocklist != mode::OFF || asks_place) {
        let global = tables.look_up(GLOBAL_SCOPE, &packet.source);
        if global == Listed::Blocked || own == Listed::Blocked {
            case.matched(app.blocklist, Reason::Blocked)?;
        }
        is_exempt |= global == Listed::Allowed;
    }
    if own != Listed::Allowed {
        case.matched(app.allowlist, Reason::NotAllowed)?;
    }
    Ok(is_exempt)
}

/// What every packet meets: signatures, the session that an app may ask for, and rates per source.
/// Says whether a signature lets it pass, whatever comes later.
#[inline(always)]
fn judge_traffic(
    case: &mut Case,
    packet: &Packet,
    is_verified: bool,
    app: &App,
    tables: &impl Tables,
) -> Result<Ruling, Dropped> {
    if app.mask_count != 0 && judge_signatures(case, packet, app, tables)? == Ruling::Pass {
        return Ok(Ruling::Pass);
    }
    if app.session != mode::OFF && !tables.has_tcp_session(&packet.source, app) {
        case.matched(app.session, Reason::NoTcpSession)?;
    }
    // What the ceiling would refuse is refused before it makes an entry among the sources: a flood
    // of newcomers is cheaper so, and the sources that count stay there.
    let is_capped = !is_verified && app.ceiling.mode == mode::ENFORCE;
    if is_capped && tables.is_closed_to(packet, case.slot, app) {
        return Err(Dropped(Reason::Ceiling));
    }
    judge_rates(case, packet, app, tables)?;
    Ok(Ruling::Silent)
}

/// What the app gets from all sources together. A flow that has proved itself proves its source.
#[inline(always)]
fn judge_ceiling(
    case: &mut Case,
    packet: &Packet,
    is_verified: bool,
    app: &App,
    tables: &impl Tables,
) -> Result<(), Dropped> {
    if app.ceiling.mode != mode::OFF && tables.is_above_ceiling(packet, is_verified, case.slot, app)
    {
        case.matched(app.ceiling.mode, Reason::Ceiling)?;
    }
    Ok(())
}

/// The signatures; says what they rule about a packet that none of them drops.
#[inline(always)]
fn judge_signatures(
    case: &mut Case,
    packet: &Packet,
    app: &App,
    tables: &impl Tables,
) -> Result<Ruling, Dropped> {
    let opinion = tables.judge_signatures(packet, case.slot, app);
    if let Some(reason) = opinion.monitored {
        case.matched(mode::MONITOR, reason)?;
    }
    if let Ruling::Drop(reason) = opinion.ruling {
        case.matched(mode::ENFORCE, reason)?;
    }
    Ok(opinion.ruling)
}

/// Rates per source. An app without them costs its sources no memory.
#[inline(always)]
fn judge_rates(
    case: &mut Case,
    packet: &Packet,
    app: &App,
    tables: &impl Tables,
) -> Result<(), Dropped> {
    if app.packet_rate.mode == mode::OFF && app.syn_rate.mode == mode::OFF {
        return Ok(());
    }
    let admission = tables.admit(packet, case.slot, app);
    if admission.over_packet_rate {
        case.matched(app.packet_rate.mode, Reason::PacketRate)?;
    }
    if admission.over_syn_rate {
        case.matched(app.syn_rate.mode, Reason::SynRate)?;
    }
    Ok(())
}

#[cfg(test)]
mod policy_test;
