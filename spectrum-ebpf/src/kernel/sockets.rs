//! Is somebody on this host waiting for a packet?

use aya_ebpf::{
    EbpfContext as _,
    bindings::{
        BPF_F_CURRENT_NETNS, bpf_sock_tuple, bpf_sock_tuple__bindgen_ty_1,
        bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1, bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2,
    },
    helpers::{bpf_sk_lookup_udp, bpf_sk_release, bpf_skc_lookup_tcp},
    programs::XdpContext,
};
use spectrum_ebpf::parse::{Packet, protocol};

/// The network namespace of the interface.
const NAMESPACE: u64 = BPF_F_CURRENT_NETNS as u64;

/// Does a local socket match the packet?
#[inline(always)]
pub(crate) fn wants(ctx: &XdpContext, packet: &Packet) -> bool {
    let (mut tuple, size) = tuple(packet);
    let socket = if packet.protocol == protocol::TCP {
        // SAFETY: `ctx` is the context of the running program; the tuple lives on the stack, and
        // `size` says which of its two forms it has.
        unsafe { bpf_skc_lookup_tcp(ctx.as_ptr(), &mut tuple, size, NAMESPACE, 0) }
    } else {
        // SAFETY: as above.
        unsafe { bpf_sk_lookup_udp(ctx.as_ptr(), &mut tuple, size, NAMESPACE, 0) }
    };
    if socket.is_null() {
        return false;
    }
    // SAFETY: the lookup took a reference, which is given back here, and not used again.
    unsafe { bpf_sk_release(socket.cast()) };
    true
}

/// The packet's addresses and ports as the helpers want them, and the size of that form.
#[inline(always)]
fn tuple(packet: &Packet) -> (bpf_sock_tuple, u32) {
    let sport = packet.source_port.to_be();
    let dport = packet.destination_port.to_be();
    let [.., source] = packet.source.words_be;
    let [.., destination] = packet.destination.words_be;
    let (form, size) = if packet.source.is_ipv4() {
        let ipv4 = bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1 {
            saddr: source,
            daddr: destination,
            sport,
            dport,
        };
        (bpf_sock_tuple__bindgen_ty_1 { ipv4 }, size_of_val(&ipv4))
    } else {
        let ipv6 = bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2 {
            saddr: packet.source.words_be,
            daddr: packet.destination.words_be,
            sport,
            dport,
        };
        (bpf_sock_tuple__bindgen_ty_1 { ipv6 }, size_of_val(&ipv6))
    };
    let tuple = bpf_sock_tuple {
        __bindgen_anon_1: form,
    };
    #[expect(clippy::cast_possible_truncation, reason = "at most 36")]
    let size = size as u32;
    (tuple, size)
}
