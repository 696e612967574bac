//! Bytes, FIN and RST arrive as if nobody stood between.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use socket2::SockRef;
use spectrum_user::{
    config::{Connectivity, EdgeIps, PortRange, ProxyProtocol, Transport},
    event::Kind,
    proxy::proxy_protocol::{Ends, encode_v1, encode_v2},
};

use crate::stage::*;

/// Sends in pieces of random size, up to `largest`.
fn send(mut stream: &TcpStream, bytes: &[u8], largest: usize, random: &mut Random) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(1 + random.below(rest.len().min(largest)));
        stream.write_all(piece).unwrap();
        rest = after;
    }
}

fn expect(mut stream: &TcpStream, bytes: &[u8]) {
    let mut got = vec![0; bytes.len()];
    stream.read_exact(&mut got).unwrap();
    assert!(got == bytes, "other bytes came back");
}

/// Sends from one thread and checks what comes back in the other.
fn echo(client: &TcpStream, bytes: &[u8], largest: usize, random: &mut Random) {
    thread::scope(|scope| {
        scope.spawn(|| send(client, bytes, largest, random));
        expect(client, bytes);
    });
}

#[test]
fn every_byte_arrives_in_order() {
    let mut random = Random::new(7);
    for size in [0, 1, 63, 1500, 65_535, 65_536, 65_537, 1 << 20, 5 << 20] {
        let stage = Stage::new(&[tcp_app(&[tcp_echo()])]);
        let mut client = connect(edge());
        let bytes = random.bytes(size);
        echo(&client, &bytes, 200_000, &mut random);
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(end_of(&mut client), 0);

        let connect = stage.expect_event(Kind::Connect, 0);
        assert_eq!(connect.client_ip, client.local_addr().unwrap().ip());
        assert_eq!(connect.client_port, client.local_addr().unwrap().port());
        assert!(connect.client_tcp_rtt > 0 && connect.origin_tcp_rtt > 0);
        let disconnect = stage.expect_event(Kind::Disconnect, 200);
        let counted = (disconnect.client_bytes, disconnect.origin_bytes);
        assert_eq!(counted, (size as u64, size as u64));
        assert!(disconnect.disconnect_timestamp >= disconnect.connect_timestamp);
        let totals = stage.snapshot("app").totals;
        assert_eq!((totals.ingress_bytes, totals.egress_bytes), counted);
        assert_eq!(totals.connections, 1);
    }
}

/// A game that downloads a map and is played then: both ways of moving bytes, and the changes
/// between them, in both directions.
#[test]
fn chat_and_bulk_may_alternate() {
    let mut random = Random::new(11);
    let stage = Stage::new(&[tcp_app(&[tcp_echo()])]);
    let client = connect(edge());
    client.set_nodelay(true).unwrap();
    for _ in 0..3 {
        for _ in 0..100 {
            let length = 1 + random.below(200);
            let bytes = random.bytes(length);
            echo(&client, &bytes, 200, &mut random);
        }
        let bytes = random.bytes(8 << 20);
        echo(&client, &bytes, 1 << 20, &mut random);
    }
    // Only the proxy opens pipes.
    let spliced = open_files().iter().any(|file| file.starts_with("pipe:"));
    assert!(spliced, "bulk was never spliced");
    client.shutdown(Shutdown::Write).unwrap();
    stage.wait_for_active("app", 0);
}

/// `ssh host cat <file`, HTTP/1.0, `nc -N`: who has said all may still listen.
#[test]
fn a_fin_closes_one_direction_only() {
    let mut random = Random::new(13);
    for size in [1, 3 << 20] {
        let bytes = random.bytes(size);
        let origin = tcp_origin();
        let stage = Stage::new(&[tcp_app(&[origin.local_addr().unwrap()])]);

        let (mut client, mut server) = connect_through(edge(), &origin);
        thread::scope(|scope| {
            scope.spawn(|| {
                client.write_all(&bytes).unwrap();
                client.shutdown(Shutdown::Write).unwrap();
            });
            expect(&server, &bytes);
        });
        assert_eq!(end_of(&mut server), 0);
        thread::scope(|scope| {
            scope.spawn(|| {
                server.write_all(&bytes).unwrap();
                server.shutdown(Shutdown::Write).unwrap();
            });
            expect(&client, &bytes);
        });
        assert_eq!(end_of(&mut client), 0);
        stage.expect_event(Kind::Connect, 0);
        stage.expect_event(Kind::Disconnect, 200);

        // The other way round: the origin closes first.
        let (mut client, mut server) = connect_through(edge(), &origin);
        server.write_all(b"that is all").unwrap();
        server.shutdown(Shutdown::Write).unwrap();
        expect(&client, b"that is all");
        assert_eq!(end_of(&mut client), 0);
        thread::scope(|scope| {
            scope.spawn(|| {
                client.write_all(&bytes).unwrap();
                client.shutdown(Shutdown::Write).unwrap();
            });
            expect(&server, &bytes);
        });
        assert_eq!(end_of(&mut server), 0);
        stage.expect_event(Kind::Connect, 0);
        stage.expect_event(Kind::Disconnect, 200);
    }
}

