//! Under which rules: apps that each ask for something else, and full lists.

use std::{net::Ipv4Addr, sync::Arc};

use spectrum_user::{
    config::{
        AppId, Config, Mode, TcpSession, Transport, When,
        rule::{Action, Conditions, Payload, Rule},
    },
    geo::{Place, Places, Range, Ranges},
};

use crate::{
    places::{country, refuse},
    policy::{app, host, nets, rate, rule},
};

/// Ordinary apps, with 1,000,000 other addresses and 100,000 other prefixes blocked, a tenth and a
/// fifth of them of IPv6.
pub(crate) fn config() -> Config {
    use Transport::{Tcp, Udp};
    let mut apps = vec![
        app("everything", Udp, 9500, 9500),
        app("web", Tcp, 80, 80),
        app("ssh", Tcp, 22, 22),
        app("game", Udp, 7000, 7999),
        app("rated", Tcp, 90, 90),
        app("slow", Tcp, 91, 91),
        app("shy", Tcp, 92, 92),
        app("signed", Udp, 9000, 9000),
        app("crowded", Udp, 9400, 9400),
        app("crowded-tcp", Tcp, 93, 93),
        app("stateful", Tcp, 94, 94),
        app("challenged", Tcp, 95, 95),
        app("guests", Udp, 9401, 9401),
    ];
    // Each asks something else of where sources are.
    apps.extend((1..).zip(COUNTRIES).map(|(number, code)| {
        let mut app = app("from-anywhere-else", Tcp, 10_000 + number, 10_000 + number);
        app.id = AppId::from_file_stem(&format!("not-from-{code}"));
        app.protection.countries = refuse(vec![country(code)]);
        app
    }));
    for app in &mut apps {
        let rules = &mut app.protection;
        match app.name.as_str() {
            "ssh" => rules.allow = nets(&["203.0.113.0/24"]),
            "challenged" => rules.syn_challenge.when = When::Always,
            "stateful" => rules.out_of_state = Mode::Enforce,
            "rated" => {
                rules.packet_rate = rate(Mode::Enforce, 1);
                rules.packet_rate.per_second = 1_000_000_000;
                rules.syn_rate = rate(Mode::Enforce, 100);
            }
            // With a rate per source on as well, as all apps have it by default.
            "crowded" | "crowded-tcp" => {
                rules.packet_rate = rate(Mode::Enforce, 1);
                rules.packet_rate.per_second = 1_000_000_000;
                rules.ceiling.new_flows_per_second = Some(1);
            }
            "guests" => {
                let app = "web".to_owned();
                let mode = Mode::Enforce;
                rules.tcp_session = Some(TcpSession { mode, app });
            }
            "slow" => rules.packet_rate = rate(Mode::Enforce, 1),
            "shy" => rules.syn_rate = rate(Mode::Enforce, 1),
            "signed" | "everything" => {
                rules.packet_rate = rate(Mode::Enforce, 1);
                rules.packet_rate.per_second = 1_000_000_000;
                rules.rules = signatures();
                if app.name == "everything" {
                    rules.countries = refuse(vec![country("AD")]);
                }
            }
            _ => {}
        }
    }
    let mut host = host(Mode::Enforce);
    host.block = nets(&["198.18.0.7/32", "198.19.0.0/16", "2001:db8:bad::7/128"]);
    let mut random = fastrand::Rng::with_seed(1);
    host.block.extend((0..1_100_000).map(|number| {
        let bits = random.u64(..);
        if number < 900_000 {
            random_net(bits, 32)
        } else if number < 980_000 {
            random_net(bits, 20 + (bits >> 32) as u8 % 9)
        } else {
            let length = if number < 1_080_000 {
                128
            } else {
                32 + bits as u8 % 33
            };
            let ip = std::net::Ipv6Addr::from(0x2a00 << 112 | u128::from(bits) << 48);
            ipnet::Ipv6Net::new(ip, length).unwrap().trunc().into()
        }
    }));
    Config {
        host,
        apps: apps.into_iter().map(Arc::new).collect(),
    }
}

/// Those that the apps ask about; what is elsewhere is in one place more.
const COUNTRIES: [&str; 60] = [
    "AD", "AE", "AF", "AG", "AI", "AL", "AM", "AO", "AR", "AT", "AU", "AZ", "BA", "BB", "BD", "BE",
    "BF", "BG", "BH", "BI", "BJ", "BN", "BO", "BR", "BS", "BT", "BW", "BY", "BZ", "CA", "CD", "CF",
    "CG", "CH", "CI", "CL", "CM", "CN", "CO", "CR", "CU", "CV", "CY", "CZ", "DE", "DJ", "DK", "DM",
    "DO", "DZ", "EC", "EE", "EG", "ER", "ES", "ET", "FI", "FJ", "FM", "FR",
];

/// As many ranges of IPv4 as databases of countries have, of whole /24s as nearly all of theirs are, each
/// somewhere else than the one before.
pub(crate) fn places() -> Arc<Places> {
    const RANGES: u32 = 400_000;
    let mut random = fastrand::Rng::with_seed(2);
    let mut first = 1_u32 << 24;
    let ranges = (0..RANGES).map(|_| {
        let length = random.u32(1..=u32::MAX / RANGES / 256 * 2) * 256;
        let last = first.saturating_add(length - 1);
        let range = Range {
            first: Ipv4Addr::from(first).into(),
            last: Ipv4Addr::from(last).into(),
            place: Place {
                country: country(COUNTRIES[random.usize(..COUNTRIES.len())]),
                asn: 0,
            },
        };
        first = last.saturating_add(1);
        range
    });
    Arc::new(Places::new([&Ranges::new(ranges)]))
}

/// Four rules for each of four masks: by payload, by length and TTL, by these and the payload, and
/// by source port.
fn signatures() -> Vec<Rule> {
    let payload = |byte| {
        Some(Payload {
            offset: 0,
            bytes: vec![byte; 8],
        })
    };
    let conditions = |mask, number: u8| match mask {
        0 => Conditions {
            payload: payload(number),
            ..Conditions::default()
        },
        1 => Conditions {
            length: Some(35..=35),
            ttl: Some(number..=number),
            ..Conditions::default()
        },
        2 => Conditions {
            length: Some(35..=35),
            ttl: Some(64..=64),
            payload: payload(number),
            ..Conditions::default()
        },
        _ => Conditions {
            source_port: Some(1000 + u16::from(number)..=1000 + u16::from(number)),
            ..Conditions::default()
        },
    };
    let rules = (0..16).map(|n| rule(n + 1, Action::Drop, conditions(n / 4, (n % 4) as u8)));
    rules.collect()
}

/// Anywhere but where the packets of the cases come from.
fn random_net(bits: u64, length: u8) -> ipnet::IpNet {
    let mut octets = (bits as u32).to_be_bytes();
    if matches!(octets[0], 0 | 100 | 127 | 198 | 203 | 224..) {
        octets[0] = 1 + (bits >> 40) as u8 % 99;
    }
    let net = ipnet::Ipv4Net::new(octets.into(), length).unwrap();
    net.trunc().into()
}
