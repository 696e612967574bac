//! Prefixes (CIDR), as documents and the command line write them.

use std::net::IpAddr;

use ipnet::IpNet;

/// Why a text is no prefix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    #[error("`{0}` is neither an address nor a prefix; for example `192.0.2.1` or `2001:db8::/32`")]
    Syntax(String),
    #[error("`{prefix}` has bits set beyond its length; write `{network}` for the whole network")]
    HostBits { prefix: String, network: IpNet },
    #[error("`{prefix}` is IPv4 written as IPv6; write `{plain}`")]
    Mapped { prefix: String, plain: String },
}

/// Reads `192.0.2.0/24` or, as a prefix of full length, `192.0.2.1`.
///
/// # Errors
/// Anything else; see [`PrefixError`].
pub fn parse_prefix(text: &str) -> Result<IpNet, PrefixError> {
    let prefix = text.parse::<IpNet>().ok();
    let prefix = prefix
        .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
        .ok_or_else(|| PrefixError::Syntax(text.to_owned()))?;
    if let IpNet::V6(v6) = prefix
        && let Some(v4) = v6.addr().to_ipv4_mapped()
    {
        let plain = match v6.prefix_len().checked_sub(96) {
            Some(length) if length < 32 => format!("{v4}/{length}"),
            _ => v4.to_string(),
        };
        let prefix = text.to_owned();
        return Err(PrefixError::Mapped { prefix, plain });
    }
    if prefix.trunc() != prefix {
        return Err(PrefixError::HostBits {
            prefix: text.to_owned(),
            network: prefix.trunc(),
        });
    }
    Ok(prefix)
}
