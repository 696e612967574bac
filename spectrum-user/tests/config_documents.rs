//! The documents that we hand out are valid, mean what they say, and survive being written back.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use spectrum_user::config::{
    self, App, AppDocument, AppId, Balance, Config, ConnectionRate, Connectivity, EdgeIps,
    HeaderOn, HostDocument, Mode, NewConnections, PortRange, ProxyProtocol, Rate, Records,
    SourceAddress, Transport, Ways, When,
};

const EXAMPLES: &str = "../examples/spectrum.toml";

fn examples() -> Config {
    config::load(Path::new(EXAMPLES)).unwrap_or_else(|errors| panic!("{errors}"))
}

fn app(document: &str) -> App {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.toml");
    fs::write(&path, document).unwrap();
    config::load_app(&path).unwrap_or_else(|errors| panic!("{errors}"))
}

#[test]
fn every_example_is_valid() {
    let documents = fs::read_dir("../examples/apps.d").unwrap().count();
    let config = examples();
    assert_eq!(config.apps.len(), documents);
    assert!(config.apps.is_sorted_by(|a, b| a.name < b.name));
}

/// What `check -o json` prints, and what the API will store, means the same when it is read.
#[test]
fn a_document_that_is_written_back_is_the_same_app() {
    for app in examples().apps {
        assert_survives(&app);
    }
}

fn assert_survives(app: &App) {
    let text = toml::to_string(&AppDocument::from(app)).unwrap();
    let again = self::app(&text);
    let document = again.document.clone();
    let app = App {
        document,
        ..app.clone()
    };
    assert_eq!(again, app, "{text}");
}

#[test]
fn routes_are_written_back_as_they_are() {
    let app = app("dns = { name = \"www.example.com\" }\n\
         protocol = \"tcp/443\"\n\
         origin_direct = [\"tcp://192.0.2.1:443\"]\n\
         timeouts.handshake = \"3s\"\n\
         [routing]\n\
         by = \"tls\"\n\
         unknown = \"refuse\"\n\
         [[routing.routes]]\n\
         hosts = [\"Git.example.com\", \"*.example.org\"]\n\
         origin_direct = [\"tcp://192.0.2.2:443\", \"tcp://192.0.2.3:443\"]\n\
         origins = { balance = \"least-connections\", backup = [\"tcp://192.0.2.3:443\"] }\n");
    let routing = app.routing.clone().unwrap();
    assert_eq!(
        routing.routes[0].hosts,
        ["git.example.com", "*.example.org"]
    );
    assert_eq!(routing.routes[0].origins.members.len(), 2);
    let text = toml::to_string(&AppDocument::from(&app)).unwrap();
    let again = self::app(&text);
    let document = again.document.clone();
    assert_eq!(again, App { document, ..app }, "{text}");
}

#[test]
fn a_host_that_is_written_back_is_the_same_host() {
    let host = examples().host;
    let directory = tempfile::tempdir().unwrap();
    let mut host = config::Host {
        apps_dir: directory.path().join("apps.d"),
        ..host
    };
    host.closed_ports = Some(Mode::Monitor);
    fs::create_dir(&host.apps_dir).unwrap();
    let path = directory.path().join("spectrum.toml");
    fs::write(&path, toml::to_string(&HostDocument::from(&host)).unwrap()).unwrap();
    let again = config::load(&path).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(again.host, host);
}

