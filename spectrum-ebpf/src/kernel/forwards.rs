//! UDP datagrams that go past the proxy.

use core::arch::asm;

use aya_ebpf::{
    EbpfContext as _,
    bindings::{
        BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_SUCCESS,
        bpf_fib_lookup as FibLookup, xdp_action, xdp_md,
    },
    btf_maps::{Array, DevMapHash, PerCpuArray},
    helpers::{bpf_fib_lookup, bpf_ktime_get_coarse_ns},
    macros::btf_map,
    programs::XdpContext,
};
use spectrum_common::{
    app::HOST_SLOT,
    forward::{FLOWS, Forward, ForwardCounters, ForwardLease, ForwardLine, LINES, PORTS},
};
use spectrum_ebpf::{
    forward::{self, Headers, IPV4_LENGTH, IPV6_LENGTH, Left, NETWORK, Place, UDP_LENGTH},
    packet::{Bytes as _, Window as _},
    parse::{Packet, protocol},
};

use super::{apps, frame::FrameBytes, lines::Lines, settings};

#[btf_map(name = "forward_lines")]
static FORWARD_LINES: Lines<ForwardLine, { LINES as usize }> = Lines::new();

#[btf_map(name = "forwards")]
static FORWARDS: Lines<Forward, FLOWS> = Lines::new();

#[btf_map(name = "forward_lease")]
static LEASE: Array<ForwardLease, 1> = Array::new();

#[btf_map(name = "forward_ports")]
static FORWARD_PORTS: DevMapHash<PORTS> = DevMapHash::new();

#[btf_map(name = "forward_counts")]
static COUNTS: PerCpuArray<ForwardCounters, 1> = PerCpuArray::new();

/// Routes are looked up as the host's own sockets have them: as if packets came from the loopback
/// interface, which has this index in every namespace (`LOOPBACK_IFINDEX`). What is asked of the
/// interface, that it forwards, is then asked of that one: a host need not forward to others.
const LOOPBACK: u32 = 1;

/// `AF_INET` and `AF_INET6`.
const FAMILIES: (u8, u8) = (2, 10);

/// May the packet, of whose app at `slot` the rules let it pass, belong to a flow that is carried?
#[inline(always)]
pub(crate) fn may_carry(packet: &Packet, slot: u32) -> bool {
    packet.protocol == protocol::UDP
        && LEASE.get(0).is_some_and(|lease| lease.until_ns != 0)
        && (slot == HOST_SLOT || apps::app(slot).is_some_and(|app| app.forwards != 0))
}

/// Carries a datagram on, if it belongs to a flow that the daemon has noted and the kernel knows a
/// way. If not, it passes as it is, to the proxy's socket. Returns the action. A function of its own
/// to the verifier.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn carry_on(ctx: *mut xdp_md, packet: *const Packet) -> u32 {
    // SAFETY: the caller's packet, which nobody changes meanwhile.
    let (Some(packet), Some(counts)) = (unsafe { packet.as_ref() }, COUNTS.get_ptr_mut(0)) else {
        return xdp_action::XDP_PASS;
    };
    // SAFETY: the element is this CPU's own.
    let counts = unsafe { &mut *counts };
    let (Some(found), Some(now)) = (find(packet), leased()) else {
        return xdp_action::XDP_PASS;
    };
    // SAFETY: an element of an array, which is never freed; what is read of it does not change while a
    // line leads to it, and for a second after.
    let forward = unsafe { &*found };
    let ctx = XdpContext::new(ctx);
    let sent =
        forward::admit(forward, arrived_at(&ctx), now).and_then(|()| send(&ctx, packet, forward));
    forward::count(counts, sent.err());
    match sent {
        Ok(()) => {
            note(found, packet, now);
            return xdp_action::XDP_REDIRECT;
        }
        Err(Left::Renewal) => {
            // SAFETY: a place within an element of an array, which is never freed.
            unsafe { (&raw mut (*found).renewed_ns).write_volatile(now) };
        }
        Err(_) => {}
    }
    xdp_action::XDP_PASS
}

