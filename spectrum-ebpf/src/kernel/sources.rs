//! What each source has sent of late.

use aya_ebpf::{helpers::bpf_jiffies64, macros::btf_map};
use spectrum_common::{
    app::App,
    source::{SETS, SourceSet},
};
use spectrum_ebpf::{
    limits::{self, Account, Admission},
    parse::Packet,
};

use super::{lines::Lines, settings};

#[btf_map(name = "sources")]
static SOURCES: Lines<SourceSet, { SETS as usize }> = Lines::new();

/// Charges a packet to its source at an app.
#[inline(always)]
pub(crate) fn admit(packet: &Packet, slot: u32, app: &App) -> Admission {
    let over = charge(packet, slot, app);
    Admission {
        over_packet_rate: over & OVER_PACKET_RATE != 0,
        over_syn_rate: over & OVER_SYN_RATE != 0,
    }
}

const OVER_PACKET_RATE: u32 = 1;
const OVER_SYN_RATE: u32 = 2;

/// The limits that the packet is over, as bits. A function of its own to the verifier.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn charge(packet: *const Packet, slot: u32, app: *const App) -> u32 {
    // SAFETY: the caller's packet and an element of an array, which is never freed.
    let (packet, app) = unsafe { (packet.as_ref(), app.as_ref()) };
    let (Some(packet), Some(app), Some(settings)) = (packet, app, settings::get()) else {
        return 0;
    };
    let account = Account::new(&packet.source, slot, settings.hash_seed);
    let Some(set) = SOURCES.get_ptr_mut(account.set_index()) else {
        return 0;
    };
    // SAFETY: an element of an array is never freed. Other CPUs write to it as well; the words
    // they mix up are counts and clocks, whose every value is valid.
    let set = unsafe { &mut *set };
    // SAFETY: the helper takes no arguments.
    let jiffies = unsafe { bpf_jiffies64() };
    let admission = limits::admit(set, &account, packet, app, jiffies);
    let mut over = 0;
    if admission.over_packet_rate {
        over |= OVER_PACKET_RATE;
    }
    if admission.over_syn_rate {
        over |= OVER_SYN_RATE;
    }
    over
}
