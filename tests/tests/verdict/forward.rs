//! Datagrams of known sessions, on a host that knows the ways: what leaves, and what is left to the
//! proxy.

use std::{fs, net::SocketAddr, thread};

use anyhow::{Context as _, Result, ensure};
use etherparse::PacketBuilder;
use spectrum_common::maps::CARRY;
use spectrum_user::{
    config::Mode,
    dataplane::forwards::{Forwards, Route, Session},
};

use crate::{
    fixture::{EDGE, EDGE_V6, Fixture},
    frame::{IP, tagged, with},
    host,
};

type Play = fn(&mut Host) -> Result<()>;

pub(crate) const ALL: &[(&str, Play)] = &[
    ("forward::a_datagram_reaches_the_origin", reaches_the_origin),
    ("forward::an_answer_reaches_the_client", reaches_the_client),
    ("forward::what_is_carried_is_counted", is_counted),
    ("forward::rules_come_first", rules_come_first),
    ("forward::only_for_apps_that_want_it", only_who_wants),
    ("forward::only_while_the_daemon_is_there", only_while_held),
    (
        "forward::a_session_that_has_ended_is_not_carried",
        has_ended,
    ),
    ("forward::what_is_odd_is_left_to_the_proxy", odd),
    ("forward::what_is_too_big_is_left_to_the_proxy", too_big),
    ("forward::nobody_feigns_an_origin", nobody_feigns),
    (
        "forward::an_unknown_neighbour_is_left_to_the_kernel",
        no_neighbour,
    ),
    (
        "forward::an_interface_that_takes_nothing_gets_nothing",
        no_port,
    ),
    ("forward::without_a_route_the_proxy_says_so", no_route),
];

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_REDIRECT: u32 = 4;

/// Where the frame has to go, and who sends it.
const OUT: &str = "out";
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x0a];
const ORIGIN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x0b];
const GATEWAY_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x0c];
const SENDER: ([u8; 6], [u8; 6]) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);

/// By which every packet of a test run comes.
const LOOPBACK: u32 = 1;

/// The app `game` is carried, `vpn` is not.
const GAME: u16 = 7000;
const VPN: u16 = 51_820;
const MTU: usize = 1400;

pub(crate) struct Host {
    fixture: Fixture,
    forwards: Forwards,
}

