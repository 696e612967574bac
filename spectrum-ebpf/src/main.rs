//! The XDP program: entry point, verdict to action.
#![no_std]
#![no_main]

mod kernel;

use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};
use spectrum_ebpf::{packet::Bytes as _, parse::parse, policy::decide, verdict::Outcome};

use kernel::{Maps, counters, events, frame::FrameBytes};

#[xdp(frags)]
fn spectrum(ctx: XdpContext) -> u32 {
    let Some(maps) = Maps::new(&ctx) else {
        return xdp_action::XDP_PASS;
    };
    let bytes = FrameBytes::new(&ctx);
    let frame = parse(&bytes);
    let verdict = decide(&frame, bytes.length(), &maps);
    counters::count(&verdict, bytes.length());
    events::report(&verdict, &frame, bytes.length(), maps.settings);
    match verdict.outcome {
        Outcome::Passed | Outcome::Monitored(_) => xdp_action::XDP_PASS,
        Outcome::Dropped(_) => xdp_action::XDP_DROP,
    }
}

/// What the benchmarks subtract: the cost of being called at all. Never attached.
#[xdp(frags)]
fn bare_drop(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_DROP
}

/// The raw SYN-cookie helpers and a few others are for GPL-compatible programs only.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
