//! The table `[protection]` of an app.

mod udp;

use std::ops::RangeInclusive;

use toml::Spanned;

use super::{
    places,
    rules::{self, Owner},
    scalar,
    table::{Table, Wrong},
    value::Value,
};
use crate::config::{
    Admission, Ceiling, Mitigation, Mode, PortRange, Protection, Rate, Sensitivity, SynChallenge,
    TcpSession, Transport, When,
};

/// UDP source ports of amplifiers: US-CERT TA14-017A, and two found since.
///
/// A client may hold one of them by right (a resolver that queries from 53, a game from 27015):
/// each app can have a list of its own.
const REFLECTOR_PORTS: [u16; 19] = [
    17,     // QOTD
    19,     // CharGEN
    53,     // DNS
    69,     // TFTP
    111,    // Portmap
    123,    // NTP
    137,    // NetBIOS
    161,    // SNMPv2
    389,    // CLDAP
    520,    // RIPv1
    751,    // Kad
    1900,   // SSDP
    3283,   // Apple Remote Desktop
    3702,   // WS-Discovery
    5353,   // mDNS
    6881,   // BitTorrent
    11_211, // Memcached
    26_000, // Quake
    27_015, // Steam
];

/// What one client can need at the most. A line of 10 Gbit/s brings 813,000 full segments (1538
/// bytes on the wire) per second in an upload, and fewer acknowledgements than that in a download.
/// A source that sends more is no client; that it can do some harm below is the price of never
/// slowing a transfer by default. Whoever knows the app sets less.
const TCP_PACKETS_PER_SECOND: u32 = 1_000_000;

/// The same for UDP: a tunnel that fills a line of 1 Gbit/s sends 81,000 datagrams per second, a
/// player of a game 128.
const UDP_PACKETS_PER_SECOND: u32 = 100_000;

/// A client opens a handful of connections at once, an office behind one address dozens; a scanner
/// or a flood from real addresses hundreds and more.
const SYNS_PER_SECOND: u32 = 100;

/// More than nearly any app gets, and fewer than half a percent of what one core of the kernel can
/// answer. A crowd of real clients is served above it too, a little less comfortably.
const CHALLENGE_ABOVE: u32 = 1000;

/// The kernel resets so many without notice, and clients whose connection this host has lost learn of
/// it at once. A flood brings thousands of times more.
const STRAYS_ABOVE: u32 = 1000;

/// Beyond any line (10 Gbit/s carry 14.9 million of the smallest packets), and low enough that
/// the limiter's clock can express it.
pub(super) const MAX_RATE: u32 = 10_000_000;

/// Datagrams of sources that nobody knows, from all of them together. The proxy opens a socket for
/// each: a flood of forged sources would otherwise take all of its time. TCP needs no such bound,
/// since SYN cookies cost little and keep nobody out.
const UDP_NEW_FLOWS_PER_SECOND: u64 = 10_000;

/// Ten times [`MAX_RATE`]: an edge may have more than one line.
const MAX_CEILING: u64 = 100_000_000;

/// 100 Gbit/s, and at the least a few packets.
const CEILING_BYTES: RangeInclusive<u64> = 10_000..=12_500_000_000;

const CEILING_FIELDS: [&str; 3] = [
    "packets_per_second",
    "bytes_per_second",
    "new_flows_per_second",
];

