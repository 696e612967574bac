//! Signatures: custom rules and mitigations.

use core::borrow::Borrow;

use aya_ebpf::{
    bindings::xdp_md,
    btf_maps::{Array, PerCpuArray},
    helpers::{bpf_jiffies64, bpf_ktime_get_coarse_ns},
    macros::btf_map,
    programs::XdpContext,
};
use spectrum_common::{
    app::{App, TICK_SHIFT},
    geo::{Answers, asked_by},
    maps::size,
    signature::{Fields, SETS, SignatureHits, SignatureMask, SignatureRule, SignatureSet, action},
};
use spectrum_ebpf::{
    limits,
    parse::Packet,
    signatures::{self, Opinion, Signatures},
};

use super::{frame::FrameBytes, geo, lines::Lines};

#[btf_map(name = "sig_masks")]
static MASKS: Array<SignatureMask, { size::SIGNATURE_MASKS }> = Array::new();

#[btf_map(name = "signatures")]
static TABLE: Lines<SignatureSet, { SETS as usize }> = Lines::new();

#[btf_map(name = "sig_rules")]
static RULES: Array<SignatureRule, { size::SIGNATURES }> = Array::new();

#[btf_map(name = "sig_hits")]
static HITS: PerCpuArray<SignatureHits, { size::SIGNATURES }> = PerCpuArray::new();

#[btf_map(name = "sig_rates")]
static RATES: Array<u64, { size::SIGNATURES }> = Array::new();

/// Asks the signatures of an app.
#[inline(always)]
pub(crate) fn judge(ctx: &XdpContext, packet: &Packet, slot: u32, app: &App) -> Opinion {
    Opinion::from_bits(match_signatures(ctx.ctx, packet, slot, app))
}

/// The bits of an [`Opinion`]. A function of its own to the verifier.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn match_signatures(
    ctx: *mut xdp_md,
    packet: *const Packet,
    slot: u32,
    app: *const App,
) -> u64 {
    let ctx = XdpContext::new(ctx);
    // SAFETY: the caller's packet and an element of an array, which is never freed.
    let (packet, app) = unsafe { (packet.as_ref(), app.as_ref()) };
    let opinion = match (packet, app) {
        (Some(packet), Some(app)) => {
            let mut maps = SignatureMaps {
                answers: Answers::default(),
            };
            if app.geo & asked_by::RULES != 0 {
                geo::find_answers(&packet.source, &mut maps.answers);
            }
            signatures::judge(&maps, &FrameBytes::new(&ctx), packet, slot, app)
        }
        (_, _) => Opinion::NONE,
    };
    opinion.to_bits()
}

/// See [`signatures::examine`]. A function of its own to the verifier, which would otherwise follow
/// every way through a rule for each place of each set of each mask.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn examine_rule(
    index: u32,
    mask: u32,
    key: *const Fields,
    packet: *const Packet,
    answers: *const Answers,
) -> u64 {
    // SAFETY: the callers' key, packet and answers, which nobody changes meanwhile.
    let (key, packet, answers) = unsafe { (key.as_ref(), packet.as_ref(), answers.as_ref()) };
    match (key, packet, answers) {
        (Some(key), Some(packet), Some(&answers)) => {
            signatures::examine(&SignatureMaps { answers }, index, mask, key, packet)
        }
        (_, _, _) => 0,
    }
}

/// The maps above, for one packet.
struct SignatureMaps {
    answers: Answers,
}

impl Signatures for SignatureMaps {
    #[inline(always)]
    fn mask(&self, index: u32) -> Option<impl Borrow<SignatureMask>> {
        MASKS.get(index)
    }

    #[inline(always)]
    fn set(&self, index: u32) -> Option<impl Borrow<SignatureSet>> {
        TABLE.get(index)
    }

    #[inline(always)]
    fn rule(&self, index: u32) -> Option<impl Borrow<SignatureRule>> {
        RULES.get(index)
    }

    #[inline(always)]
    fn now_ns(&self) -> u64 {
        // SAFETY: the helper takes no arguments.
        unsafe { bpf_ktime_get_coarse_ns() }
    }

    #[inline(always)]
    fn answers(&self) -> &Answers {
        &self.answers
    }

    #[inline(always)]
    fn examine(&self, index: u32, mask: u32, key: &Fields, packet: &Packet) -> u64 {
        examine_rule(index, mask, key, packet, &self.answers)
    }

    #[inline(always)]
    fn hit(&self, index: u32, rule: &SignatureRule, packet: &Packet) -> bool {
        let Some(hits) = HITS.get_ptr_mut(index) else {
            return true;
        };
        // SAFETY: the element is this CPU's own.
        let hits = unsafe { &mut *hits };
        hits.packets += 1;
        hits.bytes += u64::from(packet.length);
        if rule.action != action::RATE_LIMIT {
            return true;
        }
        let is_within = take(index, rule);
        if !is_within {
            hits.limited += 1;
        }
        is_within
    }
}

/// Charges a packet to the rate of a rule.
#[inline(always)]
fn take(index: u32, rule: &SignatureRule) -> bool {
    let Some(due) = RATES.get_ptr_mut(index) else {
        return true;
    };
    // SAFETY: the helper takes no arguments.
    let now = unsafe { bpf_jiffies64() } << TICK_SHIFT;
    // SAFETY: an element of an array is never freed. Other CPUs write to it as well; of two that
    // charge at once, one may be forgotten.
    limits::pass(unsafe { &mut *due }, &rule.rate, now)
}
