//! IP addresses as map keys.

/// An IP address, IPv4 as IPv4-mapped IPv6 (`::ffff:a.b.c.d`, RFC 4291 §2.5.5.2).
///
/// The words are in network byte order, each as it lies in the packet, so that the bytes of the
/// struct are the bytes of the address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    pub words_be: [u32; 4],
}

/// The third word of an IPv4-mapped address: `0000:ffff`.
const MAPPED: u32 = 0x0000_ffff_u32.to_be();

impl Address {
    /// An IPv4 address from its four bytes as a native word in network byte order.
    #[inline(always)]
    pub const fn from_ipv4_be(word_be: u32) -> Self {
        Self {
            words_be: [0, 0, MAPPED, word_be],
        }
    }

    /// An IPv6 address from its 16 bytes.
    #[inline(always)]
    pub const fn from_ipv6_be(words_be: [u32; 4]) -> Self {
        Self { words_be }
    }

    #[inline(always)]
    pub const fn is_ipv4(&self) -> bool {
        let [a, b, c, _] = self.words_be;
        a == 0 && b == 0 && c == MAPPED
    }

    /// The 32 bits of an IPv4 address, or the low 32 bits of an IPv6 address, as a number.
    #[inline(always)]
    pub const fn low_bits(&self) -> u32 {
        let [_, _, _, d] = self.words_be;
        u32::from_be(d)
    }

    /// The high 64 bits as a number: the network of an IPv6 address.
    #[inline(always)]
    pub const fn high_bits(&self) -> u64 {
        let [a, b, _, _] = self.words_be;
        ((u32::from_be(a) as u64) << 32) | u32::from_be(b) as u64
    }

    /// The two halves as numbers, the high one first.
    #[inline(always)]
    pub const fn halves(&self) -> [u64; 2] {
        let [_, _, c, d] = self.words_be;
        let low = ((u32::from_be(c) as u64) << 32) | u32::from_be(d) as u64;
        [self.high_bits(), low]
    }
}

#[cfg(any(test, feature = "user"))]
mod convert {
    use std::net::{IpAddr, Ipv6Addr};

    use super::Address;

    impl From<IpAddr> for Address {
        fn from(ip: IpAddr) -> Self {
            let v6 = match ip {
                IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                IpAddr::V6(v6) => v6,
            };
            let bits = u128::from(v6);
            #[expect(clippy::cast_possible_truncation, reason = "a word is the low 32 bits")]
            let word = |shift: u32| ((bits >> shift) as u32).to_be();
            Self {
                words_be: [word(96), word(64), word(32), word(0)],
            }
        }
    }

    impl From<Address> for IpAddr {
        fn from(address: Address) -> Self {
            let [a, b, c, d] = address.words_be.map(|word| u128::from(u32::from_be(word)));
            Ipv6Addr::from(a << 96 | b << 64 | c << 32 | d).to_canonical()
        }
    }
}