/// `ports`: those of the app on the edge. Amplifiers that answer from a port that the app itself
/// serves cannot be told from peers of the app, so these are not on its list by default.
pub(super) fn read(
    app: &mut Table<'_>,
    transport: Option<Transport>,
    ports: Option<PortRange>,
    ip_firewall: bool,
) -> (Protection, Option<Spanned<TcpSession>>) {
    let mut table = app.table("protection");
    let is_udp = transport == Some(Transport::Udp);
    let (block, allow) = scalar::access_lists(&mut table);
    let blocklist = table.get_or("blocklist", Mode::Enforce, scalar::mode);
    let allowlist = allowlist(&mut table, !allow.is_empty());
    let countries = places::admission(&mut table, "countries", places::country);
    let asns = places::admission(&mut table, "asns", places::asn);

    let reflectors = table.get("reflectors", scalar::mode);
    let reflector_ports = reflector_ports(&mut table);
    if transport == Some(Transport::Tcp) {
        refuse_reflectors(&table, reflectors.as_ref(), reflector_ports.as_ref());
    }
    let default_mode = if is_udp { Mode::Enforce } else { Mode::Off };
    let default_ports = || match ports {
        Some(own) if is_udp => REFLECTOR_PORTS
            .into_iter()
            .filter(|port| !own.contains(*port))
            .collect(),
        _ => Vec::new(),
    };

    let fragments = table.get_or("fragments", Mode::Enforce, scalar::mode);
    let packets = if is_udp {
        UDP_PACKETS_PER_SECOND
    } else {
        TCP_PACKETS_PER_SECOND
    };
    let packet_rate = rate(&mut table, "packet_rate", Mode::Enforce, packets);
    let syn_rate = syn_rate(&mut table, is_udp);
    let syn_challenge = syn_challenge(&mut table, is_udp);
    let (out_of_state, out_of_state_above) = out_of_state(&mut table, is_udp);
    let mitigation = mitigation(&mut table);
    let rules = rules::read(&mut table, Owner::App(transport, ports));
    let ceiling = ceiling(&mut table, is_udp);
    let udp = udp::read(&mut table, is_udp);
    table.finish();

    let with_firewall = |mode| if ip_firewall { mode } else { Mode::Off };
    let protection = Protection {
        block,
        blocklist: with_firewall(blocklist),
        allow,
        allowlist: with_firewall(allowlist),
        countries: Admission {
            mode: with_firewall(countries.mode),
            ..countries
        },
        asns: Admission {
            mode: with_firewall(asns.mode),
            ..asns
        },
        reflectors: reflectors.map_or(default_mode, Spanned::into_inner),
        reflector_ports: reflector_ports.map_or_else(default_ports, Spanned::into_inner),
        fragments,
        packet_rate,
        syn_rate,
        syn_challenge,
        out_of_state,
        out_of_state_above,
        mitigation,
        rules,
        ceiling,
        tcp_session: udp
            .tcp_session
            .as_ref()
            .map(|session| session.get_ref().clone()),
        datagrams: udp.datagrams,
        amplification: udp.amplification,
    };
    (protection, udp.tcp_session)
}

fn mitigation(table: &mut Table<'_>) -> Mitigation {
    let mut table = table.table("mitigation");
    let sensitivity = table.get_or("sensitivity", Sensitivity::Medium, |value| {
        value.choice(Sensitivity::WORDS)
    });
    let mode = table.get_or("mode", Mode::Enforce, scalar::mode);
    table.finish();
    Mitigation { sensitivity, mode }
}

/// The mode of the allowlist. A list without an entry would admit nobody.
fn allowlist(table: &mut Table<'_>, has_entries: bool) -> Mode {
    let mode = table.get("allowlist", scalar::mode);
    if let Some(mode) = &mode
        && *mode.get_ref() != Mode::Off
        && !has_entries
    {
        let wrong = Wrong::new("the allowlist is empty", "expected prefixes in `allow`").help(
            "list who may come, for example `allow = [\"192.0.2.0/24\"]`, or remove this field",
        );
        table.wrong("allowlist", mode.span(), wrong);
    }
    let default = if has_entries {
        Mode::Enforce
    } else {
        Mode::Off
    };
    mode.map_or(default, Spanned::into_inner)
}

/// The app's own list, sorted; `None` if it has none.
fn reflector_ports(table: &mut Table<'_>) -> Option<Spanned<Vec<u16>>> {
    let help = "to admit every source port, set `reflectors = \"off\"`";
    let listed = table.items("reflector_ports", help, |value| value.integer(1..=u16::MAX))?;
    let span = listed.span();
    let listed = listed.into_inner().into_iter();
    let mut ports: Vec<u16> = listed.map(Spanned::into_inner).collect();
    ports.sort_unstable();
    ports.dedup();
    Some(Spanned::new(span, ports))
}

/// Amplifiers speak UDP: for TCP the rule would never match, and who set it expects otherwise.
fn refuse_reflectors(
    table: &Table<'_>,
    mode: Option<&Spanned<Mode>>,
    ports: Option<&Spanned<Vec<u16>>>,
) {
    let mode = mode.filter(|mode| *mode.get_ref() != Mode::Off);
    let fields = [
        ("reflectors", mode.map(Spanned::span)),
        ("reflector_ports", ports.map(Spanned::span)),
    ];
    for (field, span) in fields {
        let Some(span) = span else { continue };
        let wrong = Wrong::new(
            "reflectors send UDP, the app speaks tcp",
            "only for UDP apps",
        )
        .help("remove it; amplifiers answer over UDP only");
        table.wrong(field, span, wrong);
    }
}

fn syn_rate(table: &mut Table<'_>, is_udp: bool) -> Rate {
    let key = "syn_rate";
    let default = if is_udp { Mode::Off } else { Mode::Enforce };
    let given = table.get(key, |value| Ok(value.span()));
    let rate = rate(table, key, default, SYNS_PER_SECOND);
    if let Some(given) = given
        && is_udp
        && rate.mode != Mode::Off
    {
        let wrong = Wrong::new("UDP has no SYN", "only for TCP apps")
            .help("remove it; `packet_rate` limits what a source sends");
        table.wrong(key, given.into_inner(), wrong);
    }
    rate
}