/// The index of the interface that the packet came by.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the kernel has 32 bits of it"
)]
fn arrived_at(ctx: &XdpContext) -> u32 {
    ctx.ingress_ifindex() as u32
}

/// The flow of a packet.
#[inline(always)]
fn find(packet: &Packet) -> Option<*mut Forward> {
    let place = Place::of(packet, settings::get()?.hash_seed);
    let index = place.find(FORWARD_LINES.get(place.line_index())?)?;
    let found = FORWARDS.get_ptr_mut(index)?;
    // SAFETY: as above; should another flow be written there at this moment, no address is its own yet
    // that was the packet's.
    forward::is_of(packet, unsafe { &*found }).then_some(found)
}

/// The time, if the daemon is there.
#[inline(always)]
fn leased() -> Option<u64> {
    // SAFETY: the helper takes no arguments.
    let now = unsafe { bpf_ktime_get_coarse_ns() };
    (now < LEASE.get(0)?.until_ns).then_some(now)
}

/// Rewrites the frame and chooses where it leaves, or says why not; it is as it was then.
#[inline(always)]
fn send(ctx: &XdpContext, packet: &Packet, forward: &Forward) -> Result<(), Left> {
    let frame = FrameBytes::new(ctx);
    if !forward::is_plain(packet, frame.first_length()) {
        return Err(Left::OddShape);
    }
    let headers = read(&frame, packet).ok_or(Left::OddShape)?;
    let headers = headers.translate(packet, forward)?;
    let hop = next_hop(ctx, packet, forward)?;
    // What is not there lets the packet pass.
    let port = FORWARD_PORTS.redirect(hop.ifindex, xdp_action::XDP_PASS.into());
    port.map_err(|_action| Left::NoPort)?;
    write(&frame, packet, forward, headers, &hop).ok_or(Left::OddShape)
}

/// The headers of a packet of the common shape.
#[inline(always)]
fn read(frame: &FrameBytes<'_>, packet: &Packet) -> Option<Headers> {
    const IPV4: usize = (IPV4_LENGTH + UDP_LENGTH) as usize;
    const IPV6: usize = (IPV6_LENGTH + UDP_LENGTH) as usize;
    if packet.source.is_ipv4() {
        let headers = frame.window::<IPV4>(NETWORK as usize)?;
        Some(Headers {
            hops: packet.hops,
            network_checksum_be: u16::from_ne_bytes(headers.part::<10, 2>()),
            checksum_be: u16::from_ne_bytes(headers.part::<26, 2>()),
        })
    } else {
        let headers = frame.window::<IPV6>(NETWORK as usize)?;
        Some(Headers {
            hops: packet.hops,
            network_checksum_be: 0,
            checksum_be: u16::from_ne_bytes(headers.part::<46, 2>()),
        })
    }
}

