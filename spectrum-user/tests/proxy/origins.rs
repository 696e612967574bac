//! Origins that refuse, keep silent or come back.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use socket2::{Domain, Socket, Type};
use spectrum_user::{event::Kind, proxy::OriginCondition};

use crate::stage::*;

/// An address where nobody listens.
fn refusing() -> SocketAddr {
    tcp_origin().local_addr().unwrap()
}

/// An address that answers no SYN: its queue is full.
struct Silent {
    listener: Socket,
    _queued: Vec<TcpStream>,
}

impl Silent {
    fn new() -> Self {
        take_turn();
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::new(ip(2), 0).into()).unwrap();
        listener.listen(0).unwrap();
        let mut silent = Self {
            listener,
            _queued: Vec::new(),
        };
        while let Ok(stream) =
            TcpStream::connect_timeout(&silent.address(), Duration::from_millis(200))
        {
            silent._queued.push(stream);
        }
        silent
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap().as_socket().unwrap()
    }
}

#[test]
fn another_origin_takes_over_and_the_refusing_one_is_left_alone() {
    let origin = tcp_origin();
    let stage = Stage::new(&[tcp_app(&[refusing(), origin.local_addr().unwrap()])]);
    for _ in 0..6 {
        let (mut client, mut server) = connect_through(edge(), &origin);
        client.write_all(b"?").unwrap();
        server.read_exact(&mut [0; 1]).unwrap();
    }
    let origins = stage.snapshot("app").origins;
    assert_eq!(origins[0].failures, 1, "tried once, then left alone");
    assert!(matches!(origins[0].state, OriginCondition::Paused { .. }));
    assert_eq!(origins[1].state, OriginCondition::Up);
    assert!(origins[1].connect_us.is_some());
}

#[test]
fn without_any_origin_the_client_is_reset_and_the_operator_told() {
    let stage = Stage::new(&[tcp_app(&[refusing(), refusing()])]);
    expect_reset(ip(10), edge());
    let error = stage.expect_event(Kind::OriginError, 521);
    assert_eq!(error.origin_ip, None);
    assert_eq!(error.connect_timestamp, None);
    assert_eq!(stage.snapshot("app").totals.origin_errors, 1);

    // All are down: they are tried nevertheless.
    expect_reset(ip(10), edge());
    stage.expect_event(Kind::OriginError, 521);
    let failures = stage
        .snapshot("app")
        .origins
        .iter()
        .map(|origin| origin.failures)
        .sum::<u64>();
    assert_eq!(failures, 4);
}

#[test]
fn an_origin_that_comes_back_is_used_at_once_when_it_is_the_only_one() {
    let address = refusing();
    let stage = Stage::new(&[tcp_app(&[address])]);
    expect_reset(ip(10), edge());
    let origin = TcpListener::bind(address).unwrap();
    let (client, server) = connect_through(edge(), &origin);
    drop((client, server));
    assert_eq!(stage.snapshot("app").origins[0].state, OriginCondition::Up);
}

#[test]
fn a_silent_origin_costs_the_connect_timeout_and_no_more() {
    let silent = Silent::new();
    let origin = tcp_origin();
    let mut alone = tcp_app(&[silent.address()]);
    alone.timeouts.connect = Duration::from_millis(300);
    let stage = Stage::new(std::slice::from_ref(&alone));
    expect_reset(ip(10), edge());
    stage.expect_event(Kind::OriginError, 522);

    let mut both = tcp_app(&[silent.address(), origin.local_addr().unwrap()]);
    both.timeouts.connect = Duration::from_millis(300);
    stage.apply(&[both]).unwrap();
    for _ in 0..3 {
        drop(connect_through(edge(), &origin));
    }
    assert_eq!(
        stage.snapshot("app").origins[0].failures,
        1,
        "its state outlives the change"
    );
}

#[test]
fn a_client_that_leaves_while_the_origin_is_silent_frees_its_place() {
    let silent = Silent::new();
    let mut app = tcp_app(&[silent.address()]);
    app.timeouts.connect = PATIENCE * 2;
    let stage = Stage::new(&[app]);
    let client = connect(edge());
    stage.wait_for_active("app", 1);
    reset(client);
    stage.wait_for_active("app", 0);
}

#[test]
fn a_connection_lives_while_it_is_used_and_ends_when_it_is_not() {
    let origin = tcp_origin();
    let mut app = tcp_app(&[origin.local_addr().unwrap()]);
    app.timeouts.idle = Duration::from_secs(1);
    let stage = Stage::new(&[app]);
    for (asks, status) in [(true, 445), (false, 497)] {
        let (mut client, mut server) = connect_through(edge(), &origin);
        stage.expect_event(Kind::Connect, 0);
        for _ in 0..20 {
            let (from, to) = if asks {
                (&mut client, &mut server)
            } else {
                (&mut server, &mut client)
            };
            from.write_all(b".").unwrap();
            to.read_exact(&mut [0; 1]).unwrap();
            std::thread::sleep(Duration::from_millis(100));
        }
        stage.expect_no_event();
        assert_eq!(end_of(&mut client), 0);
        assert_eq!(end_of(&mut server), 0);
        let end = stage.expect_event(Kind::Disconnect, status);
        assert_eq!(end.client_bytes + end.origin_bytes, 20);
    }
}
