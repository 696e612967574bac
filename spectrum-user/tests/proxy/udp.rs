//! Datagrams, their boundaries, addresses and headers.

use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use socket2::SockRef;
use spectrum_user::{
    config::{Connectivity, EdgeIps, HeaderOn, PortRange, ProxyProtocol, Transport},
    event::Kind,
    proxy::proxy_protocol::{Ends, SIMPLE_LENGTH, encode_simple, encode_v2, parse_simple},
};

use crate::stage::*;

/// Sends everything back until it gets "stop".
fn echo(origin: &UdpSocket) {
    loop {
        let (datagram, from) = receive_from(origin);
        if datagram == b"stop" {
            return;
        }
        origin.send_to(&datagram, from).unwrap();
    }
}

fn stop(origin: &UdpSocket) {
    udp_client(origin.local_addr().unwrap())
        .send(b"stop")
        .unwrap();
}

/// A game server with a thousand players: everybody gets his own answers, from whom he asked.
#[test]
fn a_thousand_clients_get_their_own_replies() {
    let origin = udp_origin();
    let mut app = udp_app(&[origin.local_addr().unwrap()]);
    app.timeouts.idle = Duration::from_secs(3);
    let stage = Stage::new(&[app]);
    thread::scope(|scope| {
        scope.spawn(|| echo(&origin));
        let clients: Vec<_> = (0..1000).map(|_| udp_client(edge())).collect();
        for round in 0..3_u32 {
            for (number, client) in clients.iter().enumerate() {
                let question = format!("{round}/{number}");
                client.send(question.as_bytes()).unwrap();
                assert_eq!(receive(client), question.as_bytes());
            }
        }
        let snapshot = eventually(
            || stage.snapshot("app"),
            |now| now.totals.ingress_bytes == now.totals.egress_bytes,
        );
        assert_eq!((snapshot.active, snapshot.totals.connections), (1000, 1000));
        stop(&origin);
    });
}

#[test]
fn datagrams_of_all_sizes_keep_their_boundaries() {
    let origin = udp_origin();
    let mut app = udp_app(&[origin.local_addr().unwrap()]);
    app.timeouts.idle = Duration::from_secs(1);
    let stage = Stage::new(&[app]);
    thread::scope(|scope| {
        scope.spawn(|| echo(&origin));
        let client = udp_client(edge());
        let mut random = Random::new(3);
        let mut bytes = 0;
        for size in [0, 1, 38, 1200, 1472, 1473, 9000, 40_000, 65_507] {
            let datagram = random.bytes(size);
            client.send(&datagram).unwrap();
            assert!(receive(&client) == datagram, "{size}");
            bytes += size as u64;
        }
        stage.expect_event(Kind::Connect, 0);
        let end = stage.expect_event(Kind::Disconnect, 200);
        assert_eq!((end.client_bytes, end.origin_bytes), (bytes, bytes));
        assert_eq!(end.client_port, client.local_addr().unwrap().port());
        stop(&origin);
    });
}

