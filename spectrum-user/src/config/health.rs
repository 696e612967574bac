//! How an app's origins are checked.

use std::{ops::RangeInclusive, time::Duration};

use super::words::words;

/// The checks of one app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    pub check: Check,
    /// Where to check, if not where the app's first port leads.
    pub port: Option<u16>,
    /// From the end of one check to the next.
    pub interval: Duration,
    /// For a whole check.
    pub timeout: Duration,
    /// Checks in a row after which an origin that is down is up.
    pub rise: u32,
    /// Checks in a row after which an origin that is up is down.
    pub fall: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// It accepts a connection, takes `send`, and answers with something that has `expect` in it.
    Tcp(Exchange),
    /// It answers the datagram `send` with one that has `expect` in it.
    Udp(Exchange),
    Http {
        path: String,
        host: String,
        status: RangeInclusive<u16>,
    },
}

/// Both may be empty: nothing is sent, and any answer will do (over TCP, none is waited for).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exchange {
    pub send: Vec<u8>,
    pub expect: Vec<u8>,
}

/// The word for a [`Check`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckKind {
    Off,
    Tcp,
    Udp,
    Http,
}

words!(CheckKind {
    Off = "off",
    Tcp = "tcp",
    Udp = "udp",
    Http = "http",
});

impl Check {
    pub fn kind(&self) -> CheckKind {
        match self {
            Self::Tcp(_) => CheckKind::Tcp,
            Self::Udp(_) => CheckKind::Udp,
            Self::Http { .. } => CheckKind::Http,
        }
    }
}
