//! The XDP program: entry point, verdict to action.
//!
//! What nearly every packet meets is one function: a call costs as much as several look-ups. What is
//! heavy or rare is in functions that the verifier looks at one by one (global functions, kernel 5.12).
#![no_std]
#![no_main]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

mod kernel;

use aya_ebpf::{
    bindings::{xdp_action, xdp_md},
    macros::xdp,
    programs::XdpContext,
};
use spectrum_common::app::HOST_SLOT;
use spectrum_ebpf::{
    parse::{Packet, parse},
    policy::decide,
    verdict::{Outcome, Verdict},
};

use kernel::{
    Maps, counters, events, facts, forwards, frame::FrameBytes, handshake, log, samples, vary,
};

#[xdp(frags)]
fn spectrum(ctx: XdpContext) -> u32 {
    run(&ctx)
}

#[inline(always)]
fn run(ctx: &XdpContext) -> u32 {
    let (Some(packet), Some(maps)) = (facts::packet(), Maps::new(ctx)) else {
        return xdp_action::XDP_PASS;
    };
    parse(&FrameBytes::new(ctx), packet);
    let packet = facts::read(packet);
    let verdict = decide(packet, &maps);
    log::write(verdict.to_bits(), packet);
    conclude(ctx, packet, verdict)
}

/// Counts a verdict, reports it, and turns it into an action.
#[inline(always)]
fn conclude(ctx: &XdpContext, packet: &Packet, verdict: Verdict) -> u32 {
    if let Some(weight) = counters::count(&verdict, packet) {
        samples::send(ctx.ctx, packet.length, verdict.to_bits(), weight);
    }
    events::report(&verdict, packet);
    match verdict.outcome {
        Outcome::Passed | Outcome::Monitored(_) if forwards::may_carry(packet, verdict.slot) => {
            forwards::carry_on(ctx.ctx, packet)
        }
        Outcome::Passed | Outcome::Monitored(_) => xdp_action::XDP_PASS,
        Outcome::Dropped(_) => xdp_action::XDP_DROP,
        Outcome::Answered => answer(ctx.ctx, packet),
    }
}

/// Carries datagrams of known UDP flows past the proxy, and lets all else pass: for interfaces that
/// are not shielded, where origins answer.
#[xdp(frags)]
fn carry(ctx: XdpContext) -> u32 {
    let Some(packet) = facts::packet() else {
        return xdp_action::XDP_PASS;
    };
    parse(&FrameBytes::new(&ctx), packet);
    let packet = facts::read(packet);
    if forwards::may_carry(packet, HOST_SLOT) {
        forwards::carry_on(ctx.ctx, packet)
    } else {
        xdp_action::XDP_PASS
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
/// three.
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

/// [`spectrum`] with a SYN in place of its last answer.
#[xdp(frags)]
fn spectrum_again(ctx: XdpContext) -> u32 {
    vary::answer(&ctx);
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
