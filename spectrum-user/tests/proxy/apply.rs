//! Changes while it runs, and the end.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use spectrum_user::{
    config::{App, AppId, PortRange, ProxyProtocol, Transport},
    event::Kind,
    proxy::{ApplyError, Changes, Drained},
    tls::Endpoints,
};

use crate::stage::*;

fn at(name: &str, number: u8, origin: &TcpListener) -> App {
    let edge = SocketAddr::new(ip(number), PORT);
    app(name, Transport::Tcp, edge, &[origin.local_addr().unwrap()])
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.into()).collect()
}

fn assert_alive((client, server): &mut (TcpStream, TcpStream)) {
    client.write_all(b"ping").unwrap();
    server.read_exact(&mut [0; 4]).unwrap();
    server.write_all(b"pong").unwrap();
    client.read_exact(&mut [0; 4]).unwrap();
}

fn refuses(edge: SocketAddr) -> bool {
    TcpStream::connect(edge).is_err_and(|error| error.raw_os_error() == Some(libc::ECONNREFUSED))
}

#[test]
fn a_change_of_one_app_leaves_the_others_alone() {
    let origin = tcp_origin();
    let other = tcp_origin();
    let [kept, gone, changed] =
        [("kept", 1), ("gone", 3), ("changed", 4)].map(|(name, number)| at(name, number, &origin));
    let stage = Stage::new(&[kept.clone(), gone, changed.clone()]);
    let through = |number, origin| connect_through(SocketAddr::new(ip(number), PORT), origin);
    let mut on_kept = through(1, &origin);
    let mut on_gone = through(3, &origin);
    let mut on_changed = through(4, &origin);

    let mut new_document = changed;
    new_document.origins = at("", 4, &other).origins;
    new_document.proxy_protocol = ProxyProtocol::V1;
    let added = at("added", 5, &origin);
    let apps = [kept, new_document, added];
    let changes = stage.apply(&apps).unwrap();
    let expected = Changes {
        added: names(&["added"]),
        removed: names(&["gone"]),
        updated: names(&["changed"]),
        unchanged: names(&["kept"]),
    };
    assert_eq!(changes, expected);

    assert!(
        refuses(SocketAddr::new(ip(3), PORT)),
        "a removed app listens no more"
    );
    assert_alive(&mut on_kept);
    assert_alive(&mut on_gone);
    assert_alive(&mut on_changed);
    assert_alive(&mut through(1, &origin));
    assert_alive(&mut through(5, &origin));
    // New connections of the changed app follow the new document.
    let (_client, mut server) = through(4, &other);
    let mut start = [0; 6];
    server.read_exact(&mut start).unwrap();
    assert_eq!(&start, b"PROXY ");

    let again = stage.apply(&apps).unwrap();
    assert_eq!(again.unchanged, names(&["kept", "changed", "added"]));
    assert_alive(&mut on_kept);
}

#[test]
fn connections_of_a_removed_app_may_drain_and_are_cut_then() {
    let origin = tcp_origin();
    let app = at("gone", 1, &origin);
    let stage = Stage::with_drain(Duration::from_secs(2), &[app]);
    let mut stays = connect_through(edge(), &origin);
    let mut ends = connect_through(edge(), &origin);
    stage.expect_event(Kind::Connect, 0);
    stage.expect_event(Kind::Connect, 0);
    stage.apply(&[]).unwrap();
    assert_alive(&mut stays);
    assert_alive(&mut ends);
    drop(ends);
    stage.expect_event(Kind::Disconnect, 200);
    assert_alive(&mut stays);
    assert_eq!(end_of(&mut stays.0), libc::ECONNRESET);
    assert_eq!(end_of(&mut stays.1), libc::ECONNRESET);
    stage.expect_event(Kind::Disconnect, 500);
}

#[test]
fn a_port_range_may_grow_and_shrink_under_live_connections() {
    let origin = tcp_listener(ip(2), 5000);
    let next = tcp_listener(ip(2), 5001);
    let narrow = at("range", 1, &origin);
    let mut wide = narrow.clone();
    wide.ports = PortRange {
        first: PORT,
        last: PORT + 1,
    };
    let stage = Stage::new(std::slice::from_ref(&narrow));
    let mut first = connect_through(edge(), &origin);
    stage.apply(&[wide]).unwrap();
    let second_port = SocketAddr::new(ip(1), PORT + 1);
    let mut second = connect_through(second_port, &next);
    assert_alive(&mut first);
    stage.apply(&[narrow]).unwrap();
    assert!(refuses(second_port));
    assert_alive(&mut first);
    assert_alive(&mut second);
    assert_alive(&mut connect_through(edge(), &origin));
}

/// A new document with a new id takes over the address without a moment of refusal.
#[test]
fn an_address_may_go_over_to_another_app() {
    let origin = tcp_origin();
    let other = tcp_origin();
    let stage = Stage::new(&[at("old", 1, &origin)]);
    let mut before = connect_through(edge(), &origin);
    let changes = stage.apply(&[at("new", 1, &other)]).unwrap();
    assert_eq!(
        (changes.added, changes.removed),
        (names(&["new"]), names(&["old"]))
    );
    assert_alive(&mut before);
    let mut after = connect_through(edge(), &other);
    assert_alive(&mut after);
    assert_eq!(stage.snapshot("new").active, 1);
}

