//! UDP sessions: how many, how long, and whose place is taken.

use std::{net::UdpSocket, time::Duration};

use spectrum_user::{event::Kind, proxy::OriginCondition};

use crate::stage::*;

fn client_at(number: u8) -> UdpSocket {
    let socket = udp_socket(ip(number), 0);
    socket.connect(edge()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// A question, an answer, and a word that shows that the answer came: a real client.
fn converse(client: &UdpSocket, origin: &UdpSocket) {
    client.send(b"question").unwrap();
    let (_, session) = receive_from(origin);
    origin.send_to(b"answer", session).unwrap();
    assert_eq!(receive(client), b"answer");
    client.send(b"thanks").unwrap();
    assert_eq!(receive(origin), b"thanks");
}

fn nothing_comes(socket: &UdpSocket) -> bool {
    socket.set_nonblocking(true).unwrap();
    let nothing = socket.recv(&mut [0; 16]).is_err();
    socket.set_nonblocking(false).unwrap();
    nothing
}

#[test]
fn a_session_expires_when_nothing_flows_and_the_next_datagram_begins_another() {
    let origin = udp_origin();
    let mut app = udp_app(&[origin.local_addr().unwrap()]);
    app.timeouts.idle = Duration::from_millis(500);
    let stage = Stage::new(&[app]);
    let client = client_at(10);
    let mut sessions = Vec::new();
    for _ in 0..2 {
        client.send(b"hello").unwrap();
        sessions.push(receive_from(&origin).1);
        stage.expect_event(Kind::Connect, 0);
        let end = stage.expect_event(Kind::Disconnect, 200);
        assert_eq!((end.client_bytes, end.origin_bytes), (5, 0));
        assert_eq!(stage.snapshot("app").active, 0);
    }
    assert_eq!(stage.snapshot("app").totals.connections, 2);
    // What the origin sends to a session that is over reaches nobody.
    origin.send_to(b"late", sessions[0]).unwrap();
    assert!(nothing_comes(&client));
}

/// A flood of forged sources must not throw out those who play.
#[test]
fn a_full_app_lets_newcomers_push_out_newcomers_only() {
    const PLACES: u32 = 16;
    let origin = udp_origin();
    let mut app = udp_app(&[origin.local_addr().unwrap()]);
    app.limits.connections = PLACES;
    app.timeouts.idle = Duration::from_secs(5);
    let stage = Stage::with_one_worker(&[app]);
    let real: Vec<_> = (0..PLACES / 2).map(|_| client_at(10)).collect();
    real.iter().for_each(|client| converse(client, &origin));

    let forged: Vec<_> = (0..200).map(|_| client_at(11)).collect();
    for source in &forged {
        source.send(b"flood").unwrap();
    }
    let all = u64::from(PLACES / 2) + 200;
    let snapshot = eventually(
        || stage.snapshot("app"),
        |now| now.totals.connections + now.totals.refused == all,
    );
    // Each newcomer got a place, and all but the last few have lost it again.
    assert_eq!(snapshot.active, PLACES);
    assert_eq!(
        snapshot.totals.evicted,
        all - u64::from(PLACES),
        "{snapshot:?}"
    );
    while !nothing_comes(&origin) {}
    for client in &real {
        client.send(b"still").unwrap();
        let (datagram, session) = receive_from(&origin);
        assert_eq!(datagram, b"still");
        origin.send_to(b"here", session).unwrap();
        assert_eq!(receive(client), b"here");
    }
}

#[test]
fn when_all_are_real_the_newcomer_is_refused() {
    let origin = udp_origin();
    let mut app = udp_app(&[origin.local_addr().unwrap()]);
    app.limits.connections = 2;
    app.timeouts.idle = Duration::from_secs(2);
    let stage = Stage::new(&[app]);
    let real = [client_at(10), client_at(11)];
    for client in &real {
        converse(client, &origin);
        stage.expect_event(Kind::Connect, 0);
    }
    let late = client_at(12);
    late.send(b"me too").unwrap();
    let refused = stage.expect_event(Kind::ClientFiltered, 403);
    assert_eq!(refused.client_ip, ip(12));
    assert!(nothing_comes(&origin));
    assert_eq!(stage.snapshot("app").totals.refused, 1);
    for client in &real {
        converse(client, &origin);
    }
}

#[test]
fn one_source_has_its_own_bound() {
    let origin = udp_origin();
    let mut app = udp_app(&[origin.local_addr().unwrap()]);
    app.limits.connections_per_source = 2;
    app.timeouts.idle = Duration::from_secs(1);
    let stage = Stage::new(&[app]);
    let many: Vec<_> = (0..3).map(|_| client_at(10)).collect();
    for client in &many {
        client.send(b"x").unwrap();
    }
    client_at(11).send(b"y").unwrap();
    let snapshot = eventually(
        || stage.snapshot("app"),
        |now| now.totals.connections + now.totals.refused == 4,
    );
    assert_eq!((snapshot.totals.refused, snapshot.totals.evicted), (1, 0));
}

#[test]
fn an_origin_that_refuses_is_left_for_another() {
    let origin = udp_origin();
    let refusing = udp_origin().local_addr().unwrap();
    let mut app = udp_app(&[refusing, origin.local_addr().unwrap()]);
    app.timeouts.idle = Duration::from_secs(2);
    let stage = Stage::new(&[app]);
    let client = client_at(10);
    // The first datagram may be lost: nothing says so before the origin's host does.
    origin
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    let arrived = eventually(
        || {
            client.send(b"anybody there?").unwrap();
            origin.recv(&mut [0; 64]).ok()
        },
        |arrived| arrived.is_some(),
    );
    assert_eq!(arrived, Some(14));
    stage.expect_event(Kind::Connect, 0);
    stage.expect_event(Kind::OriginError, 447);
    stage.expect_event(Kind::Disconnect, 447);
    let second = stage.expect_event(Kind::Connect, 0);
    assert_eq!(second.origin_port, origin.local_addr().unwrap().port());
    let origins = stage.snapshot("app").origins;
    assert!(matches!(origins[0].state, OriginCondition::Paused { .. }));
}

/// A server that restarts finds its clients again, and the log holds one line, not a thousand.
#[test]
fn the_only_origin_may_refuse_for_a_while() {
    let address = udp_origin().local_addr().unwrap();
    let mut app = udp_app(&[address]);
    app.timeouts.idle = Duration::from_secs(2);
    let stage = Stage::new(&[app]);
    let client = client_at(10);
    eventually(
        || {
            client.send(b"up yet?").unwrap();
            stage.snapshot("app").origins[0].failures
        },
        |&failures| failures >= 5,
    );
    let origin = UdpSocket::bind(address).unwrap();
    origin
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    let session = eventually(
        || {
            client.send(b"up yet?").unwrap();
            origin.recv_from(&mut [0; 64]).ok()
        },
        |got| got.is_some(),
    );
    origin.send_to(b"yes", session.unwrap().1).unwrap();
    assert_eq!(receive(&client), b"yes");
    stage.expect_event(Kind::Connect, 0);
    stage.expect_event(Kind::OriginError, 447);
    stage.expect_event(Kind::Disconnect, 200);
    assert_eq!(stage.snapshot("app").totals.connections, 1);
}

/// A removed app takes no new sessions, but those that run may say goodbye; the rest is cut.
#[test]
fn sessions_of_a_removed_app_drain() {
    let origin = udp_origin();
    let app = udp_app(&[origin.local_addr().unwrap()]);
    let mut stage = Stage::with_drain(Duration::from_secs(2), std::slice::from_ref(&app));
    let client = client_at(10);
    converse(&client, &origin);
    stage.expect_event(Kind::Connect, 0);
    stage.apply(&[]).unwrap();
    converse(&client, &origin);
    let late = client_at(11);
    late.send(b"late").unwrap();
    let end = stage.expect_event(Kind::Disconnect, 500);
    assert_eq!(end.client_ip, ip(10), "the late one never got a session");
    assert!(nothing_comes(&origin));

    // The address is free again.
    eventually(|| UdpSocket::bind(edge()).is_ok(), |&bound| bound);
    stage.apply(std::slice::from_ref(&app)).unwrap();
    converse(&client, &origin);
    cut_all(&mut stage);
}

/// An app that is removed and added again while its sessions drain is served at once.
#[test]
fn an_app_may_come_back_while_it_drains() {
    let origin = udp_origin();
    let app = udp_app(&[origin.local_addr().unwrap()]);
    let mut stage = Stage::with_drain(Duration::from_secs(60), std::slice::from_ref(&app));
    let client = client_at(10);
    converse(&client, &origin);
    stage.apply(&[]).unwrap();
    stage.apply(&[app]).unwrap();
    // Sockets of the draining app are there still, and get the datagrams of their clients.
    let mut clients = vec![client];
    clients.extend((0..20).map(|_| client_at(11)));
    for client in &clients {
        converse(client, &origin);
    }
    cut_all(&mut stage);
}

/// With UDP, sessions are never over by themselves before the idle timeout: the end cuts them.
fn cut_all(stage: &mut Stage) {
    let drained = stage.shutdown(Duration::from_millis(100));
    assert!(drained.cut >= 1);
}
