//! Where an app listens and where its origins are: `protocol`, `origin_direct`, `edge_ips`.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    num::ParseIntError,
};

use toml::Spanned;

use super::{
    table::{Table, Wrong},
    value::Value,
};
use crate::config::{Connectivity, EdgeIps, Origin, PortRange, Transport};

const IPS_EXAMPLE: &str = "ips = [\"192.0.2.10\"]";

/// `tcp/22` or `udp/1000-2000`.
#[derive(Clone, Copy)]
pub(super) struct Protocol {
    pub(super) transport: Transport,
    pub(super) ports: PortRange,
}

pub(super) fn protocol(value: Value<'_>) -> Result<Protocol, Wrong> {
    const EXAMPLE: &str = "for example `tcp/22`, `udp/27015` or `tcp/1000-2000`";
    let shape =
        |what: String| Wrong::new(what, "expected `tcp/<port>` or `udp/<port>`").help(EXAMPLE);
    let text = value.text()?;
    let (word, port_text) = text
        .split_once('/')
        .ok_or_else(|| shape(format!("`{text}` names no transport and port")))?;
    let transport =
        transport(word).ok_or_else(|| shape(format!("`{word}` is no transport served here")))?;
    let ports = ports(port_text)?;
    Ok(Protocol { transport, ports })
}

/// `tcp://192.0.2.1:22`, or with a range as wide as the app's: `tcp://192.0.2.1:3000-4000`.
pub(super) fn origin(
    text: &str,
    protocol: Option<&Spanned<Protocol>>,
    edge_ips: Option<&EdgeIps>,
) -> Result<Origin, Wrong> {
    let example = || {
        let transport = protocol.map_or(Transport::Tcp, |protocol| protocol.get_ref().transport);
        format!("for example `{transport}://192.0.2.1:22` or `{transport}://[2001:db8::1]:22`")
    };
    let (scheme, rest) = text.split_once("://").ok_or_else(|| {
        Wrong::new(
            format!("`{text}` has no scheme"),
            "expected `tcp://<address>:<port>` or `udp://<address>:<port>`",
        )
        .help(example())
    })?;
    let transport = transport(scheme).ok_or_else(|| {
        Wrong::new(
            format!("`{scheme}` is no transport served here"),
            "expected `tcp://` or `udp://`",
        )
        .help(example())
    })?;
    let (host, port_text) = split_host(scheme, rest)?;
    let ip = host_address(host).map_err(|wrong| {
        let named = "a name goes into `origin_dns`";
        wrong.help(format!("{}; {named}", example()))
    })?;
    let ports = ports(port_text)?;

    if let Some(protocol) = protocol {
        matches_protocol(transport, ports, protocol, rest)?;
        is_elsewhere(ip, ports, protocol.get_ref(), edge_ips)?;
    }
    Ok(Origin {
        ip,
        first_port: ports.first,
    })
}

/// The table `edge_ips`: every address if it is not there, `None` if it does not say its type.
pub(super) fn edge_ips(app: &mut Table<'_>) -> Option<EdgeIps> {
    let is_given = app.has("edge_ips");
    let mut table = app.table("edge_ips");
    let kinds = [("dynamic", false), ("static", true)];
    let is_static = if is_given {
        table.require("type", "type = \"dynamic\"", |value| value.choice(&kinds))
    } else {
        Some(Spanned::new(0..0, false))
    };
    let connectivity = table.get("connectivity", |value| value.choice(Connectivity::WORDS));
    let example = format!("for example `{IPS_EXAMPLE}`");
    let ips = table.items("ips", &example, |value| edge_address(value.text()?));

    let edge_ips = is_static.map(
        |is_static| match (is_static.into_inner(), connectivity, ips) {
            (true, Some(connectivity), _) => {
                let wrong = Wrong::new("static addresses say their family", "not with `static`")
                    .help("remove it, or set `type = \"dynamic\"`");
                table.wrong("connectivity", connectivity.span(), wrong);
                EdgeIps::Static(Vec::new())
            }
            (true, None, ips) => EdgeIps::Static(static_addresses(&table, ips)),
            (false, connectivity, ips) => {
                if let Some(ips) = ips {
                    let wrong =
                        Wrong::new("dynamic addresses are not listed", "only with `static`")
                            .help("remove it, or set `type = \"static\"`");
                    table.wrong("ips", ips.span(), wrong);
                }
                EdgeIps::Dynamic(connectivity.map_or(Connectivity::All, Spanned::into_inner))
            }
        },
    );
    table.finish();
    edge_ips
}

fn static_addresses(
    table: &Table<'_>,
    listed: Option<Spanned<Vec<Spanned<IpAddr>>>>,
) -> Vec<IpAddr> {
    if !table.has("ips") {
        table.missing("ips", IPS_EXAMPLE);
    }
    let listed = listed.map_or_else(Vec::new, Spanned::into_inner);
    let mut ips: Vec<IpAddr> = listed.into_iter().map(Spanned::into_inner).collect();
    ips.sort_unstable();
    ips.dedup();
    ips
}

fn transport(word: &str) -> Option<Transport> {
    let known = Transport::WORDS.iter().find(|(known, _)| *known == word);
    known.map(|&(_, transport)| transport)
}

pub(super) fn ports(text: &str) -> Result<PortRange, Wrong> {
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (port(first)?, port(last)?),
        None => {
            let port = port(text)?;
            (port, port)
        }
    };
    if first > last {
        return Err(Wrong::new(
            format!("the range `{text}` is reversed"),
            "expected the lower port first",
        )
        .help(format!("write `{last}-{first}`")));
    }
    Ok(PortRange { first, last })
}

