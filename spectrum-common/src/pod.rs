//! Permission for aya to copy the layouts from and to maps.

use crate::{
    access::Line,
    app::App,
    ceiling::{CeilingShare, CeilingUse},
    counters::AppCounters,
    edge::{EdgeSet, PortPage, PortSet},
    event::{DropEvent, EventBudget},
    flow::FlowSet,
    forward::{Forward, ForwardCounters, ForwardLease, ForwardLine},
    handshake::Handshake,
    proven::ProvenSet,
    sample::Sample,
    settings::Settings,
    signature::{SignatureHits, SignatureMask, SignatureRule, SignatureSet},
    source::SourceSet,
    surge::Surge,
};

macro_rules! pod {
    ($($layout:ty),* $(,)?) => {
        $(
            // SAFETY: `repr(C)`, integers only, no padding (`layout_test`), every bit pattern valid.
            unsafe impl aya::Pod for $layout {}
        )*
    };
}

pod!(
    App,
    AppCounters,
    CeilingShare,
    CeilingUse,
    DropEvent,
    EdgeSet,
    EventBudget,
    FlowSet,
    Forward,
    ForwardCounters,
    ForwardLease,
    ForwardLine,
    Handshake,
    Line,
    PortPage,
    PortSet,
    ProvenSet,
    Sample,
    Settings,
    SignatureHits,
    SignatureMask,
    SignatureRule,
    SignatureSet,
    SourceSet,
    Surge,
);
