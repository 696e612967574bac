//! Origins that are full, and who waits for them.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use spectrum_user::{
    config::{App, Queue},
    event::Kind,
};

use crate::stage::*;

/// An origin with one place, before which so many may wait.
fn app(origin: &TcpListener, length: u32, timeout: Duration) -> App {
    let mut app = tcp_app(&[origin.local_addr().unwrap()]);
    app.origins.max_connections = Some(1);
    app.limits.queue = Some(Queue { length, timeout });
    app
}

/// A client that waits, and says who it is.
fn come(stage: &Stage, name: u8) -> TcpStream {
    let waiting = stage.snapshot("app").waiting;
    let mut client = connect(edge());
    client.write_all(&[name]).unwrap();
    wait_for(stage, waiting + 1);
    client
}

fn wait_for(stage: &Stage, waiting: usize) {
    eventually(|| stage.snapshot("app").waiting, |&now| now == waiting);
}

/// Who is served next.
fn next(origin: &TcpListener) -> (TcpStream, u8) {
    let mut server = accept(origin);
    let mut name = [0];
    server.read_exact(&mut name).unwrap();
    (server, name[0])
}

/// Over two workers, in the order in which they came; who hangs up in the meantime, whether it has
/// sent something or not, leaves the queue at once.
#[test]
fn clients_wait_in_the_order_in_which_they_came() {
    let origin = tcp_origin();
    let stage = Stage::new(&[app(&origin, 20, PATIENCE)]);
    let first = connect_through(edge(), &origin);
    let mut waiting: Vec<_> = (0..10).map(|name| come(&stage, name)).collect();
    assert_eq!(stage.snapshot("app").totals.queued, 10);
    assert_eq!(stage.snapshot("app").origins[0].active, 1);

    drop(waiting.remove(7));
    reset(waiting.remove(3));
    waiting[0].shutdown(Shutdown::Write).unwrap();
    wait_for(&stage, 7);
    waiting.remove(0);

    drop(first);
    for expected in [1, 2, 4, 5, 6, 8, 9] {
        let (server, name) = next(&origin);
        assert_eq!(name, expected);
        assert_eq!(stage.snapshot("app").origins[0].active, 1);
        drop((server, waiting.remove(0)));
    }
    stage.wait_for_active("app", 0);
    let snapshot = stage.snapshot("app");
    assert_eq!((snapshot.waiting, snapshot.totals.refused), (0, 0));
    assert_eq!(snapshot.origins[0].active, 0);
}

/// 200 clients from 20 threads, all of whom are served by an origin that never has more than three.
#[test]
fn an_origin_never_has_more_than_it_may_and_everybody_is_served() {
    const MOST: u32 = 3;
    let origin = tcp_origin();
    let mut app = app(&origin, 200, PATIENCE);
    app.origins.max_connections = Some(MOST);
    let stage = Stage::new(&[app]);
    let (held, most) = (AtomicU32::new(0), AtomicU32::new(0));
    thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                for _ in 0..10 {
                    let mut client = connect(edge());
                    client.write_all(b"x").unwrap();
                    let mut answer = Vec::new();
                    client.read_to_end(&mut answer).unwrap();
                    assert_eq!(answer, b"y");
                }
            });
        }
        for _ in 0..200 {
            let mut server = accept(&origin);
            most.fetch_max(held.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            let held = &held;
            scope.spawn(move || {
                server.read_exact(&mut [0; 1]).unwrap();
                server.write_all(b"y").unwrap();
                // It closes first: until then, its place is taken.
                held.fetch_sub(1, Ordering::Relaxed);
            });
        }
    });
    assert!(most.into_inner() <= MOST);
    let totals = stage.snapshot("app").totals;
    assert_eq!((totals.connections, totals.refused), (200, 0));
    assert!(totals.queued > 0);
}

