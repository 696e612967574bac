//! SYNs, segments, and what is remembered of flows and of sources.

use core::cell::Cell;

use super::{super::*, world::*};
use crate::tables::Holder;

/// A world whose app is challenged and asks for connections, and in which nothing is wrong.
fn strict() -> World {
    World {
        app: App {
            challenge: 1,
            out_of_state: mode::ENFORCE,
            ..App::default()
        },
        holder: Some(Holder::Listener),
        challenges: true,
        ..World::default()
    }
}

#[test]
fn a_syn_is_answered_only_for_a_listener_that_does_not_know_the_flow() {
    let outcome = |world: &World| decide(&syn(), world).outcome;
    assert_eq!(outcome(&strict()), Outcome::Answered);
    for holder in [Holder::Nobody, Holder::HalfOpen, Holder::Connection] {
        let world = World {
            holder: Some(holder),
            ..strict()
        };
        assert_eq!(outcome(&world), Outcome::Passed, "{holder:?}");
    }
    let calm = World {
        challenges: false,
        ..strict()
    };
    assert_eq!(outcome(&calm), Outcome::Passed);
    let mut never = strict();
    never.app.challenge = 0;
    assert_eq!(outcome(&never), Outcome::Passed);
    // Nor is it answered to who cannot be there, though the rules about that be off.
    let first = Packet {
        fragment: Fragment::First,
        ..syn()
    };
    let martian = Packet {
        defect: Some(Reason::Martian),
        ..syn()
    };
    for packet in [first, martian] {
        assert_eq!(decide(&packet, &strict()).outcome, Outcome::Passed);
    }
}

#[test]
fn a_segment_passes_only_with_a_connection_or_the_answer_to_a_cookie() {
    let segment = acknowledging(syn());
    for (holder, outcome, verified) in [
        (Holder::Nobody, Outcome::Dropped(Reason::OutOfState), false),
        (
            Holder::Listener,
            Outcome::Dropped(Reason::OutOfState),
            false,
        ),
        (Holder::HalfOpen, Outcome::Passed, false),
        (Holder::CookieTaker, Outcome::Passed, true),
        (Holder::Connection, Outcome::Passed, true),
    ] {
        let world = World {
            holder: Some(holder),
            ..strict()
        };
        assert_eq!(decide(&segment, &world).outcome, outcome, "{holder:?}");
        assert_eq!(world.verified.get().is_some(), verified, "{holder:?}");
    }
}

/// Under the same policy, so that the lists need not be asked again.
#[test]
fn who_is_blocked_is_refused_again_without_a_look_at_the_lists() {
    let mut world = strict();
    world.app.blocklist = mode::ENFORCE;
    world.global = Some(Listed::Blocked);
    let dropped = Outcome::Dropped(Reason::Blocked);
    assert_eq!(decide(&syn(), &world).outcome, dropped);
    assert_eq!(world.refused.get(), Some(SLOT));
    world.remembered = world.refused.get();
    world.app.blocklist = mode::OFF;
    let verdict = decide(&syn(), &world);
    assert_eq!((verdict.slot, verdict.outcome), (SLOT, dropped));
    let broken = Packet {
        defect: Some(Reason::Martian),
        ..syn()
    };
    assert_ne!(decide(&broken, &world).outcome, dropped, "another rule's");
}

#[test]
fn who_is_only_watched_or_refused_by_another_rule_is_not_remembered() {
    let mut world = strict();
    world.app.blocklist = mode::MONITOR;
    world.app.allowlist = mode::ENFORCE;
    world.global = Some(Listed::Blocked);
    assert_ne!(decide(&syn(), &world).outcome, Outcome::Passed);
    assert_eq!(world.refused.get(), None);
}

#[test]
fn a_few_segments_of_no_connection_pass_where_they_may() {
    let segment = acknowledging(syn());
    let mut world = strict();
    world.app.out_of_state_above = 1000;
    assert_eq!(decide(&segment, &world).outcome, Outcome::Passed);
    assert_eq!(world.verified.get(), None, "it proves nothing");
    world.has_too_many_strays = true;
    let dropped = Outcome::Dropped(Reason::OutOfState);
    assert_eq!(decide(&segment, &world).outcome, dropped);
}

/// What each packet may differ in holds for whoever has proved himself, the rest was met before.
#[test]
fn a_flow_that_has_proved_itself_meets_signatures_and_rates_alone() {
    let segment = acknowledging(syn());
    let mut world = World {
        verified: Cell::new(Some(SLOT)),
        ..hostile(mode::ENFORCE)
    };
    let matched = Outcome::Dropped(Reason::Signature);
    assert_eq!(decide(&segment, &world).outcome, matched);
    world.app.mask_count = 0;
    world.app.session = mode::OFF;
    let over = Outcome::Dropped(Reason::PacketRate);
    assert_eq!(decide(&segment, &world).outcome, over);
    world.is_over = false;
    let passed = Verdict {
        slot: SLOT,
        outcome: Outcome::Passed,
    };
    assert_eq!(decide(&segment, &world), passed);
    for other in [
        syn(),
        Packet {
            fragment: Fragment::First,
            ..segment
        },
        Packet {
            defect: Some(Reason::TcpFlags),
            ..segment
        },
    ] {
        assert_ne!(decide(&other, &world), passed, "{other:?}");
    }
}

/// Or the rule that watches would count its first packet only.
#[test]
fn a_flow_that_is_watched_proves_nothing() {
    let mut world = World {
        global: Some(Listed::Blocked),
        holder: Some(Holder::Connection),
        ..strict()
    };
    world.app.blocklist = mode::MONITOR;
    let verdict = decide(&acknowledging(syn()), &world);
    assert_eq!(verdict.outcome, Outcome::Monitored(Reason::Blocked));
    assert_eq!(world.verified.get(), None);
}
