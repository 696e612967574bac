//! The layouts hold no padding and keep the sizes that the maps were pinned with.

use core::mem::size_of;
use std::net::IpAddr;

use crate::{
    access::Line,
    address::Address,
    app::{App, RateLimit},
    ceiling::{Bound, Ceiling, CeilingShare, CeilingUse},
    counters::{AppCounters, Counter},
    edge::{Edge, EdgeSet, PortPage, PortSet},
    event::{DropEvent, EventBudget},
    flow::{Flow, FlowSet},
    forward::{Forward, ForwardCounters, ForwardLease, ForwardLine},
    geo::Answers,
    handshake::{Handshake, Listener},
    maps,
    proven::ProvenSet,
    reason::{ByReason, Reason},
    refusal::Refusal,
    sample::Sample,
    settings::Settings,
    signature::{Fields, SignatureHits, SignatureMask, SignatureRule, SignatureSet},
    source::{Source, SourceSet},
    surge::Surge,
};

/// A size that changes is a change of the ABI: raise `ABI_VERSION` with it.
#[test]
fn sizes_are_the_sum_of_the_fields() {
    assert_eq!(size_of::<Address>(), 16);
    assert_eq!(size_of::<Line>(), 64);
    assert_eq!(size_of::<Answers>(), 2 * 8);
    assert_eq!(size_of::<RateLimit>(), 8 + 8 + 4 + 4);
    assert_eq!(size_of::<Bound>(), 3 * 8);
    assert_eq!(size_of::<Ceiling>(), 4 + 4 + 3 * 24);
    assert_eq!(
        size_of::<App>(),
        16 + 10 * 4 + 2 * 24 + 16 + 4 + 4 + 80 + 16 + 4 * 4 + 4 * 4 + 2 * 4
    );
    assert_eq!(size_of::<CeilingUse>(), 64);
    assert_eq!(size_of::<CeilingShare>(), 3 * 8);
    assert_eq!(size_of::<ProvenSet>(), 64);
    assert_eq!(size_of::<Counter>(), 16);
    assert_eq!(size_of::<ByReason<Counter>>(), 16 * Reason::ALL.len());
    assert_eq!(
        size_of::<AppCounters>(),
        16 * (2 + 2 * Reason::ALL.len()) + 8
    );
    assert_eq!(size_of::<Edge>(), 4 * 4);
    assert_eq!(size_of::<EdgeSet>(), 4 * (16 + 16));
    assert_eq!(size_of::<PortPage>(), 512);
    assert_eq!(size_of::<PortSet>(), 8192);
    assert_eq!(size_of::<DropEvent>(), 8 + 8 + 16 + 16 + 2 + 2 + 5 * 4);
    assert_eq!(size_of::<EventBudget>(), 6 * 8);
    assert_eq!(size_of::<Sample>(), 8 + 5 * 4 + 2 * 2 + 128);
    assert_eq!(size_of::<Settings>(), 10 * 4);
    assert_eq!(size_of::<Source>(), 16 + 4 + 4 + 5 * 8);
    assert_eq!(size_of::<Flow>(), 2 * 8);
    assert_eq!(size_of::<FlowSet>(), 4 * 16);
    assert_eq!(size_of::<ForwardLine>(), 64);
    assert_eq!(size_of::<Forward>(), 128);
    assert_eq!(size_of::<ForwardLease>(), 8);
    assert_eq!(size_of::<ForwardCounters>(), 10 * 8);
    assert_eq!(size_of::<Refusal>(), 2 * 16 + 4 * 4);
    assert_eq!(size_of::<Surge>(), 4 * 8);
    assert_eq!(size_of::<Handshake>(), 8 + 6 * 4);
    assert_eq!(size_of::<Listener>(), 16 + 2 * 4);
    assert_eq!(size_of::<SourceSet>(), 4 * 4 + 4 * 4 + 4 * 8 + 4 * 64);
    assert_eq!(size_of::<Fields>(), 4 * 8);
    assert_eq!(size_of::<SignatureMask>(), 32 + 2 * 4);
    assert_eq!(size_of::<SignatureSet>(), 4 * 4 + 4 * 4);
    assert_eq!(
        size_of::<SignatureRule>(),
        32 + 5 * 4 + 3 * 4 + 2 + 2 + 4 + 8 + 24
    );
    assert_eq!(size_of::<SignatureHits>(), 3 * 8);
}

#[test]
fn a_reason_is_its_number_its_name_and_its_field() {
    let mut fields = ByReason::<u32>::default();
    assert!(Reason::ALL.is_sorted_by(|a, b| (*a as u32) < *b as u32));
    for &reason in Reason::ALL {
        assert_eq!(Reason::try_from(reason as u32), Ok(reason));
        *fields.get_mut(reason) = reason as u32;
    }
    for &reason in Reason::ALL {
        assert_eq!(*fields.get(reason), reason as u32, "{}", reason.name());
    }
    let unknown = Reason::ALL.last().map_or(0, |&last| last as u32 + 1);
    assert_eq!(Reason::try_from(unknown), Err(unknown));
}

#[test]
fn addresses_survive_the_round_trip() {
    for text in ["192.0.2.1", "::", "2001:db8::1", "255.255.255.255"] {
        let ip: IpAddr = text.parse().expect(text);
        let address = Address::from(ip);
        assert_eq!(IpAddr::from(address), ip);
        assert_eq!(address.is_ipv4(), ip.is_ipv4());
    }
    let address = Address::from("192.0.2.1".parse::<IpAddr>().expect("an address"));
    assert_eq!(address.low_bits(), 0xc000_0201);
    let address = Address::from("2001:db8:1:2::3".parse::<IpAddr>().expect("an address"));
    assert_eq!(address.high_bits(), 0x2001_0db8_0001_0002);
    assert_eq!(address, Address::from_ipv6_be(address.halves_be));
}

#[test]
fn the_kernel_keeps_every_name_whole() {
    for name in maps::PINNED {
        assert!(name.len() <= 15, "{name}");
    }
}