#[test]
fn a_server_may_speak_first_and_close() {
    let origin = tcp_origin();
    let stage = Stage::new(&[tcp_app(&[origin.local_addr().unwrap()])]);
    let mut client = connect(edge());
    let mut server = accept(&origin);
    server.write_all(b"220 busy, come back later\r\n").unwrap();
    drop(server);
    expect(&client, b"220 busy, come back later\r\n");
    assert_eq!(end_of(&mut client), 0);
    drop(client);
    stage.wait_for_active("app", 0);
}

/// A slow client must not make the edge hold what a fast origin sends.
#[test]
fn a_slow_reader_slows_its_sender_down() {
    const MUCH: usize = 256 << 20;
    /// What the kernel may buffer in four sockets and a pipe.
    const BUFFERS: usize = 48 << 20;
    let origin = tcp_origin();
    let stage = Stage::new(&[tcp_app(&[origin.local_addr().unwrap()])]);
    for from_origin in [true, false] {
        let (client, server) = connect_through(edge(), &origin);
        let (from, to) = if from_origin {
            (&server, &client)
        } else {
            (&client, &server)
        };
        let sent = AtomicUsize::new(0);
        thread::scope(|scope| {
            scope.spawn(|| {
                // A pattern with a prime period, so that lost and doubled bytes are seen.
                let pattern: Vec<u8> = (0..251 * 256).map(|at| (at % 251) as u8).collect();
                let mut from = from;
                while sent.load(Ordering::Relaxed) < MUCH && from.write_all(&pattern).is_ok() {
                    sent.fetch_add(pattern.len(), Ordering::Relaxed);
                }
            });
            let mut last = (0, Instant::now());
            let stalled = eventually(
                || sent.load(Ordering::Relaxed),
                |&now| {
                    if now != last.0 {
                        last = (now, Instant::now());
                    }
                    now > 0 && last.1.elapsed() > Duration::from_millis(300)
                },
            );
            assert!(stalled < BUFFERS, "{stalled} bytes were taken in");

            let mut reader = to;
            let mut buffer = vec![0; 1 << 20];
            let mut at = 0;
            while at < stalled + BUFFERS {
                let read = reader.read(&mut buffer).unwrap();
                assert!(read > 0);
                for byte in &buffer[..read] {
                    assert_eq!(*byte, (at % 251) as u8, "at {at}");
                    at += 1;
                }
            }
            to.shutdown(Shutdown::Both).unwrap();
        });
    }
    stage.wait_for_active("app", 0);
}

/// What an RST meets on its way.
#[derive(Clone, Copy, Debug)]
enum Traffic {
    Idle,
    /// The sender of the RST has sent more than its peer reads.
    Blocked,
    /// The sender of the RST had closed its direction.
    HalfClosed,
}

/// A database must learn that its client has died, also while it is busy; and the client must not
/// take a broken answer for a complete one.
#[test]
fn a_reset_is_passed_on() {
    let origin = tcp_origin();
    let stage = Stage::new(&[tcp_app(&[origin.local_addr().unwrap()])]);
    for traffic in [Traffic::Idle, Traffic::Blocked, Traffic::HalfClosed] {
        for by_client in [true, false] {
            let (client, server) = connect_through(edge(), &origin);
            stage.expect_event(Kind::Connect, 0);
            let (mut from, mut to) = if by_client {
                (client, server)
            } else {
                (server, client)
            };
            match traffic {
                Traffic::Idle => {}
                Traffic::Blocked => fill(&mut from),
                Traffic::HalfClosed => {
                    from.shutdown(Shutdown::Write).unwrap();
                    assert_eq!(end_of(&mut to), 0);
                }
            }
            reset(from);
            // A broken pipe is how the kernel calls a reset after a FIN.
            let expected: [u16; 2] = if by_client { [499, 498] } else { [444, 448] };
            let end = stage.next_event();
            assert_eq!(end.event, Kind::Disconnect);
            assert!(
                expected.contains(&end.status.0),
                "{traffic:?}: {}",
                end.status.0
            );
            let error = eventually(
                || SockRef::from(&to).take_error().unwrap(),
                |error| error.is_some(),
            );
            let error = error.unwrap().raw_os_error().unwrap();
            let passed_on = [libc::ECONNRESET, libc::EPIPE].contains(&error);
            assert!(passed_on, "{traffic:?} by client: {by_client}: {error}");
        }
    }
}

