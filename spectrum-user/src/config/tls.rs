//! Whether an app speaks TLS itself, and how: the tables `[client_tls]` and `[origin_tls]`.

use std::{fmt, path::PathBuf};

use super::words::words;

/// TLS that ends at the edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    pub client: ClientTls,
    /// `None`: plain to the origin (`flexible`).
    pub origin: Option<OriginTls>,
}

/// The word that an app's document has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// What comes is passed on as it is, TLS or not.
    Off,
    /// TLS with the client, none with the origin.
    Flexible,
    /// TLS with both; the origin's certificate may be anybody's.
    Full,
    /// TLS with both; the origin's certificate is verified.
    Strict,
}

words!(TlsMode {
    Off = "off",
    Flexible = "flexible",
    Full = "full",
    Strict = "strict",
});

impl Tls {
    pub fn mode(&self) -> TlsMode {
        match &self.origin {
            None => TlsMode::Flexible,
            Some(origin) if origin.is_verified => TlsMode::Strict,
            Some(_) => TlsMode::Full,
        }
    }
}

/// TLS with the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTls {
    /// At least one; the first is for clients that name no server.
    pub certificates: Vec<KeyPair>,
    pub unknown_names: UnknownNames,
    /// Protocols that a plain origin speaks, the preferred first; an origin with TLS says so itself.
    pub alpn: Vec<String>,
    pub min_version: TlsVersion,
    /// Clients have to show a certificate of one of these authorities.
    pub ca: Option<PathBuf>,
}

/// TLS with the origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginTls {
    /// Whether its certificate has to be valid for its name.
    pub is_verified: bool,
    /// The name (or address) that the origin is asked for.
    pub server_name: String,
    /// Authorities that may have signed its certificate; `None`: those that the system trusts.
    pub ca: Option<PathBuf>,
    /// If not empty, its certificate has to be one of these. Sorted.
    pub fingerprints: Vec<Fingerprint>,
    /// What the edge shows to an origin that asks.
    pub certificate: Option<KeyPair>,
    pub min_version: TlsVersion,
}

/// A certificate with those that vouch for it, and its private key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPair {
    pub chain: PathBuf,
    pub key: PathBuf,
}

/// What a client gets that names a server for which there is no certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownNames {
    /// The first certificate.
    Default,
    /// An alert.
    Refuse,
}

words!(UnknownNames {
    Default = "default",
    Refuse = "refuse",
});

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    V1_2,
    V1_3,
}

words!(TlsVersion {
    V1_2 = "1.2",
    V1_3 = "1.3",
});

/// The SHA-256 of a certificate.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// From 64 hex digits, perhaps with a colon after every second, as `openssl x509` prints them.
    pub fn parse(text: &str) -> Option<Self> {
        let mut fingerprint = [0; 32];
        let is_parted = text.contains(':');
        let mut rest = text.as_bytes();
        for (index, byte) in fingerprint.iter_mut().enumerate() {
            if is_parted && index > 0 {
                rest = rest.strip_prefix(b":")?;
            }
            let (digits, after) = rest.split_at_checked(2)?;
            // `from_str_radix` would take a sign.
            if !digits.iter().all(u8::is_ascii_hexdigit) {
                return None;
            }
            *byte = u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
            rest = after;
        }
        rest.is_empty().then_some(Self(fingerprint))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
