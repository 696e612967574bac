//! Any policy, any answer of the tables, any packet: the verdict is the one that a flat list of the
//! rules gives.

mod world;

use arbitrary::{Arbitrary, Unstructured};
use spectrum_common::{
    app::{HOST_SLOT, mode},
    reason::Reason,
};
use spectrum_ebpf::{
    access::Listed,
    geo,
    parse::{Fragment, Kind, Packet, parse, protocol},
    policy::decide,
    refusals,
    signatures::Ruling,
    tables::{Holder, Tables},
    verdict::{Outcome, Verdict},
};

use crate::frame::Shape;
use world::{COUNTRY, Facts, SYSTEM, World};

const SLOT: u32 = 1;
/// The port of the app; others are closed.
const PORT: u16 = 80;

pub fn run(data: &[u8]) {
    let mut data = Unstructured::new(data);
    let (Ok(world), Ok(shape)) = (World::arbitrary(&mut data), Shape::arbitrary(&mut data)) else {
        return;
    };
    let frame = shape.bytes();
    let mut packet = Packet::default();
    parse(frame.as_slice(), &mut packet);
    let facts = Facts::new(&world);
    let verdict = decide(&packet, &facts);
    let (noted, refused) = (facts.noted.take(), facts.refused.take());
    assert_eq!(verdict, expected(&packet, &facts), "{packet:?}\n{world:?}");
    assert_eq!(decide(&packet, &facts), verdict, "the same again");
    assert_eq!(Verdict::from_bits(verdict.to_bits()), verdict);
    proves_only_what_it_should(&packet, &facts, verdict, noted);
    let is_blocked = verdict.outcome == Outcome::Dropped(Reason::Blocked);
    let is_new = is_blocked && refusals::is_plain(&packet) && !facts.is_refused;
    assert_eq!(refused, is_new.then_some(verdict.slot));
}

/// A proof spares a flow the lists from then on: it is for segments that nothing objected to before,
/// of a peer that has answered.
fn proves_only_what_it_should(
    packet: &Packet,
    facts: &Facts,
    verdict: Verdict,
    noted: Option<u32>,
) {
    let Some(slot) = noted else { return };
    assert_eq!(slot, SLOT);
    assert_eq!(verdict.slot, SLOT);
    assert!(packet.continues_tcp());
    assert!([Holder::Connection, Holder::CookieTaker].contains(&facts.holder));
    let later = [Reason::Ceiling];
    let objection = verdict.outcome.objection();
    assert!(objection.is_none_or(|(reason, _)| later.contains(&reason)));
}

/// One rule, as it stands towards a packet.
struct Rule {
    slot: u32,
    mode: u32,
    reason: Reason,
    matches: bool,
}

/// The verdict of the rules of which all are asked, in order.
fn expected(packet: &Packet, facts: &Facts) -> Verdict {
    let is_addressed = packet.kind == Kind::Addressed && facts.may_be_listed;
    if is_addressed && refusals::is_plain(packet) && facts.is_refused {
        return Verdict {
            slot: SLOT,
            outcome: Outcome::Dropped(Reason::Blocked),
        };
    }
    let (rules, slot, may_answer) = rules(packet, facts);
    let mut matching = rules
        .iter()
        .filter(|rule| rule.matches && rule.mode != mode::OFF);
    let first = matching.clone().next();
    let verdict = |rule: &Rule, outcome| Verdict {
        slot: rule.slot,
        outcome,
    };
    if let Some(rule) = matching.find(|rule| rule.mode == mode::ENFORCE) {
        return verdict(rule, Outcome::Dropped(rule.reason));
    }
    if may_answer {
        return Verdict {
            slot,
            outcome: Outcome::Answered,
        };
    }
    first.map_or(
        Verdict {
            slot,
            outcome: Outcome::Passed,
        },
        |rule| verdict(rule, Outcome::Monitored(rule.reason)),
    )
}