#[test]
fn what_cannot_be_bound_changes_nothing() {
    let origin = tcp_origin();
    let stage = Stage::new(&[at("kept", 1, &origin)]);
    let mut live = connect_through(edge(), &origin);
    let _few = FewFiles::new();
    let taken = tcp_listener(ip(4), PORT);
    let taken_udp = udp_socket(ip(4), PORT);

    let free = at("free", 3, &origin);
    let conflict = at("conflict", 4, &origin);
    let mut udp_conflict = conflict.clone();
    udp_conflict.transport = Transport::Udp;
    let foreign_edge = SocketAddr::new("192.0.2.1".parse().unwrap(), PORT);
    let foreign = app(
        "foreign",
        Transport::Tcp,
        foreign_edge,
        &[origin.local_addr().unwrap()],
    );
    let mut same_address = at("same", 3, &origin);
    same_address.ports = free.ports;
    let mut same_id = at("same", 5, &origin);
    same_id.id = free.id;
    let mut too_wide = at("wide", 5, &origin);
    too_wide.ports = PortRange {
        first: 1,
        last: 65_535,
    };

    let table = [
        (
            conflict,
            &["conflict", "4000", "Address already in use", "ss -tlnp"][..],
        ),
        (
            udp_conflict,
            &["conflict", "4000", "Address already in use", "ss -ulnp"],
        ),
        (
            foreign,
            &["foreign", "192.0.2.1:4000", "add it to an interface"],
        ),
        (same_address, &["same", "free", "4000", "another port"]),
        (same_id, &["same", "free", "same id"]),
        (too_wide, &["wide", "limit", "LimitNOFILE"]),
    ];
    for (bad, words) in table {
        // The old app is to go, and a good one to come: neither may happen.
        let error = stage.apply(&[free.clone(), bad]).unwrap_err();
        let text = error.to_string();
        for word in words {
            assert!(text.contains(word), "{word:?} is missing: {text}");
        }
        assert!(refuses(SocketAddr::new(ip(3), PORT)), "{text}");
        assert_alive(&mut live);
        assert_alive(&mut connect_through(edge(), &origin));
        assert_eq!(stage.snapshot("kept").name, "kept");
    }
    drop((taken, taken_udp));
}

/// A limit of open files, for as long as it lives.
struct FewFiles(u64, u64);

impl FewFiles {
    fn new() -> Self {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, hard.min(10_000), hard).unwrap();
        Self(soft, hard)
    }
}

impl Drop for FewFiles {
    fn drop(&mut self) {
        setrlimit(Resource::RLIMIT_NOFILE, self.0, self.1).unwrap();
    }
}

/// Another instance of the daemon, of the same user, would otherwise share the port, and every
/// second client would land there.
#[test]
fn two_proxies_do_not_share_an_address() {
    use spectrum_user::{
        event::Sink,
        proxy::{Proxy, Settings},
    };

    let origin = tcp_origin();
    let udp = udp_app(&[origin.local_addr().unwrap()]);
    let mut tcp = tcp_app(&[origin.local_addr().unwrap()]);
    tcp.id = AppId([9; 16]);
    let _stage = Stage::new(&[udp.clone(), tcp.clone()]);
    let settings = Settings {
        workers: 1,
        drain: Duration::ZERO,
        dns_servers: Vec::new(),
        shortcut: None,
    };
    let second = Proxy::start(settings, Sink::discard()).unwrap();
    for app in [udp, tcp] {
        let error = block_on(second.apply(&[app.into()], &Endpoints::default())).unwrap_err();
        assert!(matches!(error, ApplyError::Bind { .. }), "{error}");
    }
}

#[test]
fn shutdown_waits_for_those_that_end_and_cuts_the_rest() {
    let origin = tcp_origin();
    let mut stage = Stage::new(&[at("app", 1, &origin)]);
    let mut stays = connect_through(edge(), &origin);
    let mut ends = connect_through(edge(), &origin);
    let ending = thread::spawn(move || {
        eventually(|| refuses(edge()), |&refused| refused);
        assert_alive(&mut ends);
    });
    let began = Instant::now();
    let drained = stage.shutdown(Duration::from_secs(2));
    assert!(began.elapsed() < PATIENCE);
    assert_eq!(
        drained,
        Drained {
            finished: 1,
            cut: 1
        }
    );
    ending.join().unwrap();
    assert_eq!(end_of(&mut stays.0), libc::ECONNRESET);
    assert_eq!(end_of(&mut stays.1), libc::ECONNRESET);
}

#[test]
fn shutdown_of_an_idle_proxy_is_immediate() {
    let origin = tcp_origin();
    let mut stage = Stage::new(&[at("app", 1, &origin)]);
    drop(connect_through(edge(), &origin));
    stage.wait_for_active("app", 0);
    let began = Instant::now();
    assert_eq!(stage.shutdown(PATIENCE * 10).cut, 0);
    assert!(began.elapsed() < PATIENCE);
}