/// Plays on a host of its own, with an interface towards origins and clients.
pub(crate) fn on_a_host(play: Play) -> Result<()> {
    let play = || {
        host::enter(&[EDGE, EDGE_V6])?;
        host::ip(&format!(
            "link add {OUT} address {} type veth peer name other
             link set {OUT} mtu {MTU} up
             link set other up
             address add 10.0.0.1/24 dev {OUT}
             address add fd00::1/64 dev {OUT} nodad
             route add default via 10.0.0.254
             route add default via fd00::fe
             neighbour add 10.0.0.2 lladdr {origin} dev {OUT}
             neighbour add fd00::2 lladdr {origin} dev {OUT}
             neighbour add 10.0.0.254 lladdr {gateway} dev {OUT}
             neighbour add fd00::fe lladdr {gateway} dev {OUT}
             route add unreachable 10.1.0.0/16\n",
            mac(MAC),
            origin = mac(ORIGIN_MAC),
            gateway = mac(GATEWAY_MAC),
        ))?;
        host::set_sysctl("conf/lo/forwarding", "1")?;
        fs::write("/proc/sys/net/ipv6/conf/lo/forwarding", "1")?;
        let mut fixture = Fixture::new(Mode::Enforce)?;
        let forwards = Forwards::default();
        forwards.follow(vec![fixture.filter().forward_table()?]);
        fixture.filter().send_to(&[OUT.to_owned()])?;
        fixture.filter().hold_forwards(true)?;
        play(&mut Host { fixture, forwards })
    };
    thread::scope(|scope| match scope.spawn(play).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}

fn at(text: &str) -> SocketAddr {
    text.parse().expect(text)
}

fn route(port: u16, origin: &str) -> Route {
    Route {
        client: at("100.64.0.9:40000"),
        edge: SocketAddr::new(EDGE.parse().expect(EDGE), port),
        outside: at("10.0.0.1:51000"),
        origin: at(origin),
        interface: LOOPBACK,
    }
}

fn routes() -> [Route; 2] {
    let v6 = Route {
        client: at("[2001:db8:c::9]:40000"),
        edge: SocketAddr::new(EDGE_V6.parse().expect(EDGE_V6), GAME),
        outside: at("[fd00::1]:51000"),
        origin: at("[fd00::2]:5300"),
        interface: LOOPBACK,
    };
    [route(GAME, "10.0.0.2:5300"), v6]
}

fn datagram(
    link: ([u8; 6], [u8; 6]),
    [from, to]: [SocketAddr; 2],
    hops: u8,
    payload: &[u8],
) -> Vec<u8> {
    let link = PacketBuilder::ethernet2(link.0, link.1);
    let ip = match (from, to) {
        (SocketAddr::V4(from), SocketAddr::V4(to)) => {
            link.ipv4(from.ip().octets(), to.ip().octets(), hops)
        }
        (SocketAddr::V6(from), SocketAddr::V6(to)) => {
            link.ipv6(from.ip().octets(), to.ip().octets(), hops)
        }
        _ => panic!("one family"),
    };
    let mut frame = Vec::new();
    let datagram = ip.udp(from.port(), to.port());
    datagram.write(&mut frame, payload).expect("a frame");
    frame
}

/// Of the client.
fn question(route: &Route, payload: &[u8]) -> Vec<u8> {
    datagram(SENDER, [route.client, route.edge], 64, payload)
}

impl Host {
    fn open(&self, route: &Route) -> Result<Session> {
        self.forwards.open(route).context("no room")
    }

    fn run(&mut self, frame: &[u8]) -> Result<(u32, Vec<u8>)> {
        let run = self.fixture.filter().test_run(frame, 1)?;
        Ok((run.action, run.packet))
    }

    /// The frame passes as it is, and exactly one reason was counted, by this name.
    fn left(&mut self, frame: &[u8], reason: &str) -> Result<()> {
        let before = format!("{:?}", self.fixture.filter().maps().forward_counts()?);
        let (action, after) = self.run(frame)?;
        ensure!(action == XDP_PASS, "{reason}: action {action}");
        ensure!(after == frame, "{reason}: the frame has changed");
        let counts = format!("{:?}", self.fixture.filter().maps().forward_counts()?);
        let changed: Vec<_> = counts
            .split(", ")
            .zip(before.split(", "))
            .filter(|(after, before)| after != before)
            .map(|(after, _)| after)
            .collect();
        ensure!(
            changed.len() == 1 && changed.iter().all(|counter| counter.contains(reason)),
            "{reason}: {changed:?}"
        );
        Ok(())
    }
}

fn reaches_the_origin(host: &mut Host) -> Result<()> {
    for route in routes() {
        let _session = host.open(&route)?;
        for payload in [&b"payload"[..], b"", b"odd", &[0xff; 1000]] {
            let (action, frame) = host.run(&question(&route, payload))?;
            ensure!(action == XDP_REDIRECT, "{route:?}: action {action}");
            let wanted = datagram(
                (MAC, ORIGIN_MAC),
                [route.outside, route.origin],
                63,
                payload,
            );
            ensure!(frame == wanted, "{route:?}:\n{frame:02x?}\n{wanted:02x?}");
        }
    }
    Ok(())
}

fn reaches_the_client(host: &mut Host) -> Result<()> {
    for route in routes() {
        let _session = host.open(&route)?;
        let answer = datagram(SENDER, [route.origin, route.outside], 64, b"answer");
        let wanted = datagram(
            (MAC, GATEWAY_MAC),
            [route.edge, route.client],
            63,
            b"answer",
        );
        let (action, frame) = host.run(&answer)?;
        ensure!(action == XDP_REDIRECT, "{route:?}: action {action}");
        ensure!(frame == wanted, "{route:?}:\n{frame:02x?}\n{wanted:02x?}");
        // On an interface that is not shielded.
        let run = host.fixture.filter().test_run_program(CARRY, &answer, 1)?;
        ensure!(run.action == XDP_REDIRECT, "{route:?}: {}", run.action);
        ensure!(run.packet == wanted, "{route:?}");
    }
    Ok(())
}

/// As the proxy would have counted it, and as the filter has always.
fn is_counted(host: &mut Host) -> Result<()> {
    let [route, _] = routes();
    let session = host.open(&route)?;
    let slot = host.fixture.slot(Some("game"))?;
    let before = host.fixture.filter().maps().counters(slot)?.passed;
    let frame = question(&route, b"payload");
    for _ in 0..3 {
        host.run(&frame)?;
    }
    host.run(&datagram(SENDER, [route.origin, route.outside], 64, b"yes"))?;
    let after = host.fixture.filter().maps().counters(slot)?.passed;
    ensure!(after.packets - before.packets == 3, "{after:?}");
    ensure!(after.bytes - before.bytes == 3 * frame.len() as u64);
    let [inward, outward] = session.carried();
    ensure!((inward.datagrams, inward.bytes) == (3, 21), "{inward:?}");
    ensure!((outward.datagrams, outward.bytes) == (1, 3), "{outward:?}");
    ensure!(!inward.last.is_zero(), "no time");
    ensure!(session.close() == [inward, outward]);
    let counts = host.fixture.filter().maps().forward_counts()?;
    ensure!(counts.carried == 4, "{counts:?}");
    Ok(())
}

fn rules_come_first(host: &mut Host) -> Result<()> {
    let blocked = Route {
        client: at("198.18.0.7:40000"),
        ..route(GAME, "10.0.0.2:5300")
    };
    let session = host.open(&blocked)?;
    let (action, _) = host.run(&question(&blocked, b"payload"))?;
    ensure!(action == XDP_DROP, "a blocked source: action {action}");
    ensure!(session.carried()[0].datagrams == 0);
    Ok(())
}

fn only_who_wants(host: &mut Host) -> Result<()> {
    let route = route(VPN, "10.0.0.2:5300");
    let _session = host.open(&route)?;
    let frame = question(&route, b"payload");
    let (action, after) = host.run(&frame)?;
    ensure!(action == XDP_PASS && after == frame, "action {action}");
    Ok(())
}

fn only_while_held(host: &mut Host) -> Result<()> {
    let [route, _] = routes();
    let _session = host.open(&route)?;
    host.fixture.filter().hold_forwards(false)?;
    let frame = question(&route, b"payload");
    let (action, after) = host.run(&frame)?;
    ensure!(action == XDP_PASS && after == frame, "action {action}");
    host.fixture.filter().hold_forwards(true)?;
    let (action, _) = host.run(&frame)?;
    ensure!(action == XDP_REDIRECT, "action {action}");
    Ok(())
}

fn has_ended(host: &mut Host) -> Result<()> {
    let [route, _] = routes();
    let frame = question(&route, b"payload");
    drop(host.open(&route)?);
    let (action, after) = host.run(&frame)?;
    ensure!(action == XDP_PASS && after == frame, "action {action}");
    // Nor does the next one get what was its own.
    let next = Route {
        origin: at("10.0.0.2:5301"),
        ..route
    };
    let _session = host.open(&next)?;
    let (_, after) = host.run(&frame)?;
    ensure!(after.get(36..38) == Some(&5301_u16.to_be_bytes()[..]));
    Ok(())
}

fn odd(host: &mut Host) -> Result<()> {
    let [route, _] = routes();
    let _session = host.open(&route)?;
    let frame = question(&route, b"payload");
    host.left(&tagged(frame.clone(), 0x8100), "odd_shape")?;
    host.left(&with(frame.clone(), IP + 8, 1), "expired")?;
    // The sum of the pseudo header, as a socket behind a virtual interface leaves it.
    let sums = [0x6440, 0x0009, 0xc000, 0x0201, 17, 15];
    let mut sum: u32 = sums.iter().sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let mut unfinished = frame;
    unfinished[40..42].copy_from_slice(&(sum as u16).to_be_bytes());
    host.left(&unfinished, "unfinished")
}

fn too_big(host: &mut Host) -> Result<()> {
    for route in routes() {
        let _session = host.open(&route)?;
        let headers = if route.client.is_ipv4() { 28 } else { 48 };
        let fits = question(&route, &vec![7; MTU - headers]);
        ensure!(host.run(&fits)?.0 == XDP_REDIRECT, "{route:?}");
        host.left(&question(&route, &vec![7; MTU - headers + 1]), "too_big")?;
    }
    Ok(())
}

/// From where its packets never come.
fn nobody_feigns(host: &mut Host) -> Result<()> {
    let route = Route {
        interface: LOOPBACK + 1,
        ..route(GAME, "10.0.0.2:5300")
    };
    let _session = host.open(&route)?;
    let answer = datagram(SENDER, [route.origin, route.outside], 64, b"answer");
    host.left(&answer, "astray")
}

fn no_neighbour(host: &mut Host) -> Result<()> {
    let route = route(GAME, "10.0.0.77:5300");
    let _session = host.open(&route)?;
    host.left(&question(&route, b"payload"), "no_neighbour")
}

fn no_port(host: &mut Host) -> Result<()> {
    let [route, _] = routes();
    let _session = host.open(&route)?;
    host.fixture.filter().send_to(&[])?;
    host.left(&question(&route, b"payload"), "no_port")
}

fn no_route(host: &mut Host) -> Result<()> {
    let [plain, _] = routes();
    let unreachable = route(GAME, "10.1.0.1:5300");
    let session = host.open(&unreachable)?;
    host.left(&question(&unreachable, b"payload"), "no_route")?;
    drop(session);
    let _session = host.open(&plain)?;
    host::set_sysctl("conf/lo/forwarding", "0")?;
    host.left(&question(&plain, b"payload"), "no_route")
}
