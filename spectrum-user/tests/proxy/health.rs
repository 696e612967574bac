//! Origins that are checked: what they get, and who gets no connections before they answer again.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::Duration,
};

use spectrum_user::{
    config::{App, Check, Exchange, Health, Member, ProxyProtocol},
    proxy::{
        OriginCondition, OriginSnapshot,
        proxy_protocol::{SIMPLE_LENGTH, V1_LOCAL, V2_SIGNATURE},
    },
};

use crate::stage::*;

fn health(check: Check) -> Health {
    Health {
        check,
        port: None,
        interval: Duration::from_millis(100),
        timeout: Duration::from_millis(300),
        rise: 2,
        fall: 2,
    }
}

fn tcp(send: &[u8], expect: &[u8]) -> Health {
    health(Check::Tcp(exchange(send, expect)))
}

fn exchange(send: &[u8], expect: &[u8]) -> Exchange {
    Exchange {
        send: send.to_vec(),
        expect: expect.to_vec(),
    }
}

fn checked(mut app: App, health: Health) -> App {
    app.health = Some(health);
    app
}

fn is_down(origin: &OriginSnapshot) -> bool {
    matches!(origin.state, OriginCondition::Down { .. })
}

/// The app's origin of this index, once it is as it should be.
fn wait_for(stage: &Stage, index: usize, good: impl Fn(&OriginSnapshot) -> bool) -> OriginSnapshot {
    eventually(|| stage.snapshot("app").origins[index].clone(), good)
}

/// The next check, up to when it has sent what is expected of it.
fn next_check(origin: &TcpListener, expected: &[u8]) -> TcpStream {
    let mut stream = accept(origin);
    let mut got = vec![0; expected.len()];
    stream.read_exact(&mut got).unwrap();
    assert_eq!(got, expected);
    stream
}

#[test]
fn an_origin_that_is_down_gets_no_connection_and_costs_nobody_time() {
    let origin = tcp_origin();
    let address = origin.local_addr().unwrap();
    let other = tcp_origin();
    let app = checked(
        tcp_app(&[address, other.local_addr().unwrap()]),
        tcp(b"", b""),
    );
    let stage = Stage::new(&[app]);
    wait_for(&stage, 0, |origin| origin.check.is_some());
    drop(origin);
    let down = wait_for(&stage, 0, is_down);
    let failure = down.check.unwrap().failure.unwrap();
    assert!(failure.contains("refused"), "{failure}");
    assert_eq!(down.failures, 0, "no client had to find out");

    let origin = TcpListener::bind(address).unwrap();
    let up = wait_for(&stage, 0, |origin| origin.state == OriginCondition::Up);
    let check = up.check.unwrap();
    assert!(check.passed && check.in_a_row >= 2, "{check:?}");
    assert!(up.connect_us.is_some(), "checks measure as connections do");
    drop(origin);
}

#[test]
fn bytes_are_sent_and_expected_behind_a_header_that_names_no_client() {
    let origin = tcp_origin();
    let mut v2_local = V2_SIGNATURE.to_vec();
    v2_local.extend([0x20, 0, 0, 0]);
    for (header, bytes) in [
        (ProxyProtocol::V1, V1_LOCAL),
        (ProxyProtocol::V2, &v2_local),
        (ProxyProtocol::Off, &[]),
    ] {
        let mut app = checked(
            tcp_app(&[origin.local_addr().unwrap()]),
            tcp(b"PING\r\n", b"PONG"),
        );
        app.proxy_protocol = header;
        let stage = Stage::new(&[app]);
        let expected = [bytes, b"PING\r\n"].concat();
        next_check(&origin, &expected).write_all(b"+PO").unwrap();
        let down = wait_for(&stage, 0, is_down);
        let failure = down.check.unwrap().failure.unwrap();
        assert!(failure.contains("without what was expected"), "{failure}");
        for _ in 0..2 {
            let mut check = next_check(&origin, &expected);
            check.write_all(b"+PO").unwrap();
            check.write_all(b"NG\r\n").unwrap();
        }
        wait_for(&stage, 0, |origin| origin.state == OriginCondition::Up);
    }
}

#[test]
fn an_origin_that_accepts_and_says_nothing_is_down_after_the_timeout() {
    let origin = tcp_origin();
    let app = checked(tcp_app(&[origin.local_addr().unwrap()]), tcp(b"", b"220 "));
    let stage = Stage::new(&[app]);
    let down = wait_for(&stage, 0, is_down);
    let failure = down.check.unwrap().failure;
    assert_eq!(failure.as_deref(), Some("no answer in 300ms"));
}

