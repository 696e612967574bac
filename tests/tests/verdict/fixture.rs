//! The policy of the tables, and the checker: one packet, one cell.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use spectrum_common::reason::Reason;
use spectrum_user::{
    config::{
        AppId, Config, DataPath, Datagrams, EdgeIps, Host, Mode, SynChallenge, TcpSession,
        Transport, When,
    },
    dataplane::{
        Filter,
        counters::{Snapshot, Total},
    },
    geo::Places,
};

use crate::{
    places::{admit, country, places, refuse},
    policy::{app, host, nets, rate},
    rules,
};

/// Addresses of the shielded interface.
pub(crate) const EDGE: &str = "192.0.2.1";
pub(crate) const EDGE_V6: &str = "2001:db8::1";
/// An edge address of one app alone.
pub(crate) const STATIC_EDGE: &str = "192.0.2.53";
/// What a database knows.
const PLACES: [(&str, &str, u32); 5] = [
    ("100.64.0.0/16", "DE", 64500),
    ("100.65.0.0/16", "KP", 64496),
    ("198.19.3.0/24", "KP", 64496),
    ("2001:db8:c::/48", "DE", 64500),
    ("2001:db8:f::/48", "KP", 64496),
];
/// Not ours.
pub(crate) const ELSEWHERE: &str = "192.0.2.200";

/// SYNs per second above which the app `wary` is challenged.
pub(crate) const WARY_ABOVE: u32 = 5;

/// Segments of no connection per second above which the app `patient` loses them.
pub(crate) const PATIENT_ABOVE: u32 = 7;

/// For what the filter does in time: emulated kernels are slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Where a packet is counted: an app, or `None` for the host.
pub(crate) type Owner = Option<&'static str>;

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cell {
    Passed,
    Monitored(Reason),
    Dropped(Reason),
    Challenged,
}

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;

/// The program under the policy of the tables.
pub(crate) struct Fixture {
    filter: Filter,
    config: Config,
    /// Owner and slot.
    slots: Vec<(Owner, u32)>,
}

impl Fixture {
    /// With the host's own rules (malformed, closed ports) in `mode`.
    pub(crate) fn new(mode: Mode) -> Result<Self> {
        let mut fixture = Self {
            filter: Filter::load_private()?,
            config: config(mode),
            slots: vec![(None, 0)],
        };
        fixture.apply(&places(&PLACES))?;
        let known = fixture.filter.maps().slots()?;
        for app in &fixture.config.apps {
            let slot = known.get(&app.id).context("an app without a slot")?;
            let name = NAMES.iter().find(|name| **name == app.name);
            fixture.slots.push((name.copied(), *slot));
        }
        Ok(fixture)
    }

