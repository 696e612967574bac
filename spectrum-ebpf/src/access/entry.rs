//! One entry: its key, where it may lie, and what it says.

use spectrum_common::access::action;

/// A prefix in a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Scope and length, and for IPv4 the network. Never 0, which stands for a free place.
    tag: u64,
    /// The network of IPv6; zero for IPv4.
    network: [u64; 2],
}

const LENGTH_SHIFT: u32 = 48;
const SCOPE_SHIFT: u32 = 32;
const TAKEN: u64 = 1 << 63;

impl Key {
    /// The prefix of `length` that covers an IPv4 address.
    #[inline(always)]
    pub const fn v4(scope: u32, address: u32, length: u32) -> Self {
        let host_bits = (1_u64 << (32 - length)) - 1;
        Self {
            tag: Self::tag(scope, length) | (address as u64 & !host_bits),
            network: [0; 2],
        }
    }

    /// The prefix of `length` that covers an IPv6 address.
    #[inline(always)]
    pub const fn v6(scope: u32, [high, low]: [u64; 2], length: u32) -> Self {
        let network = if length > 64 {
            [high, low & leading(length - 64)]
        } else {
            [high & leading(length), 0]
        };
        Self {
            tag: Self::tag(scope, length),
            network,
        }
    }

    #[inline(always)]
    const fn tag(scope: u32, length: u32) -> u64 {
        TAKEN | (length as u64) << LENGTH_SHIFT | (scope as u64 & 0xffff) << SCOPE_SHIFT
    }

    /// The words that an entry begins with. An IPv4 entry has the first alone, and then its value;
    /// an IPv6 entry has the first, its value, and the others.
    #[inline(always)]
    pub const fn words(self) -> [u64; 3] {
        let [high, low] = self.network;
        [self.tag, high, low]
    }

    /// The inverse of [`Key::words`].
    #[inline(always)]
    pub const fn from_words([tag, high, low]: [u64; 3]) -> Self {
        Self {
            tag,
            network: [high, low],
        }
    }

    pub const fn is_free(self) -> bool {
        self.tag == 0
    }

    pub const fn scope(self) -> u32 {
        (self.tag >> SCOPE_SHIFT) as u32 & 0xffff
    }

    pub const fn length(self) -> u32 {
        (self.tag >> LENGTH_SHIFT) as u32 & 0xff
    }

    /// The network of an IPv4 prefix.
    #[expect(clippy::cast_possible_truncation, reason = "a part of the word")]
    pub const fn network_v4(self) -> u32 {
        self.tag as u32
    }

    /// The network of an IPv6 prefix.
    pub const fn network_v6(self) -> [u64; 2] {
        self.network
    }

    /// The two lines in one of which the entry lies, among `count` lines from `first` on. Two
    /// choices keep lines evenly full where one would fill some and leave others empty.
    #[inline(always)]
    pub fn lines(self, seed: u64, first: u32, count: u64) -> [u32; 2] {
        let [high, low] = self.network;
        let hash = mix(mix(self.tag ^ seed ^ high) ^ low);
        let line = |half: u64| first + ((half * count) >> 32) as u32;
        [line(hash >> 32), line(hash & 0xffff_ffff)]
    }
}

/// `length` ones and then zeros; `length` is at most 64.
#[inline(always)]
const fn leading(length: u32) -> u64 {
    if length == 0 {
        0
    } else {
        u64::MAX << (64 - length)
    }
}

/// Two rounds of multiply and fold: each bit of the input reaches both halves of the result.
#[inline(always)]
const fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    let word = (word ^ (word >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    word ^ (word >> 32)
}

/// What an entry says. The operator's word hides that of the lists until it expires.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// [`action`] of the lists: documents and feeds.
    pub listed: u32,
    /// [`action`] of the operator: `spectrum block` or `spectrum allow`.
    pub operator: u32,
    /// When the entry was made, in seconds since boot; at most [`Entry::LATEST`].
    pub added_s: u32,
    /// The operator's action has no effect from this second since boot on; 0 = never expires.
    pub expires_s: u32,
}

impl Entry {
    /// Eight years of uptime.
    pub const LATEST: u32 = (1 << 28) - 1;

    /// Itself as one word, which is written and read at once.
    pub const fn to_bits(self) -> u64 {
        (self.expires_s as u64) << 32
            | ((self.added_s & Self::LATEST) as u64) << 4
            | ((self.operator & 3) as u64) << 2
            | (self.listed & 3) as u64
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the parts of the word")]
    pub const fn from_bits(bits: u64) -> Self {
        Self {
            listed: bits as u32 & 3,
            operator: (bits as u32 >> 2) & 3,
            added_s: (bits as u32) >> 4,
            expires_s: (bits >> 32) as u32,
        }
    }

    /// Whether the operator's word was given, and is over.
    pub const fn is_expired(self, now_s: u32) -> bool {
        self.operator != action::NONE && self.expires_s != 0 && self.expires_s <= now_s
    }
}