/// The next hop of a datagram, by the kernel's tables of routes and neighbours.
#[inline(always)]
fn next_hop(ctx: &XdpContext, packet: &Packet, forward: &Forward) -> Result<FibLookup, Left> {
    // SAFETY: the struct holds only integers, for which zero is a value.
    let mut hop: FibLookup = unsafe { core::mem::zeroed() };
    let [s0, s1, s2, s3] = forward.new_source.words_be();
    let [d0, d1, d2, d3] = forward.new_destination.words_be();
    if packet.source.is_ipv4() {
        hop.family = FAMILIES.0;
        hop.__bindgen_anon_3.ipv4_src = s3;
        hop.__bindgen_anon_4.ipv4_dst = d3;
    } else {
        hop.family = FAMILIES.1;
        hop.__bindgen_anon_3.ipv6_src = [s0, s1, s2, s3];
        hop.__bindgen_anon_4.ipv6_dst = [d0, d1, d2, d3];
    }
    hop.l4_protocol = packet.protocol;
    hop.sport = forward.new_source_port.to_be();
    hop.dport = forward.new_destination_port.to_be();
    hop.__bindgen_anon_1.tot_len = packet.packet_length;
    hop.ifindex = LOOPBACK;
    #[expect(clippy::cast_possible_truncation, reason = "64 bytes")]
    const LENGTH: i32 = size_of::<FibLookup>() as i32;
    // SAFETY: `ctx` is the context of the running program, and the struct lies on the stack.
    let result = unsafe { bpf_fib_lookup(ctx.as_ptr(), &raw mut hop, LENGTH, 0) };
    match u32::try_from(result) {
        Ok(BPF_FIB_LKUP_RET_SUCCESS) => Ok(hop),
        Ok(BPF_FIB_LKUP_RET_FRAG_NEEDED) => Err(Left::TooBig),
        Ok(BPF_FIB_LKUP_RET_NO_NEIGH) => Err(Left::NoNeighbour),
        Ok(_) | Err(_) => Err(Left::NoRoute),
    }
}

/// Writes the headers of the datagram that leaves.
#[inline(always)]
fn write(
    frame: &FrameBytes<'_>,
    packet: &Packet,
    forward: &Forward,
    headers: Headers,
    hop: &FibLookup,
) -> Option<()> {
    const IP: usize = NETWORK as usize;
    let source = forward.new_source.words_be();
    let destination = forward.new_destination.words_be();
    // The last bytes first: if they are there, so are all.
    let transport = if packet.source.is_ipv4() {
        let ([.., source], [.., destination]) = (source, destination);
        let transport = IP + IPV4_LENGTH as usize;
        frame.write(transport + 6, &headers.checksum_be.to_ne_bytes())?;
        frame.write(IP + 8, &[headers.hops])?;
        frame.write(IP + 10, &headers.network_checksum_be.to_ne_bytes())?;
        frame.write(IP + 12, &source.to_ne_bytes())?;
        frame.write(IP + 16, &destination.to_ne_bytes())?;
        transport
    } else {
        let transport = IP + IPV6_LENGTH as usize;
        frame.write(transport + 6, &headers.checksum_be.to_ne_bytes())?;
        frame.write(IP + 7, &[headers.hops])?;
        write_address(frame, IP + 8, source)?;
        write_address(frame, IP + 24, destination)?;
        transport
    };
    frame.write(transport, &forward.new_source_port.to_be_bytes())?;
    frame.write(transport + 2, &forward.new_destination_port.to_be_bytes())?;
    frame.write(0, &hop.dmac)?;
    frame.write(6, &hop.smac)
}

#[inline(always)]
fn write_address(frame: &FrameBytes<'_>, at: usize, words: [u32; 4]) -> Option<()> {
    let [a, b, c, d] = words;
    frame.write(at, &a.to_ne_bytes())?;
    frame.write(at + 4, &b.to_ne_bytes())?;
    frame.write(at + 8, &c.to_ne_bytes())?;
    frame.write(at + 12, &d.to_ne_bytes())
}

/// Counts a datagram that was carried. Other CPUs may do so at the same time.
#[inline(always)]
fn note(found: *mut Forward, packet: &Packet, now: u64) {
    // SAFETY: places within an element of an array, which is never freed.
    unsafe {
        add(&raw mut (*found).packets, 1);
        add(&raw mut (*found).bytes, packet.datagram_length.into());
        (&raw mut (*found).last_ns).write_volatile(now);
    }
}

/// By an instruction of the machine to which rustc has no other way: its BPF target has no atomic
/// operations but load and store.
///
/// # Safety
/// The word is there and aligned.
#[inline(always)]
unsafe fn add(word: *mut u64, more: u64) {
    // SAFETY: as the caller says; the instruction touches nothing else.
    unsafe {
        asm!(
            "lock *(u64 *)({word} + 0) += {more}",
            word = in(reg) word,
            more = in(reg) more,
        );
    }
}
