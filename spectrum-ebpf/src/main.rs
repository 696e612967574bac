//! The XDP program: entry point, verdict to action.
#![no_std]
#![no_main]

use aya_ebpf::{
    bindings::xdp_action,
    btf_maps::Array,
    macros::{btf_map, xdp},
    programs::XdpContext,
};
use spectrum_common::settings::Settings;

#[btf_map(name = "settings")]
static SETTINGS: Array<Settings, 1> = Array::new();

#[xdp(frags)]
fn spectrum(_ctx: XdpContext) -> u32 {
    match SETTINGS.get(0) {
        Some(_) => xdp_action::XDP_PASS,
        None => xdp_action::XDP_ABORTED,
    }
}

/// The raw SYN-cookie helpers and a few others are for GPL-compatible programs only.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
