//! A rule that has no place, or the place of another, protects nobody.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use spectrum_common::{
    app::mode,
    signature::{Fields, action, origin},
};

use super::*;

/// A rule of the app at `scope` for packets of one length.
fn rule(scope: u64, length: u64, order: u32) -> Signature {
    let endpoint = if scope == 0 { 0 } else { 0xffff << 48 };
    Signature {
        mask: SignatureMask {
            fields: Fields {
                endpoint,
                header: 0xffff << 48,
                payload: [0; 2],
            },
            ..SignatureMask::default()
        },
        rule: SignatureRule {
            key: Fields {
                endpoint: scope << 48,
                header: length << 48,
                payload: [0; 2],
            },
            order,
            action: action::DROP,
            origin: origin::DOCUMENT,
            mode: mode::ENFORCE,
            ..SignatureRule::default()
        },
    }
}

/// What the maps hold after `placed` has been written.
fn written(placed: &Placed) -> BTreeMap<u32, Signature> {
    let with_mask = |(&index, &rule): (&u32, &SignatureRule)| {
        let mask = placed.masks.get(&rule.mask).copied().expect("a mask");
        (index, Signature { mask, rule })
    };
    placed.rules.iter().map(with_mask).collect()
}

#[test]
fn rules_that_look_at_the_same_share_a_mask() {
    let wanted = [
        rule(1, 100, 0),
        rule(1, 200, 1),
        rule(2, 100, 2),
        rule(0, 100, 3),
    ];
    let placed = Placed::new(&BTreeMap::new(), &wanted).expect("room");
    assert_eq!(
        placed.masks.len(),
        2,
        "one of the apps' rules, one of the host's"
    );
    let count = |slot| placed.masks_of(slot).expect("few").1;
    assert_eq!([count(1), count(2), count(3)], [2, 2, 1]);
}

#[test]
fn a_rule_keeps_its_place_and_no_other_takes_it_at_once() {
    let first = Placed::new(&BTreeMap::new(), &[rule(1, 100, 0), rule(1, 200, 1)]).expect("room");
    let before = written(&first);
    let second = Placed::new(&before, &[rule(1, 300, 2), rule(1, 200, 1)]).expect("room");
    let place = |placed: &Placed, order| {
        let mut rules = placed.rules.iter();
        rules
            .find(|(_, rule)| rule.order == order)
            .map(|(index, _)| *index)
    };
    assert_eq!(place(&first, 1), place(&second, 1));
    assert_ne!(place(&first, 0), place(&second, 2));

    let mut changed = rule(1, 200, 1);
    changed.rule.mode = mode::MONITOR;
    let third = Placed::new(&written(&second), &[changed]).expect("room");
    assert_eq!(
        place(&second, 1),
        place(&third, 1),
        "another mode is the same rule"
    );
    let emptied = third.sets_to_write(second.rules.values());
    assert!(
        emptied.len() >= 2,
        "the set of the rule that is gone is written too"
    );
}

#[test]
fn more_than_there_is_room_for_is_an_error_with_a_remedy() {
    let many: Vec<_> = (0..600).map(|n| rule(1, n, 0)).collect();
    let ranges: Vec<_> = (0..5).map(|order| rule(1, 100, order)).collect();
    for (wanted, remedy) in [(many, "remove some"), (ranges, "nothing but ranges")] {
        let error = Placed::new(&BTreeMap::new(), &wanted).err();
        let text = error.expect("no room").to_string();
        assert!(text.contains(remedy), "{text}");
    }
    let masks: Vec<_> = (0..17)
        .map(|bit| {
            let mut signature = rule(1, 0, bit);
            signature.mask.fields.header = 1 << bit;
            signature
        })
        .collect();
    let placed = Placed::new(&BTreeMap::new(), &masks).expect("room");
    assert!(placed.masks_of(1).is_err(), "17 masks for one app");
    assert_eq!(placed.masks_of(2).expect("none").1, 0);
}