/// Sends until nothing more is taken.
fn fill(stream: &mut TcpStream) {
    stream.set_nonblocking(true).unwrap();
    let bytes = vec![0; 1 << 20];
    let mut last = Instant::now();
    while last.elapsed() < Duration::from_millis(300) {
        let taken = stream.write(&bytes).unwrap_or(0);
        if taken > 0 {
            last = Instant::now();
        } else {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// `413 Payload Too Large`, and the rest of the upload is not read: the answer must get through.
#[test]
fn what_was_sent_before_a_reset_arrives() {
    let origin = tcp_origin();
    let stage = Stage::new(&[tcp_app(&[origin.local_addr().unwrap()])]);
    let (mut client, mut server) = connect_through(edge(), &origin);
    client.write_all(b"an upload that nobody reads").unwrap();
    server.peek(&mut [0; 1]).unwrap();
    server.write_all(&[b'4'; 10_000]).unwrap();
    // The kernel resets, because there are unread bytes.
    drop(server);
    expect(&client, &[b'4'; 10_000]);
    assert_eq!(end_of(&mut client), libc::ECONNRESET);
    stage.expect_event(Kind::Connect, 0);
    assert_eq!(
        stage.expect_event(Kind::Disconnect, 444).origin_bytes,
        10_000
    );
}

#[test]
fn a_port_range_keeps_the_offset_and_all_addresses_are_served() {
    let origins: Vec<_> = (0..3)
        .map(|offset| tcp_listener(ip(2), 5000 + offset))
        .collect();
    let mut app = tcp_app(&[origins[0].local_addr().unwrap()]);
    app.ports = PortRange {
        first: PORT,
        last: PORT + 2,
    };
    app.edge_ips = EdgeIps::Static(vec![ip(1), ip(3)]);
    let stage = Stage::new(&[app]);
    for edge_ip in [ip(1), ip(3)] {
        for (offset, origin) in origins.iter().enumerate() {
            let edge = SocketAddr::new(edge_ip, PORT + offset as u16);
            let (mut client, server) = connect_through(edge, origin);
            client.write_all(&[offset as u8]).unwrap();
            expect(&server, &[offset as u8]);
        }
    }
    stage.wait_for_active("app", 0);
}

/// The origin sees who its client is, and which edge address it reached, before any byte.
#[test]
fn the_origin_gets_the_proxy_header_first() {
    let port = free_port();
    for (family, origin_ip) in [("127.0.0.1", ip(2)), ("::1", "::1".parse().unwrap())] {
        let origin = tcp_listener(origin_ip, 0);
        for version in [ProxyProtocol::V1, ProxyProtocol::V2] {
            let mut app = tcp_app(&[origin.local_addr().unwrap()]);
            app.ports = PortRange {
                first: port,
                last: port,
            };
            app.edge_ips = EdgeIps::Dynamic(Connectivity::All);
            app.proxy_protocol = version;
            let stage = Stage::new(&[app]);
            let edge = SocketAddr::new(family.parse().unwrap(), port);
            let (mut client, server) = connect_through(edge, &origin);
            let ends = Ends {
                client: client.local_addr().unwrap(),
                edge,
            };
            let header = if version == ProxyProtocol::V1 {
                encode_v1(&ends)
            } else {
                encode_v2(&ends, Transport::Tcp)
            };
            // Before the client has said anything: the origin may have to speak first.
            expect(&server, &header);
            client.write_all(b"hello").unwrap();
            expect(&server, b"hello");
            drop((client, server));
            stage.expect_event(Kind::Connect, 0);
            assert_eq!(stage.expect_event(Kind::Disconnect, 200).client_bytes, 5);
        }
    }
}

/// One that is free on the wildcard of both families.
fn free_port() -> u16 {
    let any = tcp_listener("::".parse().unwrap(), 0);
    any.local_addr().unwrap().port()
}