/// The kernel gathers datagrams of a burst (GRO) where it is asked to: each must still arrive as
/// it was sent, once, and in order.
#[test]
fn a_burst_that_the_kernel_splits_stays_whole() {
    const SEGMENT: usize = 1000;
    let origin = udp_origin();
    SockRef::from(&origin)
        .set_recv_buffer_size(4 << 20)
        .unwrap();
    let mut app = udp_app(&[origin.local_addr().unwrap()]);
    app.timeouts.idle = Duration::from_secs(1);
    let mut each = app.clone();
    each.proxy_protocol = ProxyProtocol::V2;
    each.proxy_protocol_on = HeaderOn::Each;
    let mut first = each.clone();
    first.proxy_protocol_on = HeaderOn::First;
    for app in [app, first, each] {
        let stage = Stage::new(std::slice::from_ref(&app));
        let client = udp_client(edge());
        let ends = Ends {
            client: client.local_addr().unwrap(),
            edge: edge(),
        };
        let header = encode_v2(&ends, Transport::Udp);
        send_segmented(
            &client,
            &Random::new(5).bytes(20 * SEGMENT + 17),
            SEGMENT as u16,
        );
        let mut random = Random::new(5);
        for number in 0..21 {
            let size = if number == 20 { 17 } else { SEGMENT };
            let has_header = match (app.proxy_protocol, app.proxy_protocol_on) {
                (ProxyProtocol::V2, HeaderOn::First) => number == 0,
                (ProxyProtocol::V2, HeaderOn::Each) => true,
                _ => false,
            };
            let prefix: &[u8] = if has_header { &header } else { &[] };
            let expected = [prefix, &random.bytes(size)].concat();
            assert!(receive(&origin) == expected, "{number}");
        }
        // And back.
        let session = origin_view(&client, &origin);
        let burst = Random::new(6).bytes(20 * SEGMENT + 17);
        send_segmented_to(&origin, session, &burst, SEGMENT as u16);
        for expected in burst.chunks(SEGMENT) {
            assert!(receive(&client) == expected);
        }
        stage.wait_for_active("app", 0);
    }
}

/// The address from which the session of `client` speaks to `origin`.
fn origin_view(client: &UdpSocket, origin: &UdpSocket) -> SocketAddr {
    client.send(b"?").unwrap();
    receive_from(origin).1
}

fn send_segmented(socket: &UdpSocket, bytes: &[u8], segment: u16) {
    send_segmented_to(socket, socket.peer_addr().unwrap(), bytes, segment);
}

/// One system call, many datagrams: UDP GSO.
fn send_segmented_to(socket: &UdpSocket, to: SocketAddr, bytes: &[u8], segment: u16) {
    use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg};
    use std::{io::IoSlice, os::fd::AsRawFd as _};

    let to = SockaddrStorage::from(to);
    let segment = ControlMessage::UdpGsoSegments(&segment);
    let slices = [IoSlice::new(bytes)];
    let sent = sendmsg(
        socket.as_raw_fd(),
        &slices,
        &[segment],
        MsgFlags::empty(),
        Some(&to),
    );
    assert_eq!(sent, Ok(bytes.len()));
}

/// A host has many addresses; a client takes replies only from the one it asked.
#[test]
fn replies_leave_from_the_address_that_was_asked() {
    let port = {
        let any = udp_socket("::".parse().unwrap(), 0);
        any.local_addr().unwrap().port()
    };
    let origin = udp_origin();
    let mut app = udp_app(&[origin.local_addr().unwrap()]);
    app.ports = PortRange {
        first: port,
        last: port,
    };
    app.edge_ips = EdgeIps::Dynamic(Connectivity::All);
    app.timeouts.idle = Duration::from_secs(1);
    let stage = Stage::new(&[app]);
    thread::scope(|scope| {
        scope.spawn(|| echo(&origin));
        // The same client socket may ask at several addresses.
        let asking = UdpSocket::bind("127.0.0.1:0").unwrap();
        asking.set_read_timeout(Some(PATIENCE)).unwrap();
        for number in [1, 2, 3, 200] {
            let edge = SocketAddr::new(IpAddr::from([127, 0, 0, number]), port);
            asking.send_to(&[number], edge).unwrap();
            assert_eq!(receive_from(&asking), (vec![number], edge));
        }
        let v6 = udp_client(SocketAddr::new("::1".parse().unwrap(), port));
        v6.send(b"six").unwrap();
        assert_eq!(receive(&v6), b"six");
        assert_eq!(stage.snapshot("app").active, 5);
        stop(&origin);
    });
}