#[test]
fn the_queue_has_an_end_and_so_has_the_time() {
    let origin = tcp_origin();
    let stage = Stage::new(&[app(&origin, 2, Duration::from_millis(1500))]);
    let held = connect_through(edge(), &origin);
    stage.expect_event(Kind::Connect, 0);
    let began = Instant::now();
    let mut waiting = [come(&stage, 1), come(&stage, 2)];
    expect_reset(ip(10), edge());
    let event = stage.expect_event(Kind::ClientFiltered, 403);
    assert_eq!(event.reason, "queue");
    assert_eq!((event.client_ip, event.origin_ip), (ip(10), None));
    for client in &mut waiting {
        assert_eq!(end_of(client), libc::ECONNRESET);
        let event = stage.expect_event(Kind::ClientFiltered, 403);
        assert_eq!(event.reason, "queue_timeout");
    }
    assert!(began.elapsed() >= Duration::from_millis(1500));
    let refusals = stage.snapshot("app").totals.refusals;
    assert_eq!((refusals.queue, refusals.queue_timeout), (1, 2));
    drop(held);
}

/// Also those who wait already.
#[test]
fn more_places_are_given_at_once() {
    let origin = tcp_origin();
    let mut app = app(&origin, 20, PATIENCE);
    let stage = Stage::new(&[app.clone()]);
    let _held = connect_through(edge(), &origin);
    let _waiting: Vec<_> = (0..4).map(|name| come(&stage, name)).collect();
    app.origins.max_connections = Some(3);
    stage.apply(&[app.clone()]).unwrap();
    let _served: Vec<_> = [0, 1]
        .map(|expected| {
            let (server, name) = next(&origin);
            assert_eq!(name, expected);
            server
        })
        .into();
    wait_for(&stage, 2);
    app.origins.max_connections = None;
    app.limits.queue = None;
    stage.apply(&[app]).unwrap();
    let _more = [next(&origin), next(&origin)];
    wait_for(&stage, 0);
}

/// A place is given back however a connection ends, before it begins as well.
#[test]
fn places_come_back_from_connections_that_never_were() {
    let mut listener = Some(tcp_origin());
    let origin = listener.as_ref().unwrap();
    let address = origin.local_addr().unwrap();
    let mut app = app(origin, 100, PATIENCE);
    app.origins.max_connections = Some(2);
    let stage = Stage::new(&[app]);
    drop(listener.take());
    for _ in 0..20 {
        expect_reset(ip(10), edge());
    }
    stage.wait_for_active("app", 0);
    assert_eq!(stage.snapshot("app").origins[0].active, 0);
    let origin = tcp_listener(address.ip(), address.port());
    for _ in 0..10 {
        let pair = [
            connect_through(edge(), &origin),
            connect_through(edge(), &origin),
        ];
        let [first, second] = pair;
        reset(first.0);
        reset(second.1);
        drop((first.1, second.0));
        stage.wait_for_active("app", 0);
    }
    assert_eq!(stage.snapshot("app").origins[0].active, 0);
}

#[test]
fn without_a_queue_and_over_udp_who_finds_all_full_is_refused() {
    let origins = [udp_origin(), udp_origin()];
    let addresses = [0, 1].map(|index| origins[index].local_addr().unwrap());
    let mut app = udp_app(&addresses);
    app.origins.max_connections = Some(1);
    app.timeouts.idle = Duration::from_secs(1);
    let stage = Stage::new(&[app]);
    let clients = [0, 1].map(|_| udp_client(edge()));
    for client in &clients {
        client.send(b"hello").unwrap();
    }
    // One each.
    assert_eq!(origins.each_ref().map(receive), [b"hello", b"hello"]);
    stage.expect_event(Kind::Connect, 0);
    stage.expect_event(Kind::Connect, 0);
    let late = udp_client(edge());
    for _ in 0..10 {
        late.send(b"hello").unwrap();
    }
    let event = stage.expect_event(Kind::ClientFiltered, 403);
    assert_eq!(event.reason, "origins");
    eventually(
        || stage.snapshot("app").totals.refusals.origins,
        |&refused| refused == 10,
    );
    assert_eq!(stage.snapshot("app").active, 2);
}
