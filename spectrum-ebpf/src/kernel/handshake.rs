//! SYNs that are answered in place of an app.

use aya_ebpf::{
    bindings::xdp_md,
    btf_maps::{Array, PerCpuArray},
    helpers::{
        bpf_jiffies64, bpf_ktime_get_ns, bpf_tcp_raw_gen_syncookie_ipv4,
        bpf_tcp_raw_gen_syncookie_ipv6, bpf_xdp_adjust_tail, bpf_xdp_store_bytes,
    },
    macros::btf_map,
    programs::XdpContext,
};
use spectrum_common::{
    handshake::{Handshake, LISTENERS_AT_ONCE, Listener},
    settings::Settings,
};
use spectrum_ebpf::{
    answer::{
        self, Cookie, IPV4_HEADER_LENGTH, IPV6_HEADER_LENGTH, MAX_ANSWER_LENGTH, Reply, Request,
    },
    packet::{Bytes as _, Window as _},
    parse::{Kind, Packet, protocol},
};

use super::{
    frame::FrameBytes,
    headers::{IpHeader, WholeHeader},
    sockets,
};

#[btf_map(name = "handshake")]
static HANDSHAKE: Array<Handshake, 1> = Array::new();

/// What is answered, and the headers of the answer before they are written to the frame: on the stack,
/// the verifier would want each word that is put into them to be aligned.
#[repr(C)]
struct Draft {
    reply: Reply,
    ipv4: [u8; IPV4_HEADER_LENGTH],
    ipv6: [u8; IPV6_HEADER_LENGTH],
    segment: [u8; MAX_ANSWER_LENGTH],
}

#[btf_map(name = "answer_draft")]
static DRAFT: PerCpuArray<Draft, 1> = PerCpuArray::new();

/// May SYNs be answered now?
#[inline(always)]
pub(crate) fn can_answer(settings: &Settings) -> bool {
    // SAFETY: the helper takes no arguments.
    let jiffies = unsafe { bpf_jiffies64() };
    HANDSHAKE
        .get(0)
        .is_some_and(|handshake| answer::can_answer(handshake, jiffies, settings.ticks_per_second))
}

/// Turns the frame of `packet`, a SYN, into its answer, and says whether it did. If not, the frame is
/// as it was.
///
/// In two steps, each a function of its own to the verifier, so that neither needs much of the stack.
#[inline(always)]
pub(crate) fn answer(ctx: *mut xdp_md, packet: &Packet) -> bool {
    prepare_reply(ctx, packet) != 0 && write_reply(ctx, packet) != 0
}

/// Reads the SYN and makes its cookie. 1 if that went well.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn prepare_reply(ctx: *mut xdp_md, packet: *const Packet) -> u32 {
    // SAFETY: the caller's packet, which nobody changes meanwhile.
    let (Some(packet), Some(draft)) = (unsafe { packet.as_ref() }, DRAFT.get_ptr_mut(0)) else {
        return 0;
    };
    // SAFETY: the element is this CPU's own.
    let reply = unsafe { &mut (*draft).reply };
    let mut header = WholeHeader::zeroed();
    let prepared = header.load(&XdpContext::new(ctx), packet).and_then(|()| {
        reply.cookie = make_cookie(packet, &mut header)?;
        reply.request = Request::read(packet, &header, header.length() as usize)?;
        Some(())
    });
    u32::from(prepared.is_some())
}

/// Writes the answer over the SYN. 1 if that went well.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn write_reply(ctx: *mut xdp_md, packet: *const Packet) -> u32 {
    // SAFETY: as above.
    let (Some(packet), Some(handshake), Some(draft)) = (
        unsafe { packet.as_ref() },
        HANDSHAKE.get(0),
        DRAFT.get_ptr_mut(0),
    ) else {
        return 0;
    };
    // SAFETY: the element is this CPU's own.
    let draft = unsafe { &mut *draft };
    let length = answer::write_segment(&mut draft.segment, packet, &draft.reply, handshake);
    let written = write(&XdpContext::new(ctx), packet, handshake, draft, length);
    u32::from(written.is_some())
}

/// The kernel's own cookie for a SYN.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the parts of a number")]
fn make_cookie(packet: &Packet, header: &mut WholeHeader) -> Option<Cookie> {
    const NANOS_PER_MILLI: u64 = 1_000_000;
    let mut ip = IpHeader::of(&packet.source, &packet.destination);
    // SAFETY: both headers lie on the stack, and are as long as said.
    let made = unsafe {
        if packet.source.is_ipv4() {
            let length = header.masked_length();
            bpf_tcp_raw_gen_syncookie_ipv4(ip.as_mut_ptr().cast(), header.as_mut_ptr(), length)
        } else {
            let length = header.masked_length();
            bpf_tcp_raw_gen_syncookie_ipv6(ip.as_mut_ptr().cast(), header.as_mut_ptr(), length)
        }
    };
    (made >= 0).then(|| Cookie {
        // SAFETY: the helper takes no arguments.
        milliseconds: unsafe { bpf_ktime_get_ns() } / NANOS_PER_MILLI,
        sequence: made as u32,
        segment: (made >> 32) as u32,
    })
}