#[test]
fn http_is_judged_by_its_status() {
    let origin = tcp_origin();
    let check = Check::Http {
        path: "/healthz".into(),
        host: "app.example".into(),
        status: 200..=299,
    };
    let app = checked(tcp_app(&[origin.local_addr().unwrap()]), health(check));
    let stage = Stage::new(&[app]);
    let request = b"GET /healthz HTTP/1.1\r\nHost: app.example\r\n";
    next_check(&origin, request)
        .write_all(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")
        .unwrap();
    let down = wait_for(&stage, 0, is_down);
    let failure = down.check.unwrap().failure;
    assert_eq!(failure.as_deref(), Some("HTTP status 503"));
    for _ in 0..2 {
        let mut check = next_check(&origin, request);
        check.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
    }
    wait_for(&stage, 0, |origin| origin.state == OriginCondition::Up);
}

/// What keeps silent sends no ICMP: without checks, a client would talk to it for ever.
#[test]
fn udp_sessions_leave_an_origin_that_has_gone_silent() {
    let (one, two) = (udp_origin(), udp_origin());
    let [first, second] = [&one, &two].map(|origin| origin.local_addr().unwrap());
    let mut app = checked(
        udp_app(&[first, second]),
        health(Check::Udp(exchange(b"\xff\xffping", b"pong"))),
    );
    app.proxy_protocol = ProxyProtocol::Simple;
    app.timeouts.idle = Duration::from_secs(1);
    let stage = Stage::new(&[app]);
    let answering = |origin: UdpSocket| {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            origin
                .set_read_timeout(Some(Duration::from_millis(20)))
                .unwrap();
            let mut seen = 0;
            let mut buffer = [0; 512];
            while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                let Ok((length, from)) = origin.recv_from(&mut buffer) else {
                    continue;
                };
                let (header, payload) = buffer[..length].split_at(SIMPLE_LENGTH);
                if payload == b"\xff\xffping" {
                    origin.send_to(&[header, b"pong"].concat(), from).unwrap();
                } else {
                    seen += 1;
                }
            }
            (origin, seen)
        });
        move || {
            drop(stop);
            thread.join().unwrap()
        }
    };
    let (stop_one, stop_two) = (answering(one), answering(two));
    let is_up = |origin: &OriginSnapshot| {
        origin.state == OriginCondition::Up && origin.check.as_ref().is_some_and(|c| c.passed)
    };
    wait_for(&stage, 0, is_up);
    wait_for(&stage, 1, is_up);
    let client = udp_client(edge());
    client.send(b"hello").unwrap();
    eventually(
        || stage.snapshot("app").origins[0].active,
        |&held| held == 1,
    );
    // It is there, and deaf.
    let (deaf, _) = stop_one();
    wait_for(&stage, 0, is_down);
    client.send(b"are you there?").unwrap();
    eventually(
        || stage.snapshot("app").origins[1].active,
        |&held| held == 1,
    );
    eventually(
        || stage.snapshot("app").origins[0].active,
        |&held| held == 0,
    );
    stage.wait_for_active("app", 0);
    let (_, seen) = stop_two();
    assert_eq!(seen, 1, "the datagram that found the first origin down");
    drop(deaf);
}

#[test]
fn who_rests_is_not_checked_and_who_is_not_checked_is_not_down() {
    let refusing = tcp_origin().local_addr().unwrap();
    let plain = tcp_app(&[refusing]);
    let app = checked(plain.clone(), tcp(b"", b""));
    let stage = Stage::new(std::slice::from_ref(&app));
    wait_for(&stage, 0, is_down);

    let mut resting = app.clone();
    let member = &mut resting.origins.members[0];
    *member = Member {
        maintenance: true,
        ..*member
    };
    stage.apply(&[resting]).unwrap();
    let rests = wait_for(&stage, 0, |origin| origin.check.is_none());
    assert_eq!(rests.state, OriginCondition::Maintenance);

    stage.apply(&[app]).unwrap();
    wait_for(&stage, 0, is_down);
    stage.apply(&[plain]).unwrap();
    let plain = wait_for(&stage, 0, |origin| origin.check.is_none());
    assert_eq!(plain.state, OriginCondition::Up);
}

/// A check may look at another port, where no client and no header goes.
#[test]
fn another_port_is_checked_without_a_header() {
    let origin = tcp_origin();
    let address: SocketAddr = origin.local_addr().unwrap();
    let mut settings = tcp(b"status\n", b"ok");
    settings.port = Some(address.port());
    let mut app = checked(tcp_app(&[SocketAddr::new(address.ip(), 9)]), settings);
    app.proxy_protocol = ProxyProtocol::V2;
    let stage = Stage::new(&[app]);
    next_check(&origin, b"status\n").write_all(b"ok\n").unwrap();
    wait_for(&stage, 0, |origin| {
        origin.check.as_ref().is_some_and(|check| check.passed)
    });
}
