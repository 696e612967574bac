//! Every verdict as a line of the log, for a daemon that asks for it.
//!
//! The level is a constant to the verifier: a daemon sets it before it loads the program. Below
//! `TRACE` nothing here can be reached, and the verifier removes it; what stays of the question is
//! the load of a byte.
//!
//! Whatever has a length of its own multiplies the ways through the code that writes a line. So
//! there is a function for each family, and words are filled up with spaces.

use core::hint::black_box;

use aya_log_ebpf::{
    macro_support::{Argument, IpFormatter, Level, level_enabled},
    trace,
};
use spectrum_common::{address::Address, maps::PACKET_LOG, reason::Reason};
use spectrum_ebpf::{
    parse::{Kind, Packet},
    verdict::{Outcome, Verdict},
};

/// Writes a line about a packet and the bits of its verdict. Asked from the entry of the program: the
/// stack would not do for one more function in between.
#[inline(always)]
pub(crate) fn write(verdict: u64, packet: &Packet) {
    if !level_enabled(Level::Trace) || packet.kind == Kind::Foreign {
        return;
    }
    if packet.source.is_ipv4() {
        write_ipv4(verdict, packet);
    } else {
        write_ipv6(verdict, packet);
    }
}

/// A function of its own to the verifier. Returns nothing of interest, but it has to.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn write_ipv4(verdict: u64, packet: *const Packet) -> u32 {
    let ip = |address: &Address| address.low_bits().to_be_bytes();
    // SAFETY: the caller's packet, which nobody changes meanwhile.
    if let Some(packet) = unsafe { packet.as_ref() } {
        write_line(verdict, packet, ip(&packet.source), ip(&packet.destination));
    }
    0
}

/// As [`write_ipv4`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn write_ipv6(verdict: u64, packet: *const Packet) -> u32 {
    // SAFETY: the bytes of an address are those of its halves.
    let ip = |address: &Address| unsafe { core::mem::transmute::<_, [u8; 16]>(address.halves_be) };
    // SAFETY: the caller's packet, which nobody changes meanwhile.
    if let Some(packet) = unsafe { packet.as_ref() } {
        write_line(verdict, packet, ip(&packet.source), ip(&packet.destination));
    }
    0
}

#[inline(always)]
fn write_line<Ip>(verdict: u64, packet: &Packet, source: Ip, destination: Ip)
where
    Ip: Argument + IpFormatter,
{
    let Verdict { slot, outcome } = Verdict::from_bits(verdict);
    let (outcome, reason) = match outcome {
        Outcome::Passed => (0, NO_REASON),
        Outcome::Monitored(reason) => (1, reason as usize),
        Outcome::Dropped(reason) => (2, reason as usize),
        Outcome::Answered => (3, NO_REASON),
    };
    // The compiler knows that there are such words, and the verifier does not.
    let outcome = OUTCOMES.get(black_box(outcome));
    let (Some(outcome), Some(reason)) = (outcome, REASONS.get(black_box(reason))) else {
        return;
    };
    trace!(
        (),
        target: PACKET_LOG,
        "{} {} from {:i} port {} to {:i} port {}: protocol {}, slot {}, {} bytes",
        text(outcome),
        text(reason),
        source,
        packet.source_port,
        destination,
        packet.destination_port,
        packet.protocol,
        slot,
        packet.length
    );
}

/// A word of a line, filled up with spaces. Words lie in arrays, because there are no constant
/// pointers to them in a BPF program.
type Word = [u8; 14];

static OUTCOMES: [Word; 4] = [
    word(b"passed"),
    word(b"monitored"),
    word(b"dropped"),
    word(b"answered"),
];

/// By the numbers of the reasons.
#[expect(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler, which refuses an index out of bounds"
)]
static REASONS: [Word; NO_REASON + 1] = {
    let mut words = [word(b""); NO_REASON + 1];
    let mut index = 0;
    while index < Reason::ALL.len() {
        let reason = Reason::ALL[index];
        words[reason as usize] = word(reason.name().as_bytes());
        index += 1;
    }
    words
};

/// Behind the numbers of all reasons.
const NO_REASON: usize = 31;

#[expect(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler, which refuses an index out of bounds"
)]
const fn word(name: &[u8]) -> Word {
    let mut word = [b' '; size_of::<Word>()];
    let mut index = 0;
    while index < name.len() {
        word[index] = name[index];
        index += 1;
    }
    word
}

#[inline(always)]
fn text(word: &Word) -> &str {
    // SAFETY: made of names of this program, which are ASCII.
    unsafe { core::str::from_utf8_unchecked(word) }
}