#[test]
fn the_least_tcp_document_gets_the_documented_defaults() {
    let app = app("dns = { name = \"SSH.example.com.\" }\n\
         protocol = \"tcp/22\"\n\
         origin_direct = [\"tcp://[2001:db8::1]:2222\"]\n");
    assert_eq!(app.name, "ssh.example.com");
    assert_eq!(app.id, AppId::from_file_stem("app"));
    assert_eq!(app.transport, Transport::Tcp);
    assert_eq!(
        app.ports,
        PortRange {
            first: 22,
            last: 22
        }
    );
    assert_eq!(app.edge_ips, EdgeIps::Dynamic(Connectivity::All));
    let origins = &app.origins;
    let [only] = origins.members[..] else {
        panic!("one origin")
    };
    assert_eq!(app.origin_url(&only.origin), "tcp://[2001:db8::1]:2222");
    assert_eq!((only.weight, only.rank, only.maintenance), (1, 0, false));
    assert_eq!(origins.balance, Balance::RoundRobin);
    assert_eq!((origins.retries, origins.slow_start), (3, Duration::ZERO));
    assert!(app.ip_firewall);
    assert_eq!(app.proxy_protocol, ProxyProtocol::Off);
    assert_eq!(app.proxy_protocol_on, HeaderOn::First);
    assert_eq!(app.timeouts.connect, Duration::from_secs(5));
    assert_eq!(app.timeouts.idle, Duration::from_secs(3600));
    assert_eq!(app.timeouts.max_duration, None);
    assert_eq!(app.limits.connections, 100_000);
    assert_eq!(app.limits.connections_per_prefix, 100_000);
    assert_eq!(app.limits.connections_per_source, 1_000);
    assert_eq!(app.limits.new_connections, NewConnections::default());
    let protection = app.protection;
    assert_eq!(protection.blocklist, Mode::Enforce);
    assert_eq!(protection.allowlist, Mode::Off);
    assert_eq!(protection.reflectors, Mode::Off);
    assert_eq!(protection.fragments, Mode::Enforce);
    assert_eq!(protection.packet_rate, enforce(1_000_000));
    assert_eq!(protection.syn_rate, enforce(100));
    assert_eq!(protection.syn_challenge.when, When::Auto);
    assert_eq!(protection.syn_challenge.above, 1000);
    assert_eq!(protection.out_of_state, Mode::Enforce);
    assert_eq!(protection.out_of_state_above, 1000);
}

#[test]
fn the_least_udp_document_gets_the_documented_defaults() {
    let app = app("dns = { name = \"cs.example.com\" }\n\
         protocol = \"udp/27015-27020\"\n\
         origin_direct = [\"udp://192.0.2.1:37015-37020\"]\n");
    assert_eq!(app.timeouts.idle, Duration::from_secs(60));
    assert_eq!(app.limits.connections, 100_000);
    let protection = app.protection;
    assert_eq!(protection.reflectors, Mode::Enforce);
    // The app's own port is none of them: other servers of the same game talk from it.
    assert_eq!(
        protection.reflector_ports,
        [
            17, 19, 53, 69, 111, 123, 137, 161, 389, 520, 751, 1900, 3283, 3702, 5353, 6881, 11211,
            26000
        ]
    );
    assert_eq!(protection.packet_rate, enforce(100_000));
    assert_eq!(protection.syn_rate.mode, Mode::Off);
    assert_eq!(protection.syn_challenge.when, When::Never);
    assert_eq!(protection.out_of_state, Mode::Off);
}