    /// Lets the documents say something else of the host from now on.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut Host)) -> Result<()> {
        change(&mut self.config.host);
        self.apply(&places(&PLACES))
    }

    /// Lets this be all that databases know from now on.
    pub(crate) fn learn(&mut self, known: &[(&str, &str, u32)]) -> Result<()> {
        self.apply(&places(known))
    }

    fn apply(&mut self, places: &Arc<Places>) -> Result<()> {
        let addresses: [IpAddr; 2] = [EDGE.parse()?, EDGE_V6.parse()?];
        self.filter.apply(&self.config, &addresses, places)?;
        Ok(())
    }

    pub(crate) fn filter(&mut self) -> &mut Filter {
        &mut self.filter
    }

    /// Notes that a source has proved to an app that it is real.
    pub(crate) fn prove(&mut self, owner: Owner, source: &str) -> Result<()> {
        let app = AppId::from_file_stem(owner.context("the host has no sources")?);
        Ok(self.filter.maps().prove([(app, source.parse()?)])?)
    }

    /// Notes that a source holds a TCP connection with an app, or none any more.
    pub(crate) fn connect(&mut self, owner: Owner, source: &str, is_open: bool) -> Result<()> {
        let app = AppId::from_file_stem(owner.context("the host has no sources")?);
        let sessions = [(app, source.parse()?, is_open)];
        Ok(self.filter.maps().note_sessions(sessions)?)
    }

    pub(crate) fn slot(&self, owner: Owner) -> Result<u32> {
        let found = self.slots.iter().find(|(name, _)| *name == owner);
        Ok(found.context("no such app")?.1)
    }

    /// Sends one packet and asserts the action, and that exactly one cell has moved, by one packet
    /// and the length of the frame.
    pub(crate) fn check(&mut self, frame: &[u8], owner: Owner, cell: Cell) -> Result<()> {
        self.run(frame, owner, cell).map(|_| ())
    }

    /// As [`Fixture::check`], and returns the frame as the program left it.
    pub(crate) fn run(&mut self, frame: &[u8], owner: Owner, cell: Cell) -> Result<Vec<u8>> {
        let before = self.cells()?;
        let run = self.filter.test_run(frame, 1)?;
        let after = self.cells()?;
        let moved: Vec<_> = after
            .iter()
            .map(|(key, total)| {
                (
                    *key,
                    minus(*total, before.get(key).copied().unwrap_or_default()),
                )
            })
            .filter(|(_, delta)| *delta != Total::default())
            .collect();
        let one = Total {
            packets: 1,
            bytes: frame.len() as u64,
        };
        ensure!(
            moved == [((owner, cell), one)],
            "expected {owner:?} {cell:?} and {} bytes, but these cells moved: {moved:?}\n  frame: {}",
            frame.len(),
            hex(frame)
        );
        let action = match cell {
            Cell::Dropped(_) => XDP_DROP,
            Cell::Passed | Cell::Monitored(_) => XDP_PASS,
            Cell::Challenged => XDP_TX,
        };
        ensure!(run.action == action, "action {} for {cell:?}", run.action);
        Ok(run.packet)
    }

    fn cells(&self) -> Result<BTreeMap<(Owner, Cell), Total>> {
        let mut cells = BTreeMap::new();
        for &(owner, slot) in &self.slots {
            let Snapshot {
                passed,
                dropped,
                monitored,
                challenged,
                challenged_since: _,
                strays_since: _,
            } = self.filter.maps().counters(slot)?;
            cells.insert((owner, Cell::Passed), passed);
            cells.insert((owner, Cell::Challenged), challenged);
            for &reason in Reason::ALL {
                if let Some(total) = dropped.get(reason.name()) {
                    cells.insert((owner, Cell::Dropped(reason)), *total);
                }
                if let Some(total) = monitored.get(reason.name()) {
                    cells.insert((owner, Cell::Monitored(reason)), *total);
                }
            }
        }
        Ok(cells)
    }
}

fn minus(after: Total, before: Total) -> Total {
    Total {
        packets: after.packets - before.packets,
        bytes: after.bytes - before.bytes,
    }
}

fn hex(frame: &[u8]) -> String {
    frame.iter().map(|byte| format!("{byte:02x}")).collect()
}

const NAMES: [&str; 26] = [
    "web",
    "game",
    "ssh",
    "vpn",
    "watched",
    "watched-udp",
    "slow",
    "shy",
    "dns",
    "ruled",
    "ruled-tcp",
    "crowded",
    "crowded-tcp",
    "crowded-udp",
    "crowded-heavy",
    "crowded-watched",
    "sized",
    "guests",
    "guests-watched",
    "guarded",
    "wary",
    "lenient",
    "patient",
    "local",
    "local-udp",
    "local-watched",
];

fn session_with_web(mode: Mode) -> Option<TcpSession> {
    let app = "web".to_owned();
    Some(TcpSession { mode, app })
}