#[test]
fn udp_ports_keep_the_offset_too() {
    let origins: Vec<_> = (0..2)
        .map(|offset| udp_socket(ip(2), 5000 + offset))
        .collect();
    let mut app = udp_app(&[origins[0].local_addr().unwrap()]);
    app.ports = PortRange {
        first: PORT,
        last: PORT + 1,
    };
    app.timeouts.idle = Duration::from_secs(1);
    let _stage = Stage::new(&[app]);
    for (offset, origin) in origins.iter().enumerate() {
        origin.set_read_timeout(Some(PATIENCE)).unwrap();
        let client = udp_client(SocketAddr::new(ip(1), PORT + offset as u16));
        client.send(&[offset as u8]).unwrap();
        assert_eq!(receive(origin), [offset as u8]);
    }
}

#[test]
fn simple_proxy_protocol_goes_both_ways() {
    let origin = udp_origin();
    let mut app = udp_app(&[origin.local_addr().unwrap()]);
    app.proxy_protocol = ProxyProtocol::Simple;
    app.timeouts.idle = Duration::from_secs(1);
    let stage = Stage::new(&[app]);
    let client = udp_client(edge());
    let ends = Ends {
        client: client.local_addr().unwrap(),
        edge: edge(),
    };
    let header = encode_simple(&ends);
    let mut session = edge();
    for datagram in [&b"one"[..], b"", b"three"] {
        client.send(datagram).unwrap();
        let (got, from) = receive_from(&origin);
        assert_eq!(got, [&*header, datagram].concat());
        assert_eq!(parse_simple(&got), Ok(ends));
        session = from;
    }

    let stranger = Ends {
        client: SocketAddr::new(ends.client.ip(), ends.client.port() ^ 1),
        ..ends
    };
    let wrong_edge = Ends {
        edge: SocketAddr::new(ip(9), PORT),
        ..ends
    };
    let mut wrong_magic = header.to_vec();
    wrong_magic[0] ^= 0xff;
    let bad = [
        [&*encode_simple(&stranger), b"bad"].concat(),
        [&*encode_simple(&wrong_edge), b"bad"].concat(),
        [&*wrong_magic, b"bad"].concat(),
        header[..SIMPLE_LENGTH - 1].to_vec(),
        Vec::new(),
        b"no header".to_vec(),
    ];
    for datagram in &bad {
        origin.send_to(datagram, session).unwrap();
    }
    for payload in [&b"reply"[..], b"", b"more"] {
        origin
            .send_to(&[&*header, payload].concat(), session)
            .unwrap();
        assert_eq!(receive(&client), payload);
    }
    let totals = eventually(
        || stage.snapshot("app").totals,
        |totals| totals.egress_bytes == 9,
    );
    assert_eq!(totals.dropped_datagrams, bad.len() as u64);
    assert_eq!(totals.ingress_bytes, 8);
}

/// A download over UDP: a socket that is full for a moment loses nothing.
#[test]
fn what_the_origin_sends_is_held_back_not_lost() {
    const COUNT: u32 = 2000;
    let origin = udp_origin();
    let mut app = udp_app(&[origin.local_addr().unwrap()]);
    app.timeouts.idle = Duration::from_secs(1);
    let stage = Stage::new(&[app]);
    let client = udp_client(edge());
    SockRef::from(&client)
        .set_recv_buffer_size(16 << 20)
        .unwrap();
    let session = origin_view(&client, &origin);
    let mut got = HashSet::new();
    let began = Instant::now();
    for number in 0..COUNT {
        let mut datagram = vec![0; 1200];
        datagram[..4].copy_from_slice(&number.to_be_bytes());
        origin.send_to(&datagram, session).unwrap();
        // As many on the way as fit into the smallest default buffer.
        if number % 32 == 31 {
            for _ in 0..32 {
                let datagram = receive(&client);
                got.insert(u32::from_be_bytes(datagram[..4].try_into().unwrap()));
            }
        }
        assert!(began.elapsed() < PATIENCE);
    }
    assert_eq!(got.len(), COUNT as usize / 32 * 32);
    assert_eq!(stage.snapshot("app").totals.dropped_datagrams, 0);
}
