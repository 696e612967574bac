//! IP addresses as map keys.

/// An IP address, IPv4 as IPv4-mapped IPv6 (`::ffff:a.b.c.d`, RFC 4291 §2.5.5.2).
///
/// The halves are in network byte order, each as it lies in the packet, so that the bytes of the
/// struct are the bytes of the address. As halves, because what is written as words and read as
/// halves keeps the processor waiting.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    pub halves_be: [u64; 2],
}

/// What is above the 32 bits of an IPv4 address in the low half.
const MAPPED: u64 = 0xffff;

impl Address {
    /// An IPv4 address from its four bytes as a native word in network byte order.
    #[inline(always)]
    pub const fn from_ipv4_be(word_be: u32) -> Self {
        let low = MAPPED << 32 | u32::from_be(word_be) as u64;
        Self {
            halves_be: [0, low.to_be()],
        }
    }

    /// An IPv6 address from its 16 bytes.
    #[inline(always)]
    pub const fn from_ipv6_be(halves_be: [u64; 2]) -> Self {
        Self { halves_be }
    }

    #[inline(always)]
    pub const fn is_ipv4(&self) -> bool {
        let [high, low] = self.halves();
        high == 0 && low >> 32 == MAPPED
    }

    /// The 32 bits of an IPv4 address, or the low 32 bits of an IPv6 address, as a number.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the low bits are meant")]
    pub const fn low_bits(&self) -> u32 {
        let [_, low] = self.halves();
        low as u32
    }

    /// The high 64 bits as a number: the network of an IPv6 address.
    #[inline(always)]
    pub const fn high_bits(&self) -> u64 {
        let [high, _] = self.halves();
        high
    }

    /// The two halves as numbers, the high one first.
    #[inline(always)]
    pub const fn halves(&self) -> [u64; 2] {
        let [high, low] = self.halves_be;
        [u64::from_be(high), u64::from_be(low)]
    }

    /// The four words, each as it lies in the packet.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the parts of a half")]
    pub const fn words_be(&self) -> [u32; 4] {
        let [high, low] = self.halves();
        [
            ((high >> 32) as u32).to_be(),
            (high as u32).to_be(),
            ((low >> 32) as u32).to_be(),
            (low as u32).to_be(),
        ]
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
            #[expect(clippy::cast_possible_truncation, reason = "the low half")]
            let low = bits as u64;
            let high = (bits >> 64) as u64;
            Self {
                halves_be: [high.to_be(), low.to_be()],
            }
        }
    }

    impl From<Address> for IpAddr {
        fn from(address: Address) -> Self {
            let [high, low] = address.halves().map(u128::from);
            Ipv6Addr::from(high << 64 | low).to_canonical()
        }
    }
}
