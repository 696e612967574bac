//! Is somebody on this host waiting for a packet?

use aya_ebpf::{
    EbpfContext as _,
    bindings::{BPF_F_CURRENT_NETNS, bpf_sock, bpf_sock_tuple, xdp_md},
    helpers::{
        bpf_sk_lookup_udp, bpf_sk_release, bpf_skc_lookup_tcp, bpf_tcp_check_syncookie,
        bpf_tcp_gen_syncookie,
    },
    programs::XdpContext,
};
use spectrum_ebpf::{
    answer::TCP_HEADER_LENGTH,
    parse::{Packet, protocol},
    tables::Holder,
};

use super::{
    frame::FrameBytes,
    headers::{FixedHeader, IpHeader},
};

/// The network namespace of the interface.
const NAMESPACE: u64 = BPF_F_CURRENT_NETNS as u64;

/// States of a socket that matter here (`enum` in linux/tcp_states.h).
mod state {
    pub(super) const SYN_SENT: u32 = 2;
    pub(super) const SYN_RECEIVED: u32 = 3;
    pub(super) const TIME_WAIT: u32 = 6;
    pub(super) const LISTEN: u32 = 10;
    pub(super) const NEW_SYN_RECEIVED: u32 = 12;
}

/// Does a local socket match the packet?
#[inline(always)]
pub(crate) fn wants(ctx: &XdpContext, packet: &Packet) -> bool {
    let mut tuple = Tuple::of(packet);
    let socket = if packet.protocol == protocol::TCP {
        // SAFETY: `ctx` is the context of the running program; the tuple lives on the stack, and
        // is as long as it says.
        unsafe { bpf_skc_lookup_tcp(ctx.as_ptr(), tuple.as_mut_ptr(), tuple.length, NAMESPACE, 0) }
    } else {
        // SAFETY: as above.
        unsafe { bpf_sk_lookup_udp(ctx.as_ptr(), tuple.as_mut_ptr(), tuple.length, NAMESPACE, 0) }
    };
    if socket.is_null() {
        return false;
    }
    // SAFETY: the lookup took a reference, which is given back here, and not used again.
    unsafe { bpf_sk_release(socket.cast()) };
    true
}

/// What this host knows of a TCP segment.
#[inline(always)]
pub(crate) fn holder(ctx: &XdpContext, packet: &Packet) -> Holder {
    const LISTENER: u32 = Holder::Listener as u32;
    const COOKIE_TAKER: u32 = Holder::CookieTaker as u32;
    const HALF_OPEN: u32 = Holder::HalfOpen as u32;
    const CONNECTION: u32 = Holder::Connection as u32;
    match find_holder(ctx.ctx, packet) {
        LISTENER => Holder::Listener,
        COOKIE_TAKER => Holder::CookieTaker,
        HALF_OPEN => Holder::HalfOpen,
        CONNECTION => Holder::Connection,
        _ => Holder::Nobody,
    }
}

/// The number of a [`Holder`]. A function of its own to the verifier.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn find_holder(ctx: *mut xdp_md, packet: *const Packet) -> u32 {
    // SAFETY: the caller's packet, which nobody changes meanwhile.
    let Some(packet) = (unsafe { packet.as_ref() }) else {
        return Holder::Nobody as u32;
    };
    let ctx = XdpContext::new(ctx);
    let mut tuple = Tuple::of(packet);
    // SAFETY: `ctx` is the context of the running program; the tuple lives on the stack, and is as
    // long as it says.
    let socket =
        unsafe { bpf_skc_lookup_tcp(ctx.as_ptr(), tuple.as_mut_ptr(), tuple.length, NAMESPACE, 0) };
    if socket.is_null() {
        return Holder::Nobody as u32;
    }
    // SAFETY: a socket, to which the lookup took a reference.
    let holder = match unsafe { (*socket).state } {
        state::LISTEN if takes_cookie(&ctx, packet, socket) => Holder::CookieTaker,
        state::LISTEN => Holder::Listener,
        state::SYN_SENT | state::SYN_RECEIVED | state::NEW_SYN_RECEIVED | state::TIME_WAIT => {
            Holder::HalfOpen
        }
        _ => Holder::Connection,
    };
    // SAFETY: the reference is given back here, and not used again.
    unsafe { bpf_sk_release(socket.cast()) };
    holder as u32
}