fn port(text: &str) -> Result<u16, Wrong> {
    let wrong = |what: String| {
        Wrong::new(what, "expected a port from 1 to 65535")
            .help("write the port as a number, or a range as in `1000-2000`")
    };
    if text.is_empty() {
        return Err(wrong("a port is missing".to_owned()));
    }
    // Rust's own parser would accept `+22`.
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong(format!("`{text}` is no port")));
    }
    match text.parse() {
        Ok(0) => Err(wrong("port 0 cannot be reached".to_owned())),
        Ok(port) => Ok(port),
        Err::<_, ParseIntError>(_) => Err(wrong(format!("there is no port {text}"))),
    }
}

/// Splits `192.0.2.1:22` and `[2001:db8::1]:22`.
fn split_host<'a>(scheme: &str, rest: &'a str) -> Result<(&'a str, &'a str), Wrong> {
    const SHAPE: &str = "expected `<address>:<port>`";
    let missing_port =
        || Wrong::new("no port", SHAPE).help(format!("write `{scheme}://{rest}:<port>`"));
    if let Some(bracketed) = rest.strip_prefix('[') {
        let (host, after) = bracketed.split_once(']').ok_or_else(|| {
            Wrong::new("`[` is never closed", "expected `[<IPv6 address>]:<port>`")
                .help("close it after the address, as in `[2001:db8::1]:22`")
        })?;
        let port = after.strip_prefix(':').ok_or_else(missing_port)?;
        return Ok((host, port));
    }
    let (host, port) = rest.rsplit_once(':').ok_or_else(missing_port)?;
    if host.contains(':') {
        // `2001:db8::1` alone is an address too: then its last group is no port.
        let remedy = match rest.parse::<Ipv6Addr>() {
            Ok(_) if host.parse::<Ipv6Addr>().is_err() => format!("[{rest}]:<port>"),
            _ => format!("[{host}]:{port}"),
        };
        return Err(Wrong::new(
            "an IPv6 address needs brackets",
            "expected `[<IPv6 address>]:<port>`",
        )
        .help(format!("write `{scheme}://{remedy}`")));
    }
    Ok((host, port))
}

/// The address of an origin: one that a packet can be sent to.
fn host_address(host: &str) -> Result<IpAddr, Wrong> {
    let ip = host
        .parse()
        .ok()
        .ok_or_else(|| Wrong::new(format!("`{host}` is no IP address"), "expected an address"))?;
    unicast(ip)
}

/// The address of one host.
pub(super) fn edge_address(text: &str) -> Result<IpAddr, Wrong> {
    let ip = text.parse().ok().ok_or_else(|| {
        Wrong::new(
            format!("`{text}` is no IP address"),
            "expected an IPv4 or IPv6 address, without brackets or length",
        )
        .help("for example `192.0.2.10` or `2001:db8::10`")
    })?;
    unicast(ip)
}

fn unicast(ip: IpAddr) -> Result<IpAddr, Wrong> {
    let what = match ip {
        _ if ip.is_unspecified() => "the unspecified address",
        _ if ip.is_multicast() => "a multicast address",
        IpAddr::V4(Ipv4Addr::BROADCAST) => "the broadcast address",
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => "IPv4 written as IPv6",
        IpAddr::V6(v6) if v6.is_unicast_link_local() => "link-local and would need an interface",
        IpAddr::V4(_) | IpAddr::V6(_) => return Ok(ip),
    };
    let wrong = Wrong::new(
        format!("`{ip}` is {what}"),
        "expected the address of one host",
    );
    Err(wrong.help("for example `192.0.2.10` or `2001:db8::10`"))
}

/// An origin speaks the app's transport, on as many ports.
fn matches_protocol(
    transport: Transport,
    ports: PortRange,
    protocol: &Spanned<Protocol>,
    rest: &str,
) -> Result<(), Wrong> {
    let expected = protocol.get_ref();
    if transport != expected.transport {
        return Err(Wrong::new(
            format!(
                "the origin speaks {transport}, the app {}",
                expected.transport
            ),
            format!("expected `{}://`", expected.transport),
        )
        .beside(protocol.span(), "because of this")
        .help(format!("write `{}://{rest}`", expected.transport)));
    }
    same_count(ports, protocol)
}

/// Each port of the app has one at the origin.
pub(super) fn same_count(ports: PortRange, protocol: &Spanned<Protocol>) -> Result<(), Wrong> {
    let (here, there) = (ports.count(), protocol.get_ref().ports.count());
    if here == there {
        return Ok(());
    }
    let count = |ports| match ports {
        1 => "1 port".to_owned(),
        _ => format!("{ports} ports"),
    };
    let wrong = Wrong::new(
        format!("the origin has {}, the app {}", count(here), count(there)),
        format!("expected {}", count(there)),
    )
    .beside(protocol.span(), format!("{} here", count(there)));
    let last = u32::from(ports.first) + there - 1;
    Err(match u16::try_from(last) {
        Ok(last) => {
            let first = ports.first;
            wrong.help(format!(
                "ports keep their offset in the range; write `{}` as the port",
                PortRange { first, last }
            ))
        }
        Err(_) => wrong.help("choose a lower first port"),
    })
}

/// An app that is its own origin would call itself until nothing is left.
fn is_elsewhere(
    ip: IpAddr,
    ports: PortRange,
    protocol: &Protocol,
    edge_ips: Option<&EdgeIps>,
) -> Result<(), Wrong> {
    if let Some(EdgeIps::Static(ips)) = edge_ips
        && ips.contains(&ip)
        && ports.overlaps(protocol.ports)
    {
        let what = "this is an edge address of the app itself";
        return Err(Wrong::new(what, "leads back here")
            .help("write the address on which the protected server listens"));
    }
    Ok(())
}