#[test]
fn fields_do_what_they_say() {
    let app = app("id = \"EA95132c15732412d22c1476fa83f27a\"\n\
         dns = { name = \"ssh.example.com\", type = \"ADDRESS\" }\n\
         protocol = \"tcp/1000-2000\"\n\
         origin_direct = [\"tcp://192.0.2.1:3000-4000\", \"tcp://192.0.2.2:1000-2000\"]\n\
         edge_ips = { type = \"static\", ips = [\"2001:db8::1\", \"192.0.2.9\", \"192.0.2.9\"] }\n\
         argo_smart_routing = true\n\
         ip_firewall = false\n\
         proxy_protocol = \"v1\"\n\
         tls = \"off\"\n\
         traffic_type = \"direct\"\n\
         created_on = 2026-01-31T12:00:00Z\n\
         modified_on = \"2026-01-31T12:00:00+01:00\"\n\
         [limits]\n\
         connections = 10\n\
         new_connections_per_second = { app = 7, per_source = 2, per_source_burst = 9 }\n\
         queue = { length = 3 }\n\
         bandwidth = { per_connection = { up = 1_000, down = \"12.5MB\" }, per_source = { down = \"100Mbit\" }, app = { up = \"1.5 GiB\" } }\n\
         [origins]\n\
         balance = \"lowest-latency\"\n\
         weights = { \"tcp://192.0.2.1:3000-4000\" = 9 }\n\
         maintenance = [\"tcp://192.0.2.1:3000-4000\"]\n\
         backup = [\"tcp://192.0.2.2:1000-2000\"]\n\
         retries = 0\n\
         max_connections = 4\n\
         slow_start = \"90s\"\n\
         sources = [\"192.0.2.100\", \"192.0.2.101\"]\n\
         [timeouts]\n\
         max_duration = \"8h\"\n\
         [protection]\n\
         block = [\"192.0.2.7\", \"10.0.0.0/8\", \"192.0.2.7/32\"]\n\
         allow = [\"2001:db8::/32\"]\n\
         packet_rate = { mode = \"monitor\", per_second = 7 }\n\
         syn_rate = { per_second = 5, burst = 50 }\n");
    assert_survives(&app);
    assert_eq!(app.id.to_string(), "ea95132c15732412d22c1476fa83f27a");
    let [first, second] = app.origins.members[..] else {
        panic!("two origins")
    };
    assert_eq!(
        first.origin.address(app.ports, 1005),
        "192.0.2.1:3005".parse().unwrap()
    );
    let ips = ["192.0.2.9", "2001:db8::1"].map(|ip| ip.parse().unwrap());
    assert_eq!(app.edge_ips, EdgeIps::Static(ips.to_vec()));
    assert_eq!(app.origins.balance, Balance::LowestLatency);
    assert_eq!((first.weight, first.maintenance), (9, true));
    assert_eq!((second.weight, second.rank), (1, 1));
    assert_eq!(app.origins.retries, 0);
    assert_eq!(app.origins.slow_start, Duration::from_secs(90));
    let pool = ["192.0.2.100", "192.0.2.101"].map(|ip| ip.parse().unwrap());
    assert_eq!(app.origins.source, SourceAddress::Pool(pool.to_vec()));
    assert_eq!(app.proxy_protocol, ProxyProtocol::V1);
    assert_eq!(app.timeouts.max_duration, Some(Duration::from_hours(8)));
    let limits = app.limits;
    assert_eq!(limits.connections_per_prefix, 10);
    assert_eq!(limits.connections_per_source, 10);
    let rate = |per_second, burst| Some(ConnectionRate { per_second, burst });
    assert_eq!(app.origins.max_connections, Some(4));
    let queue = limits.queue.unwrap();
    assert_eq!((queue.length, queue.timeout), (3, Duration::from_secs(5)));
    let bandwidth = limits.bandwidth;
    let ways = |up, down| Ways { up, down };
    assert_eq!(
        bandwidth.per_connection,
        ways(Some(1_000), Some(12_500_000))
    );
    assert_eq!(bandwidth.per_source, ways(None, Some(12_500_000)));
    assert_eq!(bandwidth.app, ways(Some(3 << 29), None));
    assert_eq!(limits.new_connections.app, rate(7, 14));
    assert_eq!(limits.new_connections.per_source, rate(2, 9));
    let protection = app.protection;
    let block = ["10.0.0.0/8", "192.0.2.7/32"].map(|prefix| prefix.parse().unwrap());
    assert_eq!(protection.block, block);
    // `ip_firewall = false`: the lists are kept and not applied.
    assert_eq!(
        (protection.blocklist, protection.allowlist),
        (Mode::Off, Mode::Off)
    );
    let monitored = Rate {
        mode: Mode::Monitor,
        per_second: 7,
        burst: 14,
    };
    assert_eq!(protection.packet_rate, monitored);
    let limited = Rate {
        mode: Mode::Enforce,
        per_second: 5,
        burst: 50,
    };
    assert_eq!(protection.syn_rate, limited);
}

#[test]
fn names_lead_to_origins() {
    let named = app("dns = { name = \"ssh.example.com\" }\n\
         protocol = \"tcp/1000-1009\"\n\
         origin_dns = { name = \"Origin.Example.com.\", type = \"A\", ttl = 60 }\n\
         origin_port = \"3000-3009\"\n");
    let lookup = named.origins.lookup.as_ref().unwrap();
    assert_eq!(lookup.name, "origin.example.com");
    assert_eq!(lookup.records, Records::A);
    assert_eq!(lookup.first_port, Some(3000));
    assert_eq!(lookup.max_age, Duration::from_secs(60));
    assert!(named.origins.members.is_empty());
    assert_survives(&named);

    let service = app("dns = { name = \"mc.example.com\" }\n\
         protocol = \"tcp/25565\"\n\
         origin_dns = { name = \"_minecraft._tcp.example.com\", type = \"SRV\" }\n");
    let lookup = service.origins.lookup.as_ref().unwrap();
    assert_eq!((lookup.records, lookup.first_port), (Records::Srv, None));
    assert_survives(&service);
}

