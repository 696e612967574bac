//! Whatever is in a document, the daemon says something about it and lives.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, path::Path};

use proptest::prelude::*;
use spectrum_user::config::{self, App, AppDocument, Errors};
use tempfile::TempDir;

/// Values that are valid somewhere, and many that are not, at the edges of what is.
const VALUES: &[&str] = &[
    "true",
    "0",
    "-1",
    "22",
    "0xffff_ffff_ffff_ffff_ffff",
    "1e400",
    "nan",
    "1979-05-27",
    "2026-01-31T12:00:00Z",
    "\"\"",
    "\"off\"",
    "\"each\"",
    "\"v2\"",
    "\"simple\"",
    "\"enforce\"",
    "\"10s\"",
    "\"99999999999999999999y\"",
    "\"tcp/22\"",
    "\"udp/1-65535\"",
    "\"tcp/2-1\"",
    "\"tcp/-\"",
    "\"tcp://:\"",
    "\"tcp://[\"",
    "\"é\\u0000\\u202E\\n\"",
    "\"strict\"",
    "\"minecraft\"",
    "[{ hosts = [\"*.a.example\"], origin_direct = [\"tcp://192.0.2.1:22\"] }]",
    "\"1.3\"",
    "{ certificates = [{ chain = \"a.pem\" }] }",
    "[{ chain = \"a.pem\", key = \"\" }]",
    "[]",
    "[[]]",
    "{}",
    "[\"tcp://192.0.2.1:22\"]",
    "[\"udp://192.0.2.1:1-65535\"]",
    "[\"tcp://[::1]:65535\"]",
    "[\"::/0\", \"0.0.0.0/0\", \"::ffff:1.2.3.4/95\"]",
    "[1, \"x\", {}]",
    "{ type = \"static\", ips = [\"192.0.2.1\"] }",
    "{ type = \"dynamic\" }",
    "{ name = \"a.example\" }",
    "{ per_second = 1 }",
    "{ length = 1, timeout = \"1ms\" }",
    "{ up = \"1.5MB\", down = 1000 }",
    "\"99999999999999999999999.9GB\"",
    "\"1.MB\"",
    "{ app = 1, per_source_burst = 0 }",
    "{ mode = \"off\" }",
    "{ name = \"a.example\", type = \"SRV\", ttl = 0 }",
    "{ check = \"http\", path = \"\", status = \"-\", expect = { hex = \"é\" } }",
    "{ \"tcp://192.0.2.1:22\" = 2, \"\" = 0, x = [] }",
    "[{ id = 1, length = \"9-1\", payload = { hex = \"é\" }, action = \"rate-limit\" }]",
    "[{ id = 1, ttl = -1, flags = [\"!\"], payload = 1 }, { id = 1 }, 1]",
];

const KEYS: &[&str] = &[
    "id",
    "dns",
    "dns.name",
    "protocol",
    "origin_direct",
    "origin_dns",
    "origin_port",
    "origin_dns.type",
    "dns_servers",
    "origins",
    "origins.weights",
    "origins.backup",
    "origins.maintenance",
    "origins.balance",
    "origins.slow_start",
    "origins.sources",
    "origins.transparent",
    "health",
    "health.check",
    "health.send",
    "health.status",
    "health.interval",
    "edge_ips",
    "edge_ips.type",
    "ip_firewall",
    "proxy_protocol",
    "proxy_protocol_on",
    "data_path",
    "tls",
    "routing",
    "routing.by",
    "routing.routes",
    "client_tls",
    "client_tls.certificates",
    "client_tls.alpn",
    "client_tls.ca",
    "client_tls.unknown_names",
    "origin_tls",
    "origin_tls.server_name",
    "origin_tls.fingerprints",
    "origin_tls.certificate",
    "origin_tls.min_version",
    "traffic_type",
    "argo_smart_routing",
    "created_on",
    "limits",
    "limits.connections",
    "limits.connections_per_prefix",
    "limits.connections_per_source",
    "limits.bandwidth",
    "limits.queue",
    "limits.queue.length",
    "origins.max_connections",
    "limits.bandwidth.app",
    "limits.bandwidth.per_source.up",
    "limits.new_connections_per_second",
    "limits.new_connections_per_second.app_burst",
    "timeouts.connect",
    "timeouts.handshake",
    "timeouts.idle",
    "timeouts.max_duration",
    "protection",
    "protection.block",
    "protection.allow",
    "protection.allowlist",
    "protection.reflectors",
    "protection.reflector_ports",
    "protection.packet_rate",
    "protection.syn_rate",
    "protection.mitigation",
    "protection.syn_challenge",
    "protection.syn_challenge.above",
    "protection.out_of_state",
    "protection.out_of_state_above",
    "protection.rules",
    "interfaces",
    "xdp_mode",
    "apps_dir",
    "pin_dir",
    "control_socket",
    "workers",
    "drain",
    "events",
    "events.output",
    "protection.closed_ports",
    "protection.syn_answers",
    "\"\\u0000\"",
    "é",
];

