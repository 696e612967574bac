//! Sessions whose datagrams go past the proxy: who gets that far, and that the books are kept.

use std::{
    net::UdpSocket,
    sync::{Arc, Mutex},
    time::Duration,
};

use spectrum_user::{
    config::{App, DataPath, Mode, ProxyProtocol},
    event::Kind,
    proxy::{Carried, Passage, Route, Shortcut},
};

use crate::stage::*;

/// Carries nothing, but what it is told that it has.
#[derive(Debug, Default)]
struct Teller {
    routes: Mutex<Vec<Route>>,
    carried: Arc<Mutex<[Carried; 2]>>,
    closed: Arc<Mutex<Vec<&'static str>>>,
}

#[derive(Debug)]
struct Told {
    route: Route,
    carried: Arc<Mutex<[Carried; 2]>>,
    closed: Arc<Mutex<Vec<&'static str>>>,
}

impl Shortcut for Teller {
    fn open(&self, route: &Route) -> Option<Box<dyn Passage>> {
        self.routes.lock().unwrap().push(*route);
        Some(Box::new(Told {
            route: *route,
            carried: Arc::clone(&self.carried),
            closed: Arc::clone(&self.closed),
        }))
    }
}

impl Passage for Told {
    fn carried(&self) -> [Carried; 2] {
        *self.carried.lock().unwrap()
    }

    fn close(self: Box<Self>) -> [Carried; 2] {
        // Somebody else could have the port by now, and get what is meant for the client.
        let is_held = UdpSocket::bind(self.route.outside).is_err();
        let how = if is_held { "held" } else { "free" };
        self.closed.lock().unwrap().push(how);
        self.carried()
    }
}

fn carried(datagrams: u64, bytes: u64) -> Carried {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC_COARSE);
    Carried {
        datagrams,
        bytes,
        last: Duration::from(now.unwrap()),
    }
}

fn stage(app: &App, teller: &Arc<Teller>) -> Stage {
    let shortcut: Arc<dyn Shortcut> = Arc::clone(teller) as _;
    Stage::with_shortcut(std::slice::from_ref(app), shortcut)
}

fn client() -> UdpSocket {
    let socket = udp_socket(ip(10), 0);
    socket.connect(edge()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// A question, an answer, and a word that shows that the answer came. Returns the session's address.
fn converse(client: &UdpSocket, origin: &UdpSocket) -> std::net::SocketAddr {
    client.send(b"question").unwrap();
    let (_, session) = receive_from(origin);
    origin.send_to(b"answer", session).unwrap();
    assert_eq!(receive(client), b"answer");
    client.send(b"thanks").unwrap();
    assert_eq!(receive(origin), b"thanks");
    session
}

fn routes(teller: &Teller) -> Vec<Route> {
    teller.routes.lock().unwrap().clone()
}

#[test]
fn a_session_that_is_two_way_is_carried_as_it_is() {
    let origin = udp_origin();
    let mut app = udp_app(&[origin.local_addr().unwrap()]);
    app.protection.amplification.mode = Mode::Off;
    let teller = Arc::<Teller>::default();
    let mut stage = stage(&app, &teller);
    let client = client();
    let outside = converse(&client, &origin);
    let wanted = Route {
        client: client.local_addr().unwrap(),
        edge: edge(),
        outside,
        origin: origin.local_addr().unwrap(),
    };
    assert_eq!(routes(&teller), [wanted]);
    // Once, however much follows.
    converse(&client, &origin);
    assert_eq!(routes(&teller).len(), 1);
    stage.shutdown(Duration::ZERO);
    assert_eq!(*teller.closed.lock().unwrap(), ["held"]);
}

/// Its answers are bounded, which only the proxy does.
#[test]
fn who_has_not_proved_itself_is_not_carried() {
    let origin = udp_origin();
    let teller = Arc::<Teller>::default();
    let mut app = udp_app(&[origin.local_addr().unwrap()]);
    app.protection.amplification.mode = Mode::Enforce;
    app.protection.amplification.ratio = 100;
    let mut stage = stage(&app, &teller);
    let client = client();
    for _ in 0..5 {
        converse(&client, &origin);
    }
    assert_eq!(routes(&teller), []);
    // It goes on for two seconds.
    eventually(
        || {
            converse(&client, &origin);
            routes(&teller).len()
        },
        |&count| count == 1,
    );
    stage.shutdown(Duration::ZERO);
}

#[test]
fn nobody_is_carried_where_the_proxy_has_something_to_add_or_is_asked_to_serve() {
    let origin = udp_origin();
    for (path, header) in [
        (DataPath::Proxy, ProxyProtocol::Off),
        (DataPath::Auto, ProxyProtocol::V2),
    ] {
        let mut app = udp_app(&[origin.local_addr().unwrap()]);
        app.protection.amplification.mode = Mode::Off;
        app.data_path = path;
        app.proxy_protocol = header;
        let teller = Arc::<Teller>::default();
        let mut stage = stage(&app, &teller);
        let client = client();
        for _ in 0..3 {
            client.send(b"question").unwrap();
            let (_, session) = receive_from(&origin);
            origin.send_to(b"answer", session).unwrap();
            assert_eq!(receive(&client), b"answer");
        }
        assert_eq!(routes(&teller), []);
        stage.shutdown(Duration::ZERO);
    }
}

/// Else a limit that is set in need holds for everybody but those who send the most.
#[test]
fn who_is_carried_comes_back_to_the_proxy_when_bandwidth_is_bounded() {
    let origin = udp_origin();
    let mut app = udp_app(&[origin.local_addr().unwrap()]);
    app.protection.amplification.mode = Mode::Off;
    let teller = Arc::<Teller>::default();
    let mut stage = stage(&app, &teller);
    let client = client();
    converse(&client, &origin);
    assert_eq!(routes(&teller).len(), 1);
    app.limits.bandwidth.app.up = Some(1_000_000);
    stage.apply(&[app]).unwrap();
    eventually(
        || teller.closed.lock().unwrap().clone(),
        |closed| closed == &["held"],
    );
    // Not the newcomer either.
    for client in [client, self::client()] {
        converse(&client, &origin);
    }
    assert_eq!(routes(&teller).len(), 1);
    stage.shutdown(Duration::ZERO);
}

#[test]
fn what_is_carried_is_in_the_books_and_keeps_the_session_alive() {
    let origin = udp_origin();
    let mut app = udp_app(&[origin.local_addr().unwrap()]);
    app.protection.amplification.mode = Mode::Off;
    app.timeouts.idle = Duration::from_millis(1500);
    let teller = Arc::<Teller>::default();
    let stage = stage(&app, &teller);
    let client = client();
    converse(&client, &origin);
    stage.expect_event(Kind::Connect, 0);
    let before = stage.snapshot("app").totals;
    // For longer than the session would live without.
    for round in 1..=3 {
        *teller.carried.lock().unwrap() = [carried(round, round * 1000), carried(round, round)];
        let totals = eventually(
            || stage.snapshot("app").totals,
            |now| now.ingress_bytes == before.ingress_bytes + round * 1000,
        );
        assert_eq!(totals.egress_bytes, before.egress_bytes + round);
        assert_eq!(stage.snapshot("app").active, 1);
    }
    let end = stage.expect_event(Kind::Disconnect, 200);
    let asked = (b"question".len() + b"thanks".len()) as u64;
    let answered = b"answer".len() as u64;
    assert_eq!(
        (end.client_bytes, end.origin_bytes),
        (asked + 3000, answered + 3)
    );
    assert_eq!(*teller.closed.lock().unwrap(), ["held"]);
}