/// The shortest frame on an Ethernet, without its checksum.
const SHORTEST_FRAME: usize = 60;

/// Writes the answer over the SYN: back to where it came from, and without the IP options and
/// extension headers that the SYN may have.
#[inline(always)]
fn write(
    ctx: &XdpContext,
    packet: &Packet,
    handshake: &Handshake,
    draft: &mut Draft,
    length: u8,
) -> Option<()> {
    let network = packet.network_offset.into();
    let is_ipv4 = packet.source.is_ipv4();
    let ip_length = if is_ipv4 {
        answer::write_ipv4_header(&mut draft.ipv4, packet, handshake, length);
        IPV4_HEADER_LENGTH
    } else {
        answer::write_ipv6_header(&mut draft.ipv6, packet, handshake, length);
        IPV6_HEADER_LENGTH
    };
    let transport = network + ip_length;
    resize(ctx, packet, transport + usize::from(length))?;
    if is_ipv4 {
        store(ctx, network, &draft.ipv4, IPV4_HEADER_LENGTH)?;
    } else {
        store(ctx, network, &draft.ipv6, IPV6_HEADER_LENGTH)?;
    }
    store(ctx, transport, &draft.segment, length.into())?;
    swap_addresses(&FrameBytes::new(ctx))
}

/// Sends the frame back to where it came from. An address is moved as 4 bytes and 2: of 6 the compiler
/// would make a loop.
#[inline(always)]
fn swap_addresses(frame: &FrameBytes<'_>) -> Option<()> {
    let addresses = frame.window::<12>(0)?;
    let to = (addresses.part::<0, 4>(), addresses.part::<4, 2>());
    let from = (addresses.part::<6, 4>(), addresses.part::<10, 2>());
    frame.write(0, &from.0)?;
    frame.write(4, &from.1)?;
    frame.write(6, &to.0)?;
    frame.write(10, &to.1)
}

/// Makes the frame `length` bytes long, or as long as a frame must be.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "frames are short"
)]
fn resize(ctx: &XdpContext, packet: &Packet, length: usize) -> Option<()> {
    let delta = length.max(SHORTEST_FRAME) as i32 - packet.length as i32;
    if delta == 0 {
        return Some(());
    }
    // SAFETY: `ctx` is the context of the running program; nothing points into the frame now.
    let resized = unsafe { bpf_xdp_adjust_tail(ctx.ctx, delta) };
    (resized == 0).then_some(())
}

/// Writes the first `length` bytes at `offset`.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "headers are short")]
fn store<const N: usize>(
    ctx: &XdpContext,
    offset: usize,
    bytes: &[u8; N],
    length: usize,
) -> Option<()> {
    let length = length.min(N) as u32;
    let start = bytes.as_ptr().cast_mut().cast();
    // SAFETY: `ctx` is the context of the running program; the helper reads `length` of the bytes.
    let stored = unsafe { bpf_xdp_store_bytes(ctx.ctx, offset as u32, start, length) };
    (stored == 0).then_some(())
}

/// Makes the listeners that the frame names take answers to cookies, and returns how many there were;
/// a listener with port 0 ends the list. From now on, SYNs may be answered.
#[inline(always)]
pub(crate) fn mark_listeners(ctx: &XdpContext) -> u32 {
    let frame = FrameBytes::new(ctx);
    let mut marked = 0;
    for index in 0..LISTENERS_AT_ONCE {
        let Some(bytes) = frame.read::<{ size_of::<Listener>() }>(index * size_of::<Listener>())
        else {
            break;
        };
        marked += mark(ctx.ctx, &bytes);
    }
    if let Some(handshake) = HANDSHAKE.get_ptr_mut(0) {
        // SAFETY: an element of an array is never freed; one word is written at once. The helper
        // takes no arguments.
        unsafe { (*handshake).marked = bpf_jiffies64() };
    }
    marked
}

/// 1 if the listener is there, and has been marked. A function of its own to the verifier.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn mark(ctx: *mut xdp_md, listener: *const [u8; size_of::<Listener>()]) -> u32 {
    // SAFETY: the caller's bytes, of which every pattern is a listener.
    let Some(listener) = (unsafe { listener.cast::<Listener>().as_ref() }) else {
        return 0;
    };
    let packet = Packet {
        kind: Kind::Addressed,
        protocol: protocol::TCP,
        source: listener.address,
        destination: listener.address,
        #[expect(clippy::cast_possible_truncation, reason = "a port")]
        destination_port: listener.port as u16,
        ..Packet::default()
    };
    u32::from(sockets::mark_listener(&XdpContext::new(ctx), &packet))
}