/// Reads the text as a host and as an app; what is wrong has to be printable.
fn read(directory: &TempDir, text: &[u8]) -> Option<App> {
    let path = directory.path().join("spectrum.toml");
    fs::write(&path, text).unwrap();
    let show = |errors: Errors| {
        assert!(errors.render(true).contains("error"), "{errors}");
        assert!(!errors.findings().is_empty());
    };
    config::load(&path).map_err(show).ok();
    config::load_app(&path).map_err(show).ok()
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in any::<Vec<u8>>()) {
        read(&tempfile::tempdir().unwrap(), &text);
    }

    #[test]
    fn no_printable_text_makes_it_panic(text in "[a-z\\[\\]{}=.\"'#,:/\\\\0-9\r\n é-]{0,200}") {
        read(&tempfile::tempdir().unwrap(), text.as_bytes());
    }

    #[test]
    fn no_document_makes_it_panic(
        fields in proptest::collection::vec(
            (proptest::sample::select(KEYS), proptest::sample::select(VALUES)), 0..12)
    ) {
        let text: String = fields
            .into_iter()
            .map(|(key, value)| format!("{key} = {value}\n"))
            .collect();
        read(&tempfile::tempdir().unwrap(), text.as_bytes());
    }

    #[test]
    fn no_damage_to_an_example_makes_it_panic(
        at in any::<prop::sample::Index>(),
        damage in ".{0,4}",
        length in 0_usize..8,
        example in proptest::sample::select(vec!["ssh", "minecraft-bedrock", "dns"]),
    ) {
        let path = Path::new("../examples/apps.d").join(example).with_extension("toml");
        let mut text: Vec<char> = fs::read_to_string(path).unwrap().chars().collect();
        let start = at.index(text.len());
        let end = (start + length).min(text.len());
        text.splice(start..end, damage.chars());
        let text: String = text.into_iter().collect();
        read(&tempfile::tempdir().unwrap(), text.as_bytes());
    }

    /// Whatever is accepted is what it says: written back, it is the same app.
    #[test]
    fn what_is_accepted_survives_being_written_back(
        transport in proptest::sample::select(vec!["tcp", "udp"]),
        first in 1_u16..,
        count in 1_u16..=100,
        origin in any::<std::net::Ipv6Addr>(),
        proxy_protocol in proptest::sample::select(vec!["off", "v1", "v2", "simple"]),
        connections in 1_u32..,
        idle in 1_u64..2_592_000,
        block in proptest::collection::vec((any::<u32>(), 0_u8..=32), 0..8),
        mode in proptest::sample::select(vec!["off", "monitor", "enforce"]),
        ip_firewall in any::<bool>(),
        per_second in 1_u32..=10_000_000,
        ttl in any::<(u8, u8)>(),
        payload in proptest::collection::vec(any::<u8>(), 1..=16),
        action in proptest::sample::select(vec!["drop", "pass", "rate-limit"]),
    ) {
        let last = first.saturating_add(count - 1);
        let block: Vec<String> = block
            .into_iter()
            .map(|(bits, length)| ipnet::Ipv4Net::new(bits.into(), length).unwrap().trunc())
            .map(|prefix| format!("{:?}", prefix.to_string()))
            .collect();
        let hex: String = payload.iter().map(|byte| format!("{byte:02x}")).collect();
        let rate = match action {
            "rate-limit" => format!("per_second = {per_second}\n"),
            _ => String::new(),
        };
        let text = format!(
            "dns = {{ name = \"a.example\" }}\n\
             protocol = \"{transport}/{first}-{last}\"\n\
             origin_direct = [\"{transport}://[{origin}]:{first}-{last}\"]\n\
             proxy_protocol = {proxy_protocol:?}\n\
             ip_firewall = {ip_firewall}\n\
             limits.connections = {connections}\n\
             timeouts.idle = \"{idle}s\"\n\
             [protection]\n\
             block = [{}]\n\
             blocklist = {mode:?}\n\
             packet_rate = {{ mode = {mode:?}, per_second = {per_second} }}\n\
             [[protection.rules]]\nid = 7\naction = {action:?}\n{rate}\
             ttl = \"{}-{}\"\npayload = {{ offset = 3, hex = \"{hex}\" }}\n",
            block.join(", "),
            ttl.0.min(ttl.1),
            ttl.0.max(ttl.1),
        );
        let directory = tempfile::tempdir().unwrap();
        let Some(app) = read(&directory, text.as_bytes()) else {
            // The two PROXY protocols that are for one transport only, and odd addresses.
            let is_odd = origin.to_ipv4_mapped().is_some()
                || origin.is_multicast()
                || origin.is_unicast_link_local();
            prop_assert!(is_odd || matches!((proxy_protocol, transport), ("v1", "udp") | ("simple", "tcp")));
            return Ok(());
        };
        let written = toml::to_string(&AppDocument::from(&app)).unwrap();
        prop_assert_eq!(read(&directory, written.as_bytes()), Some(app));
    }
}