/// An id that changed with a release would lose the counters of every app without one.
#[test]
fn the_id_of_a_file_never_changes() {
    let id = AppId::from_file_stem("ssh").to_string();
    assert_eq!(id, "7f5a55cf3f88be936fb9440249cb449f");
}

#[test]
fn files_of_editors_are_no_apps() {
    let directory = tempfile::tempdir().unwrap();
    let apps = directory.path().join("apps.d");
    fs::create_dir_all(apps.join("directory.toml")).unwrap();
    for name in [
        ".ssh.toml.swp",
        ".#ssh.toml",
        "ssh.toml~",
        "ssh.toml.bak",
        "README",
    ] {
        fs::write(apps.join(name), "not a document").unwrap();
    }
    let path = directory.path().join("spectrum.toml");
    fs::write(&path, "interfaces = [\"eth0\"]\n").unwrap();
    let config = config::load(&path).unwrap_or_else(|errors| panic!("{errors}"));
    assert!(config.apps.is_empty());
}

/// What the data plane cannot hold is refused before anything is touched.
#[test]
fn more_than_the_maps_hold_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let apps = directory.path().join("apps.d");
    fs::create_dir(&apps).unwrap();
    for app in 1..=1024 {
        let document = format!(
            "dns = {{ name = \"app{app}\" }}\nprotocol = \"tcp/{app}\"\n\
             origin_direct = [\"tcp://192.0.2.1:{app}\"]\n"
        );
        fs::write(apps.join(format!("{app}.toml")), document).unwrap();
    }
    let path = directory.path().join("spectrum.toml");
    fs::write(&path, "interfaces = [\"eth0\"]\n").unwrap();
    let errors = config::load(&path).unwrap_err();
    let messages: Vec<String> = errors
        .findings()
        .into_iter()
        .map(|found| found.message)
        .collect();
    let [apps] = &messages[..] else {
        panic!("{messages:?}")
    };
    assert!(
        apps.contains("1024 apps; the data plane holds 1023"),
        "{apps}"
    );
}

/// The reference has a heading for each field, and what it shows as a document is one.
#[test]
fn the_reference_is_complete_and_true() {
    let reference = fs::read_to_string("../docs/configuration.md").unwrap();
    let headings: BTreeSet<&str> = reference
        .lines()
        .filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`'))
        .collect();

    let config = examples();
    let mut fields = BTreeSet::new();
    let host = serde_json::to_value(HostDocument::from(&config.host)).unwrap();
    collect_fields("", &host, &mut fields);
    for app in &config.apps {
        let app = serde_json::to_value(AppDocument::from(&**app)).unwrap();
        collect_fields("", &app, &mut fields);
    }
    let undocumented: Vec<&String> = fields
        .iter()
        .filter(|field| !headings.contains(field.as_str()))
        .collect();
    assert!(undocumented.is_empty(), "{undocumented:?}");

    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("apps.d")).unwrap();
    let mut documents = 0;
    for block in reference.split("```toml\n").skip(1) {
        let (text, _) = block.split_once("```").unwrap();
        let is_host = text.contains("interfaces =");
        let is_app = text.contains("origin_direct =") && text.contains("protocol =");
        let path = directory.path().join("spectrum.toml");
        fs::write(&path, text).unwrap();
        if is_host {
            config::load(&path).unwrap_or_else(|errors| panic!("{text}\n{errors}"));
        } else if is_app {
            config::load_app(&path).unwrap_or_else(|errors| panic!("{text}\n{errors}"));
        }
        documents += usize::from(is_host || is_app);
    }
    assert!(documents >= 2, "the reference shows {documents} documents");
}

/// `edge_ips.connectivity`, and so on for each leaf.
fn collect_fields(prefix: &str, value: &serde_json::Value, fields: &mut BTreeSet<String>) {
    let Some(table) = value.as_object() else {
        fields.insert(prefix.to_owned());
        return;
    };
    for (key, value) in table {
        let path = match prefix {
            "" => key.clone(),
            _ => format!("{prefix}.{key}"),
        };
        collect_fields(&path, value, fields);
    }
}

fn enforce(per_second: u32) -> Rate {
    Rate {
        mode: Mode::Enforce,
        per_second,
        burst: per_second * 2,
    }
}
