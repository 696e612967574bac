//! The XDP program: entry point, verdict to action.
//!
//! What happens to a packet is cut into functions that the verifier looks at one by one (global
//! functions, kernel 5.12): it follows every way through each of them, rather than every way
//! through the parser combined with every way through the policy.
#![no_std]
#![no_main]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

mod kernel;

use aya_ebpf::{
    bindings::{xdp_action, xdp_md},
    macros::xdp,
    programs::XdpContext,
};
use spectrum_ebpf::{
    parse::{Packet, parse},
    policy::decide,
    verdict::{Outcome, Verdict},
};

use kernel::{Maps, counters, events, facts, frame::FrameBytes, handshake, log, samples, vary};

#[xdp(frags)]
fn spectrum(ctx: XdpContext) -> u32 {
    run(&ctx)
}

#[inline(always)]
fn run(ctx: &XdpContext) -> u32 {
    let mut place = facts::Place::new();
    let packet = place.packet();
    read_headers(ctx.ctx, packet);
    let verdict = judge(ctx.ctx, packet);
    log::write(verdict, packet);
    match conclude(ctx.ctx, packet, verdict) {
        xdp_action::XDP_TX => answer(ctx.ctx, packet),
        action => action,
    }
}

/// Reads the headers of a frame into an empty packet. A function of its own for the sake of the stack,
/// of which the others then have more. Returns nothing of interest, but it has to.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_headers(ctx: *mut xdp_md, packet: *mut Packet) -> u32 {
    // SAFETY: the caller's packet, which is nobody else's.
    if let Some(packet) = unsafe { packet.as_mut() } {
        parse(&FrameBytes::new(&XdpContext::new(ctx)), packet);
    }
    0
}

/// Decides about a packet: the bits of a [`Verdict`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn judge(ctx: *mut xdp_md, packet: *const Packet) -> u64 {
    let ctx = XdpContext::new(ctx);
    // SAFETY: the caller's packet, which nobody changes meanwhile.
    let packet = unsafe { packet.as_ref() };
    let verdict = match (packet, Maps::new(&ctx)) {
        (Some(packet), Some(maps)) => decide(packet, &maps),
        (_, _) => Verdict::PASSED,
    };
    verdict.to_bits()
}

/// Counts a verdict, reports it, and turns it into an action.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn conclude(ctx: *mut xdp_md, packet: *const Packet, verdict: u64) -> u32 {
    let bits = verdict;
    let verdict = Verdict::from_bits(bits);
    // SAFETY: the caller's packet, which nobody changes meanwhile.
    if let Some(packet) = unsafe { packet.as_ref() } {
        if let Some(weight) = counters::count(&verdict, packet) {
            samples::send(ctx, packet.length, bits, weight);
        }
        events::report(&verdict, packet);
    }
    match verdict.outcome {
        Outcome::Passed | Outcome::Monitored(_) => xdp_action::XDP_PASS,
        Outcome::Dropped(_) => xdp_action::XDP_DROP,
        Outcome::Answered => xdp_action::XDP_TX,
    }
}

/// Prepares listeners for the answers to SYN cookies: run by the daemon on a list of them
/// (`BPF_PROG_TEST_RUN`), and never attached. Returns how many it has marked.
#[xdp]
fn mark_listeners(ctx: XdpContext) -> u32 {
    handshake::mark_listeners(&ctx)
}

/// Answers a SYN, or lets one pass that cannot be answered.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn answer(ctx: *mut xdp_md, packet: *const Packet) -> u32 {
    // SAFETY: the caller's packet, which nobody changes meanwhile.
    match unsafe { packet.as_ref() } {
        Some(packet) if handshake::answer(ctx, packet) => xdp_action::XDP_TX,
        Some(_) | None => xdp_action::XDP_PASS,
    }
}

/// What the benchmarks compare with: the cost of being called at all. Never attached, as the next
/// two.
#[xdp(frags)]
fn bare_drop(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_DROP
}

/// The same with a random source in each packet.
#[xdp(frags)]
fn bare_drop_vary(ctx: XdpContext) -> u32 {
    vary::source(&ctx);
    xdp_action::XDP_DROP
}

/// [`spectrum`] with a random source in each packet.
#[xdp(frags)]
fn spectrum_vary(ctx: XdpContext) -> u32 {
    vary::source(&ctx);
    run(&ctx)
}

/// The raw SYN-cookie helpers and a few others are for GPL-compatible programs only.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
