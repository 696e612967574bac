//! Permission for aya to copy the layouts from and to maps.

use crate::{
    access::{AccessEntry, AccessKey},
    address::Address,
    app::App,
    counters::AppCounters,
    edge::{Edge, PortPage, PortSet},
    event::{DropEvent, EventBudget},
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
    DropEvent,
    Edge,
    EventBudget,
    PortPage,
    PortSet,
    Settings,
    SignatureHits,
    SignatureMask,
    SignatureRule,
    SignatureSet,
    SourceSet,
);
