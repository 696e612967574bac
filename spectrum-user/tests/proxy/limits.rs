//! What one app or one source may hold.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    time::{Duration, Instant},
};

use spectrum_user::{config::ConnectionRate, event::Kind, proxy::Totals};

use crate::stage::*;

#[test]
fn beyond_a_limit_clients_are_reset_and_a_free_place_is_given_again() {
    let origin = tcp_origin();
    let mut app = tcp_app(&[origin.local_addr().unwrap()]);
    app.limits.connections = 3;
    app.limits.connections_per_source = 2;
    let stage = Stage::new(&[app]);

    let mut held = Vec::new();
    for source in [ip(10), ip(10), ip(11)] {
        let client = connect_from(source, edge());
        held.push((client, accept(&origin)));
        stage.expect_event(Kind::Connect, 0);
    }
    // Its source has two; the app has three.
    for source in [ip(10), ip(12)] {
        expect_reset(source, edge());
        let event = stage.expect_event(Kind::ClientFiltered, 403);
        assert_eq!(event.client_ip, source);
        let limits = [(ip(10), "connections_per_source"), (ip(12), "connections")];
        assert!(limits.contains(&(source, event.reason)), "{event:?}");
    }
    let snapshot = stage.snapshot("app");
    assert_eq!((snapshot.active, snapshot.totals.refused), (3, 2));
    let refusals = snapshot.totals.refusals;
    assert_eq!(
        (refusals.connections, refusals.connections_per_source),
        (1, 1)
    );

    // Those inside notice nothing.
    for (client, server) in &mut held {
        client.write_all(b"x").unwrap();
        server.read_exact(&mut [0; 1]).unwrap();
    }
    drop(held.remove(0));
    stage.wait_for_active("app", 2);
    stage.expect_event(Kind::Disconnect, 200);
    drop((connect_from(ip(10), edge()), accept(&origin)));
    stage.expect_event(Kind::Connect, 0);
}

/// A limit that is set, changed or removed holds from then on, and cuts nothing that is open.
#[test]
fn limits_change_under_open_connections() {
    let origin = tcp_origin();
    let mut app = tcp_app(&[origin.local_addr().unwrap()]);
    let stage = Stage::new(&[app.clone()]);
    let _held = [10, 11].map(|number| {
        let client = connect_from(ip(number), edge());
        (client, accept(&origin))
    });
    stage.wait_for_active("app", 2);
    app.limits.connections_per_prefix = 2;
    stage.apply(&[app.clone()]).unwrap();
    // Those that were there before count.
    expect_reset(ip(12), edge());
    let snapshot = stage.snapshot("app");
    assert_eq!(snapshot.active, 2);
    assert_eq!(snapshot.totals.refusals.connections_per_prefix, 1);
    app.limits.connections_per_prefix = 3;
    stage.apply(&[app]).unwrap();
    let _more = (connect_from(ip(12), edge()), accept(&origin));
}

#[test]
fn who_comes_too_often_is_refused_and_others_are_not() {
    let origin = tcp_origin();
    let mut app = tcp_app(&[origin.local_addr().unwrap()]);
    app.limits.new_connections.per_source = Some(RATE);
    let stage = Stage::new(&[app]);
    let began = Instant::now();
    let clients = (0..30).map(|_| try_connect_from(ip(10), edge()));
    let _held: Vec<_> = clients.collect();
    let totals = eventually(
        || stage.snapshot("app").totals,
        |totals| totals.connections + totals.refused == 30,
    );
    assert_within(&totals, began);
    assert_eq!(totals.refusals.new_connections_per_source, totals.refused);
    let refused = (0..30).map(|_| stage.next_event());
    let refused = refused.filter(|event| event.event == Kind::ClientFiltered);
    let mut reasons: Vec<_> = refused.map(|event| event.reason).collect();
    assert_eq!(reasons.len() as u64, totals.refused);
    reasons.dedup();
    assert_eq!(reasons, ["new_connections_per_source"]);

    let _others: Vec<_> = (0..3).map(|_| connect_from(ip(11), edge())).collect();
    let connections = totals.connections + 3;
    eventually(
        || stage.snapshot("app").totals.connections,
        |&now| now == connections,
    );
    // It has accepted none of them.
    drop(origin);
}

