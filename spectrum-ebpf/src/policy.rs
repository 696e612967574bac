//! From facts to a verdict: the rules, cheapest and most certain first.
//!
//! 1. What is not for an edge address is not ours, and passes.
//! 2. Broken packets.
//! 3. Fragments without ports, and ports without an app.
//! 4. The app's lists.
//! 5. Reflectors and fragments.
//! 6. Rates, the only rules that remember.
//!
//! A rule in mode `monitor` lets the packet go on to the next rule, so that a packet is dropped by
//! whatever rule enforces, and else counted at the first rule that matched.

use core::borrow::Borrow as _;

use spectrum_common::{
    access::{GLOBAL_SCOPE, action},
    app::{App, HOST_SLOT, mode},
    edge::Edge,
    reason::Reason,
};

use crate::{
    access,
    limits::{Account, Charge},
    parse::{Fragment, Frame, Packet, Ports, protocol},
    tables::Tables,
    verdict::{Outcome, Verdict},
};

/// Decides about a frame of `length` bytes.
#[inline(always)]
pub fn decide(frame: &Frame, length: u32, tables: &impl Tables) -> Verdict {
    let mut case = Case {
        slot: HOST_SLOT,
        monitored: None,
    };
    let judged = match frame {
        Frame::Foreign => Ok(()),
        Frame::Unaddressed => case.matched(tables.settings().malformed, Reason::Malformed),
        Frame::Packet(packet) => judge_packet(&mut case, packet, length, tables),
    };
    match judged {
        Err(Dropped(reason)) => Verdict {
            slot: case.slot,
            outcome: Outcome::Dropped(reason),
        },
        Ok(()) => case.monitored.unwrap_or(Verdict {
            slot: case.slot,
            outcome: Outcome::Passed,
        }),
    }
}

/// A packet on its way through the rules.
struct Case {
    /// Where the rules that come now are counted.
    slot: u32,
    /// The first rule that would have dropped the packet.
    monitored: Option<Verdict>,
}

/// A rule enforced: no further rule is asked.
struct Dropped(Reason);

impl Case {
    /// A rule in mode `mode` matches.
    #[inline(always)]
    fn matched(&mut self, mode: u32, reason: Reason) -> Result<(), Dropped> {
        match mode {
            mode::ENFORCE => return Err(Dropped(reason)),
            mode::MONITOR if self.monitored.is_none() => {
                self.monitored = Some(Verdict {
                    slot: self.slot,
                    outcome: Outcome::Monitored(reason),
                });
            }
            _ => {}
        }
        Ok(())
    }
}

#[inline(always)]
fn judge_packet(
    case: &mut Case,
    packet: &Packet,
    length: u32,
    tables: &impl Tables,
) -> Result<(), Dropped> {
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
    let Some(ports) = packet.ports else {
        return Ok(());
    };
    let directory = if is_tcp {
        edge.tcp_directory
    } else {
        edge.udp_directory
    };
    let slot = tables.app_slot(directory, ports.destination);
    match tables.app(slot) {
        Some(app) if slot != HOST_SLOT => {
            case.slot = slot;
            judge_app(case, packet, &ports, length, app.borrow(), tables)
        }
        Some(_) | None => judge_closed_port(case, packet, &ports, tables),
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

/// No app here, but perhaps a service of the host itself. A TCP segment other than a client's SYN
/// can belong to a connection that the host opened, and is the stack's to judge.
#[inline(always)]
fn judge_closed_port(
    case: &mut Case,
    packet: &Packet,
    ports: &Ports,
    tables: &impl Tables,
) -> Result<(), Dropped> {
    let rule = tables.settings().closed_ports;
    let opens = packet.protocol == protocol::UDP || ports.is_initial_syn();
    if rule == mode::OFF || !opens || tables.has_socket(packet) {
        return Ok(());
    }
    case.matched(rule, Reason::ClosedPort)
}

#[inline(always)]
fn judge_app(
    case: &mut Case,
    packet: &Packet,
    ports: &Ports,
    length: u32,
    app: &App,
    tables: &impl Tables,
) -> Result<(), Dropped> {
    judge_lists(case, packet, app, tables)?;
    if packet.protocol == protocol::UDP
        && app.reflectors != mode::OFF
        && tables.is_reflector(app.reflector_set, ports.source)
    {
        case.matched(app.reflectors, Reason::Reflector)?;
    }
    if packet.fragment == Fragment::First {
        case.matched(app.fragments, Reason::Fragment)?;
    }
    judge_rates(case, packet, ports, length, app, tables)
}

/// The blocklist, then the allowlist. An entry of the global scope that allows exempts from global
/// blocks alone: only the app's own scope says who is on its allowlist.
#[inline(always)]
fn judge_lists(
    case: &mut Case,
    packet: &Packet,
    app: &App,
    tables: &impl Tables,
) -> Result<(), Dropped> {
    if app.blocklist == mode::OFF && app.allowlist == mode::OFF {
        return Ok(());
    }
    let may_be_listed = access::may_be_listed(tables, &packet.source);
    let own = if may_be_listed && app.has_access_entries != 0 {
        access::listed_action(tables, case.slot, &packet.source)
    } else {
        None
    };
    if may_be_listed && app.blocklist != mode::OFF {
        let global = access::listed_action(tables, GLOBAL_SCOPE, &packet.source);
        if global == Some(action::BLOCK) || own == Some(action::BLOCK) {
            case.matched(app.blocklist, Reason::Blocked)?;
        }
    }
    if own != Some(action::ALLOW) {
        case.matched(app.allowlist, Reason::NotAllowed)?;
    }
    Ok(())
}

/// Rates per source. An app without them costs its sources no memory.
#[inline(always)]
fn judge_rates(
    case: &mut Case,
    packet: &Packet,
    ports: &Ports,
    length: u32,
    app: &App,
    tables: &impl Tables,
) -> Result<(), Dropped> {
    if app.packet_rate.mode == mode::OFF && app.syn_rate.mode == mode::OFF {
        return Ok(());
    }
    let account = Account::new(&packet.source, case.slot, tables.settings().hash_seed);
    let charge = Charge {
        length,
        is_initial_syn: packet.protocol == protocol::TCP && ports.is_initial_syn(),
    };
    let admission = tables.admit(&account, &charge, app);
    if admission.over_packet_rate {
        case.matched(app.packet_rate.mode, Reason::PacketRate)?;
    }
    if admission.over_syn_rate {
        case.matched(app.syn_rate.mode, Reason::SynRate)?;
    }
    Ok(())
}
