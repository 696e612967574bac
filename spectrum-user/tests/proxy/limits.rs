//! What one app or one source may hold.

use std::io::{Read as _, Write as _};

use spectrum_user::event::Kind;

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
    }
    let snapshot = stage.snapshot("app");
    assert_eq!((snapshot.active, snapshot.totals.refused), (3, 2));

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