/// The rules that a packet meets, where it ends if none objects, and whether it is then answered.
fn rules(packet: &Packet, facts: &Facts) -> (Vec<Rule>, u32, bool) {
    let app = &facts.app;
    let mut rules = Vec::new();
    let mut at = |slot, mode, reason, matches| {
        rules.push(Rule {
            slot,
            mode,
            reason,
            matches,
        });
    };
    let is_ours = packet.kind == Kind::Addressed && facts.edge(&packet.destination).is_some();
    if packet.kind == Kind::Unaddressed || is_ours {
        let defect = packet.defect.unwrap_or(Reason::Malformed);
        let matches = packet.defect.is_some();
        at(HOST_SLOT, facts.settings.malformed, defect, matches);
    }
    let is_tcp = packet.protocol == protocol::TCP;
    if !is_ours || !is_tcp && packet.protocol != protocol::UDP {
        return (rules, HOST_SLOT, false);
    }
    if packet.fragment == Fragment::Later {
        let mode = if is_tcp {
            facts.edge.tcp_fragments
        } else {
            facts.edge.udp_fragments
        };
        at(HOST_SLOT, mode, Reason::Fragment, true);
        return (rules, HOST_SLOT, false);
    }
    if !packet.has_ports {
        return (rules, HOST_SLOT, false);
    }
    let opens = packet.opens_tcp();
    if packet.destination_port != PORT {
        let reason = if is_tcp && !opens {
            Reason::OutOfState
        } else {
            Reason::ClosedPort
        };
        let mode = facts.settings.closed_ports;
        at(HOST_SLOT, mode, reason, !facts.has_socket);
        return (rules, HOST_SLOT, false);
    }
    let may_be_known = app.out_of_state != mode::OFF && packet.continues_tcp();
    let is_known = may_be_known && packet.defect.is_none() && facts.is_verified;
    if !is_known {
        let own = if facts.may_be_listed && app.has_access_entries != 0 {
            facts.own
        } else {
            Listed::Nowhere
        };
        let is_blocked = own == Listed::Blocked || facts.global == Listed::Blocked;
        let is_blocked = facts.may_be_listed && is_blocked;
        at(SLOT, app.blocklist, Reason::Blocked, is_blocked);
        at(
            SLOT,
            app.allowlist,
            Reason::NotAllowed,
            own != Listed::Allowed,
        );
        let is_let_in = facts.may_be_listed && facts.global == Listed::Allowed;
        let is_exempt = own == Listed::Allowed || is_let_in;
        let refuses = |question| !is_exempt && geo::says(&facts.answers, question);
        at(SLOT, app.countries, Reason::Country, refuses(COUNTRY));
        at(SLOT, app.asns, Reason::Asn, refuses(SYSTEM));
        if !is_tcp {
            at(SLOT, app.reflectors, Reason::Reflector, facts.is_reflector);
            let length = u32::from(packet.datagram_length);
            let fits = app.datagram_least <= length && length <= app.datagram_most;
            at(SLOT, app.datagrams, Reason::DatagramSize, !fits);
        }
        let is_first = packet.fragment == Fragment::First;
        at(SLOT, app.fragments, Reason::Fragment, is_first);
    }
    if app.mask_count != 0 {
        if let Some(reason) = facts.opinion.monitored {
            at(SLOT, mode::MONITOR, reason, true);
        }
        match facts.opinion.ruling {
            Ruling::Pass => return (rules, SLOT, false),
            Ruling::Drop(reason) => at(SLOT, mode::ENFORCE, reason, true),
            Ruling::Silent => {}
        }
    }
    at(SLOT, app.session, Reason::NoTcpSession, !facts.has_session);
    // Before the rates, if it enforces.
    let is_early = !is_known && app.ceiling.mode == mode::ENFORCE;
    at(
        SLOT,
        app.ceiling.mode,
        Reason::Ceiling,
        is_early && facts.is_closed,
    );
    let admission = facts.admission;
    at(
        SLOT,
        app.packet_rate.mode,
        Reason::PacketRate,
        admission.over_packet_rate,
    );
    at(
        SLOT,
        app.syn_rate.mode,
        Reason::SynRate,
        admission.over_syn_rate,
    );
    if !is_known && is_tcp && !opens {
        let is_stray = [Holder::Nobody, Holder::Listener].contains(&facts.holder);
        let are_too_many = app.out_of_state_above == 0 || facts.has_too_many_strays;
        let matches = is_stray && are_too_many;
        at(SLOT, app.out_of_state, Reason::OutOfState, matches);
    }
    at(SLOT, app.ceiling.mode, Reason::Ceiling, facts.is_above);
    let has_listener = [Holder::Listener, Holder::CookieTaker].contains(&facts.holder);
    let may_answer = !is_known
        && opens
        && packet.fragment == Fragment::Whole
        && packet.defect.is_none()
        && app.challenge != 0
        && facts.challenges
        && has_listener;
    (rules, SLOT, may_answer)
}