/// When SYNs are answered by the filter.
fn syn_challenge(app: &mut Table<'_>, is_udp: bool) -> SynChallenge {
    let key = "syn_challenge";
    let given = app.get(key, |value| Ok(value.span()));
    let mut table = app.table(key);
    let default = if is_udp { When::Never } else { When::Auto };
    let when = table.get_or("when", default, |value| value.choice(When::WORDS));
    let above = table.get("above", |value| {
        let above = value.integer(1..=MAX_RATE)?;
        if when == When::Auto {
            return Ok(above);
        }
        Err(
            Wrong::new(format!("`{when}` has no threshold"), "without effect")
                .help("remove it, or set `when = \"auto\"`"),
        )
    });
    table.finish();
    if let Some(given) = given
        && is_udp
        && when != When::Never
    {
        let wrong = Wrong::new("UDP has no SYN", "only for TCP apps")
            .help("remove it; `packet_rate` limits what a source sends");
        app.wrong(key, given.into_inner(), wrong);
    }
    SynChallenge {
        when,
        above: above.map_or(CHALLENGE_ABOVE, Spanned::into_inner),
    }
}

/// The mode of the rule for segments that belong to no connection, and how many per second may pass.
fn out_of_state(table: &mut Table<'_>, is_udp: bool) -> (Mode, u32) {
    let mode = table.get("out_of_state", scalar::mode);
    let default = if is_udp { Mode::Off } else { Mode::Enforce };
    if let Some(mode) = &mode
        && is_udp
        && *mode.get_ref() != Mode::Off
    {
        let wrong = Wrong::new("UDP has no connections", "only for TCP apps")
            .help("remove it; `packet_rate` limits what a source sends");
        table.wrong("out_of_state", mode.span(), wrong);
    }
    let mode = mode.map_or(default, Spanned::into_inner);
    let above = table.get_or("out_of_state_above", STRAYS_ABOVE, |value| {
        let above = value.integer(0..=MAX_RATE)?;
        if mode == Mode::Off {
            let wrong = Wrong::new("`out_of_state` is off", "without effect");
            return Err(wrong.help("remove it, or set `out_of_state` to another mode"));
        }
        Ok(above)
    });
    (mode, above)
}

/// A limit. Whoever gives a rate wants it enforced, unless the mode says otherwise; a burst is two
/// seconds' worth by default.
fn rate(table: &mut Table<'_>, key: &'static str, mode: Mode, per_second: u32) -> Rate {
    let given = table.has(key);
    let mut table = table.table(key);
    let mode = if given { Mode::Enforce } else { mode };
    let mode = table.get_or("mode", mode, scalar::mode);
    let limit = |value: Value<'_>| {
        value
            .integer(1..=MAX_RATE)
            .map_err(|wrong| wrong.help("to have no limit, set `mode = \"off\"`"))
    };
    let per_second = table.get_or("per_second", per_second, limit);
    let burst = table.get_or("burst", per_second.saturating_mul(2).min(MAX_RATE), limit);
    table.finish();
    Rate {
        mode,
        per_second,
        burst,
    }
}

/// Bounds on all sources together. A mode that has nothing to bound is a mistake.
fn ceiling(protection: &mut Table<'_>, is_udp: bool) -> Ceiling {
    let key = "ceiling";
    let given = protection.get(key, |value| Ok(value.span()));
    let mut table = protection.table(key);
    let mode = table.get_or("mode", Mode::Enforce, scalar::mode);
    let mut bound = |key, range: RangeInclusive<u64>| {
        let bound = table.get(key, |value| {
            value
                .integer(range)
                .map_err(|wrong| wrong.help("to have no ceiling, set `mode = \"off\"`"))
        });
        bound.map(Spanned::into_inner)
    };
    let [packets_field, bytes_field, flows_field] = CEILING_FIELDS;
    let packets = bound(packets_field, 1..=MAX_CEILING);
    let bytes = bound(bytes_field, CEILING_BYTES);
    let flows = bound(flows_field, 1..=MAX_CEILING);
    let has_bound = is_udp || CEILING_FIELDS.iter().any(|field| table.has(field));
    table.finish();
    if let Some(given) = given
        && mode != Mode::Off
        && !has_bound
    {
        let wrong = Wrong::new("there is no bound", "expected a bound here")
            .help("for example `ceiling = { packets_per_second = 200_000 }`, or remove this field");
        protection.wrong(key, given.into_inner(), wrong);
    }
    Ceiling {
        mode,
        packets_per_second: packets,
        bytes_per_second: bytes,
        new_flows_per_second: flows.or(is_udp.then_some(UDP_NEW_FLOWS_PER_SECOND)),
    }
}