#[test]
fn sessions_of_an_app_begin_no_faster_than_it_wants() {
    let origin = udp_origin();
    let mut app = udp_app(&[origin.local_addr().unwrap()]);
    app.limits.new_connections.app = Some(RATE);
    app.timeouts.idle = Duration::from_secs(1);
    let stage = Stage::new(&[app]);
    let began = Instant::now();
    let clients: Vec<_> = (0..30).map(|_| udp_client(edge())).collect();
    for client in &clients {
        client.send(b"x").unwrap();
    }
    let totals = eventually(
        || stage.snapshot("app").totals,
        |totals| totals.connections + totals.refused == 30,
    );
    assert_within(&totals, began);
    assert_eq!(totals.refusals.new_connections, totals.refused);
}

/// However busy it is: who logs in again each day does not stay for a year.
#[test]
fn a_connection_lasts_as_long_as_it_may_and_the_event_says_so() {
    let origin = tcp_origin();
    let mut app = tcp_app(&[origin.local_addr().unwrap()]);
    app.timeouts.max_duration = Some(Duration::from_secs(1));
    let stage = Stage::new(&[app]);
    let began = Instant::now();
    let (mut client, mut server) = connect_through(edge(), &origin);
    let end = loop {
        if let Err(error) = client.write_all(b"busy") {
            break error;
        }
        if server.read_exact(&mut [0; 4]).is_err() {
            break client.read_exact(&mut [0; 1]).unwrap_err();
        }
    };
    let cut = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
    assert!(cut.contains(&end.kind()), "{end}");
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert!(began.elapsed() < Duration::from_secs(10));
    stage.expect_event(Kind::Connect, 0);
    let event = stage.expect_event(Kind::Disconnect, 403);
    assert_eq!(event.reason, "max_duration");
    stage.wait_for_active("app", 0);
    assert_eq!(stage.snapshot("app").totals.expired, 1);
}

/// A client that goes on gets a new session; the origin sees it come from another port.
#[test]
fn a_session_lasts_as_long_as_it_may() {
    let origin = udp_origin();
    let mut app = udp_app(&[origin.local_addr().unwrap()]);
    app.timeouts.max_duration = Some(Duration::from_secs(1));
    let stage = Stage::new(&[app]);
    let client = udp_client(edge());
    let ask = || {
        client.send(b"busy").unwrap();
        receive_from(&origin).1
    };
    let first = ask();
    eventually(ask, |session| *session != first);
    stage.expect_event(Kind::Connect, 0);
    let event = stage.expect_event(Kind::Disconnect, 403);
    assert_eq!(event.reason, "max_duration");
    stage.expect_event(Kind::Connect, 0);
}

/// The least there is: hardly a token comes while a test runs.
const RATE: ConnectionRate = ConnectionRate {
    per_second: 1,
    burst: 3,
};

fn assert_within(totals: &Totals, began: Instant) {
    let most = u64::from(RATE.burst) + began.elapsed().as_secs() + 1;
    assert!((3..=most).contains(&totals.connections), "{totals:?}");
}

/// 2,000 connections one after another and 300 at once leave nothing behind.
#[test]
fn many_connections_leave_no_trace() {
    let origin = tcp_origin();
    let stage = Stage::new(&[tcp_app(&[origin.local_addr().unwrap()])]);
    for _ in 0..2000 {
        let (client, server) = connect_through(edge(), &origin);
        drop((client, server));
    }
    let held: Vec<_> = (0..300).map(|_| connect_through(edge(), &origin)).collect();
    stage.wait_for_active("app", 300);
    drop(held);
    stage.wait_for_active("app", 0);
    assert_eq!(stage.snapshot("app").totals.connections, 2300);
}