/// Will this listener take the segment as the answer to a cookie of ours or of the kernel's? The
/// kernel itself says so: the listener must have overflowed, or been marked so, a short while ago.
#[inline(always)]
fn takes_cookie(ctx: &XdpContext, packet: &Packet, listener: *mut bpf_sock) -> bool {
    let frame = FrameBytes::new(ctx);
    let network = packet.network_offset.into();
    if packet.source.is_ipv4() {
        checks::<{ IpHeader::IPV4_LENGTH as usize }>(&frame, network, packet, listener)
    } else {
        checks::<{ IpHeader::IPV6_LENGTH as usize }>(&frame, network, packet, listener)
    }
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "20 or 40")]
fn checks<const IP_LENGTH: usize>(
    frame: &FrameBytes<'_>,
    network: usize,
    packet: &Packet,
    listener: *mut bpf_sock,
) -> bool {
    let tcp = frame.pointer::<TCP_HEADER_LENGTH>(packet.transport_offset.into());
    let (Some(ip), Some(tcp)) = (frame.pointer::<IP_LENGTH>(network), tcp) else {
        return false;
    };
    // SAFETY: the headers lie in the frame, as just checked; the socket is referenced.
    let checked = unsafe {
        bpf_tcp_check_syncookie(
            listener.cast(),
            ip,
            IP_LENGTH as u32,
            tcp.cast(),
            TCP_HEADER_LENGTH as u32,
        )
    };
    checked == 0
}

/// Makes a listener take answers to cookies for the next two minutes: the kernel remembers that it
/// has sent one from there. Says whether it did.
#[inline(always)]
pub(crate) fn mark_listener(ctx: &XdpContext, packet: &Packet) -> bool {
    let mut tuple = Tuple::of(packet);
    // SAFETY: as in `find_holder`.
    let socket =
        unsafe { bpf_skc_lookup_tcp(ctx.as_ptr(), tuple.as_mut_ptr(), tuple.length, NAMESPACE, 0) };
    if socket.is_null() {
        return false;
    }
    let mut ip = IpHeader::of(&packet.source, &packet.destination);
    let mut tcp = FixedHeader::zeroed();
    tcp.set_syn(packet);
    // SAFETY: both headers lie on the stack, and are as long as said; the socket is referenced.
    let cookie = unsafe {
        bpf_tcp_gen_syncookie(
            socket.cast(),
            ip.as_mut_ptr(),
            ip.length(),
            tcp.as_mut_ptr(),
            tcp.length(),
        )
    };
    // SAFETY: the reference is given back here, and not used again.
    unsafe { bpf_sk_release(socket.cast()) };
    cookie >= 0
}

/// The packet's addresses and ports as the helpers want them: `struct bpf_sock_tuple`, which has a form
/// for each family. All of its words are written, whatever the form: the verifier wants to see it.
#[repr(C, align(8))]
struct Tuple {
    words: [u32; 9],
    /// Bytes of the form.
    length: u32,
}

impl Tuple {
    #[inline(always)]
    fn of(packet: &Packet) -> Self {
        let [s0, s1, s2, s3] = packet.source.words_be();
        let [d0, d1, d2, d3] = packet.destination.words_be();
        let ports = u32::from(packet.source_port) << 16 | u32::from(packet.destination_port);
        let ports = ports.to_be();
        if packet.source.is_ipv4() {
            Self {
                words: [s3, d3, ports, 0, 0, 0, 0, 0, 0],
                length: 3 * 4,
            }
        } else {
            Self {
                words: [s0, s1, s2, s3, d0, d1, d2, d3, ports],
                length: 9 * 4,
            }
        }
    }

    #[inline(always)]
    fn as_mut_ptr(&mut self) -> *mut bpf_sock_tuple {
        self.words.as_mut_ptr().cast()
    }
}
