//! Why a packet was dropped, or would have been.

/// Declares [`Reason`], [`ByReason`] and the names of the reasons from one list.
///
/// The number of a reason is part of the ABI and of the event log: append, never reorder, and
/// never give a retired number to another reason.
macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident $field:ident = $number:literal,)*) => {
        /// Why a packet was dropped (a rule enforced) or would have been (a rule monitored).
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $($(#[$doc])* $variant = $number,)*
        }

        impl Reason {
            /// Every reason, in the order of the numbers.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name in counters, events, metrics and documents: `snake_case`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => stringify!($field),)*
                }
            }
        }

        impl TryFrom<u32> for Reason {
            type Error = u32;

            /// # Errors
            /// The number itself, if no reason has it.
            fn try_from(number: u32) -> Result<Self, u32> {
                match number {
                    $($number => Ok(Self::$variant),)*
                    other => Err(other),
                }
            }
        }

        /// One `T` for each reason, with the reason's name as the field, so that `bpftool map
        /// dump` says which is which.
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct ByReason<T> {
            $($(#[$doc])* pub $field: T,)*
        }

        impl<T> ByReason<T> {
            pub const fn get(&self, reason: Reason) -> &T {
                match reason {
                    $(Reason::$variant => &self.$field,)*
                }
            }

            pub const fn get_mut(&mut self, reason: Reason) -> &mut T {
                match reason {
                    $(Reason::$variant => &mut self.$field,)*
                }
            }
        }
    };
}

reasons! {
    /// A header is cut short, or its lengths contradict each other.
    Malformed malformed = 0,
    /// TCP flags that no stack sends: neither SYN, ACK nor RST; SYN with FIN or RST; FIN without ACK
    /// (RFC 9293).
    TcpFlags tcp_flags = 1,
    /// A source that cannot be one: loopback, multicast, unspecified, broadcast, or the
    /// destination itself (RFC 6890, "land").
    Martian martian = 2,
    /// An edge address, but neither an app nor a local socket on the port.
    ClosedPort closed_port = 3,
    /// The source is on a blocklist.
    Blocked blocked = 4,
    /// The app has an allowlist, and the source is not on it.
    NotAllowed not_allowed = 5,
    /// UDP from the well-known port of an amplifier (US-CERT TA14-017A).
    Reflector reflector = 6,
    /// A fragment, to an app that expects none.
    Fragment fragment = 7,
    /// The source sends more packets per second than the app admits.
    PacketRate packet_rate = 8,
    /// The source opens more TCP connections per second than the app admits.
    SynRate syn_rate = 9,
    /// TCP that belongs to no connection: neither a socket nor an earlier proof knows its flow.
    OutOfState out_of_state = 10,
    /// The source is in a country that the app does not admit.
    Country country = 11,
    /// The source is in an autonomous system that the app does not admit.
    Asn asn = 12,
    /// The packet has what the packets of a flood have in common: a signature that the mitigation
    /// engine installed.
    Signature signature = 13,
    /// A rule of the operator's own.
    CustomRule custom_rule = 14,
    /// The app gets more of all sources together than its ceiling, and this source has not proved
    /// to be real, or even those that have use up the whole.
    Ceiling ceiling = 15,
    /// The app admits only sources that hold a TCP connection with another app, and this one holds
    /// none.
    NoTcpSession no_tcp_session = 16,
    /// A datagram that is smaller or larger than the app's are.
    DatagramSize datagram_size = 17,
}