fn config(host_mode: Mode) -> Config {
    use Transport::{Tcp, Udp};
    let mut apps = vec![
        app("web", Tcp, 80, 80),
        app("game", Udp, 7000, 7999),
        app("ssh", Tcp, 22, 22),
        app("vpn", Udp, 51_820, 51_820),
        app("watched", Tcp, 81, 81),
        app("watched-udp", Udp, 8081, 8081),
        app("slow", Tcp, 90, 90),
        app("shy", Tcp, 91, 91),
        app("dns", Udp, 53, 53),
        app("ruled", Udp, 9000, 9099),
        app("ruled-tcp", Tcp, 9000, 9000),
        app("crowded", Tcp, 92, 92),
        app("crowded-tcp", Tcp, 93, 93),
        app("crowded-udp", Udp, 9200, 9200),
        app("crowded-heavy", Udp, 9201, 9201),
        app("crowded-watched", Udp, 9202, 9202),
        app("sized", Udp, 9300, 9300),
        app("guests", Udp, 9301, 9301),
        app("guests-watched", Udp, 9302, 9302),
        app("guarded", Tcp, 82, 82),
        app("wary", Tcp, 83, 83),
        app("lenient", Tcp, 84, 84),
        app("patient", Tcp, 97, 97),
        app("local", Tcp, 85, 85),
        app("local-udp", Udp, 8500, 8500),
        app("local-watched", Tcp, 86, 86),
    ];
    for app in &mut apps {
        let protection = &mut app.protection;
        match app.name.as_str() {
            "web" => protection.block = nets(&["198.18.5.0/24", "2001:db8:bad:1::/64"]),
            "ssh" => {
                protection.allow =
                    nets(&["203.0.113.0/24", "203.0.113.200/32", "2001:db8:a11::/48"]);
                protection.block = nets(&["203.0.113.192/26", "203.0.113.9/32"]);
            }
            "game" => app.data_path = DataPath::Auto,
            "vpn" => {
                protection.fragments = Mode::Off;
                protection.reflectors = Mode::Off;
            }
            "watched" | "watched-udp" => {
                protection.blocklist = Mode::Monitor;
                protection.allow = nets(&["203.0.113.0/24"]);
                protection.allowlist = Mode::Monitor;
                protection.reflectors = Mode::Monitor;
                protection.fragments = Mode::Monitor;
                protection.packet_rate = rate(Mode::Monitor, 2);
            }
            "slow" => protection.packet_rate = rate(Mode::Enforce, 3),
            "shy" => protection.syn_rate = rate(Mode::Enforce, 2),
            "ruled" => protection.rules = rules::of_udp_app(),
            "ruled-tcp" => protection.rules = rules::of_tcp_app(),
            "sized" => {
                protection.fragments = Mode::Off;
                protection.datagrams = Datagrams {
                    mode: Mode::Enforce,
                    min: 4,
                    max: 1000,
                };
            }
            "guests" => protection.tcp_session = session_with_web(Mode::Enforce),
            "guests-watched" => {
                protection.tcp_session = session_with_web(Mode::Monitor);
                protection.datagrams.mode = Mode::Monitor;
                protection.datagrams.min = 1;
            }
            "crowded" => protection.ceiling.packets_per_second = Some(1),
            "crowded-tcp" | "crowded-udp" => protection.ceiling.new_flows_per_second = Some(1),
            "crowded-heavy" => protection.ceiling.bytes_per_second = Some(1000),
            "crowded-watched" => {
                protection.ceiling.mode = Mode::Monitor;
                protection.ceiling.packets_per_second = Some(1);
            }
            "guarded" => {
                protection.syn_challenge.when = When::Always;
                protection.out_of_state = Mode::Enforce;
                protection.countries = refuse(vec![country("KP")]);
            }
            "wary" => {
                protection.syn_challenge = SynChallenge {
                    when: When::Auto,
                    above: WARY_ABOVE,
                };
            }
            "local" => protection.countries = admit(vec![country("DE")]),
            "local-udp" => protection.asns = refuse(vec![64496]),
            "local-watched" => {
                protection.countries = refuse(vec![country("KP")]);
                protection.countries.mode = Mode::Monitor;
                protection.asns = refuse(vec![64500]);
            }
            "lenient" => protection.out_of_state = Mode::Monitor,
            "patient" => {
                protection.out_of_state = Mode::Enforce;
                protection.out_of_state_above = PATIENT_ABOVE;
            }
            "dns" => app.edge_ips = EdgeIps::Static(vec![STATIC_EDGE.parse().expect("an address")]),
            _ => {}
        }
    }
    Config {
        host: Host {
            block: nets(&[
                "198.18.0.7/32",
                "198.18.1.0/24",
                "198.19.0.0/16",
                "2001:db8:bad::7/128",
                "2001:db8:bad:7::/64",
                "2001:db9::/32",
            ]),
            allow: nets(&["198.19.3.0/24", "2001:db9:1::/48"]),
            rules: rules::of_host(),
            ..host(host_mode)
        },
        apps: apps.into_iter().map(Arc::new).collect(),
    }
}
