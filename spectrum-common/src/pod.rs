//! Permission for aya to copy the layouts from and to maps.

use crate::{
    access::{AccessEntry, AccessKey},
    address::Address,
    app::App,
    ceiling::{CeilingShare, CeilingUse},
    counters::AppCounters,
    edge::{Edge, PortPage, PortSet},
    event::{DropEvent, EventBudget},
    proven::ProvenSet,
    sample::Sample,
    settings::Settings,
    signature::{SignatureHits, SignatureMask, SignatureRule, SignatureSet},
    source::SourceSet,
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
    AccessEntry,
    AccessKey,
    Address,
    App,
    AppCounters,
    CeilingShare,
    CeilingUse,
    DropEvent,
    Edge,
    EventBudget,
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
);
