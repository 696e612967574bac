//! Clients that name a host before they get an origin.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use rustls::{ClientConfig, ClientConnection, RootCertStore, crypto::ring};
use spectrum_user::{
    config::{App, Origin, ProxyProtocol, Route, RouteBy, Routing, UnknownNames},
    event::{Kind, TlsStatus},
};

use crate::stage::*;

fn origins(listener: &TcpListener) -> spectrum_user::config::Origins {
    let address = listener.local_addr().unwrap();
    let origin = Origin {
        ip: address.ip(),
        first_port: address.port(),
    };
    [origin].into_iter().collect()
}

fn route(hosts: &[&str], listener: &TcpListener) -> Route {
    Route {
        hosts: hosts.iter().map(ToString::to_string).collect(),
        origins: origins(listener),
    }
}

/// What a TLS client sends first.
fn hello(name: &str) -> Vec<u8> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = name.to_owned().try_into().unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut sent = Vec::new();
    client.write_tls(&mut sent).unwrap();
    sent
}

/// What a Minecraft client sends first.
fn handshake(host: &str) -> Vec<u8> {
    let length = u8::try_from(host.len()).unwrap();
    let packet = [&[0, 0xff, 5, length], host.as_bytes(), &[0x63, 0xdd, 1]].concat();
    [&[u8::try_from(packet.len()).unwrap()], &packet[..]].concat()
}

/// Both ends of a connection that begins with `first`, which arrives unchanged.
fn arrives(first: &[u8], listener: &TcpListener) -> (TcpStream, TcpStream) {
    let mut client = connect(edge());
    client.write_all(first).unwrap();
    let mut origin = accept(listener);
    let mut read = vec![0; first.len()];
    origin.read_exact(&mut read).unwrap();
    assert!(read == first, "changed on the way");
    (client, origin)
}

/// An app with the origins `[default, git, below]`.
fn stage(by: RouteBy, unknown: UnknownNames) -> (Stage, [TcpListener; 3]) {
    let listeners = [(); 3].map(|()| tcp_origin());
    let [default, git, below] = &listeners;
    let routes = vec![
        route(&["git.example.com", "*.git.example.com"], git),
        route(&["*.example.com"], below),
    ];
    let mut app = App {
        routing: Some(Routing {
            by,
            unknown,
            routes,
        }),
        ..tcp_app(&[default.local_addr().unwrap()])
    };
    app.timeouts.handshake = Duration::from_millis(500);
    (Stage::new(&[app]), listeners)
}

#[test]
fn the_host_that_a_client_names_decides() {
    for (by, message) in [
        (RouteBy::Tls, hello as fn(&str) -> Vec<u8>),
        (RouteBy::Minecraft, handshake),
    ] {
        let (stage, listeners) = stage(by, UnknownNames::Default);
        for (host, index) in [
            ("git.example.com", 1),
            ("a.git.example.com", 1),
            ("a.b.git.example.com", 1),
            ("www.example.com", 2),
            ("example.com", 0),
            ("elsewhere.test", 0),
        ] {
            let sent = message(host);
            let ends = arrives(&sent, &listeners[index]);
            drop(ends);
            let opened = stage.expect_event(Kind::Connect, 0);
            let address = listeners[index].local_addr().unwrap();
            assert_eq!(opened.origin_port, address.port(), "{host}");
            if by == RouteBy::Tls {
                let named = opened.client_tls_client_hello_server_name;
                assert_eq!(named.as_deref(), Some(host));
            }
            let closed = stage.next_event();
            assert_eq!(closed.client_bytes, sent.len() as u64);
        }
        // Other protocols may share the port.
        drop(arrives(b"GET / HTTP/1.1\r\n\r\n", &listeners[0]));
    }
}

/// However slowly, and whatever comes behind it.
#[test]
fn a_message_in_pieces_arrives_whole() {
    let (stage, [_, git, _]) = stage(RouteBy::Tls, UnknownNames::Refuse);
    let sent = [hello("git.example.com"), Random::new(5).bytes(200_000)].concat();
    let mut client = connect(edge());
    client.set_nodelay(true).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            for piece in sent[..100].chunks(10) {
                client.write_all(piece).unwrap();
                thread::sleep(Duration::from_millis(5));
            }
            client.write_all(&sent[100..]).unwrap();
        });
        let mut origin = accept(&git);
        let mut read = vec![0; sent.len()];
        origin.read_exact(&mut read).unwrap();
        assert!(read == sent);
    });
    drop(client);
    stage.expect_event(Kind::Connect, 0);
    stage.next_event();
}

#[test]
fn a_host_that_is_not_served_is_refused_where_asked() {
    let (tls, listeners) = stage(RouteBy::Tls, UnknownNames::Refuse);
    let mut client = connect(edge());
    client.write_all(&hello("elsewhere.test")).unwrap();
    let mut alert = [0; 7];
    client.read_exact(&mut alert).unwrap();
    assert_eq!(alert, [21, 3, 3, 0, 2, 2, 112]);
    drop(client);
    let refused = tls.expect_event(Kind::TlsError, 400);
    assert_eq!(refused.client_tls_status, TlsStatus::InvalidSni);
    drop((tls, listeners));

    let (minecraft, _listeners) = stage(RouteBy::Minecraft, UnknownNames::Refuse);
    let mut client = connect(edge());
    client.write_all(&handshake("elsewhere.test")).unwrap();
    assert_eq!(end_of(&mut client), libc::ECONNRESET);
    minecraft.expect_event(Kind::ClientFiltered, 400);
}

/// Who names nobody holds a place for a moment only, and costs no origin anything.
#[test]
fn a_silent_client_is_sent_away() {
    let (stage, [default, ..]) = stage(RouteBy::Tls, UnknownNames::Default);
    let mut client = connect(edge());
    client.write_all(&hello("git.example.com")[..50]).unwrap();
    assert_eq!(end_of(&mut client), libc::ECONNRESET);
    stage.expect_event(Kind::TlsError, 443);
    default.set_nonblocking(true).unwrap();
    default.accept().unwrap_err();
}

#[test]
fn the_proxy_header_goes_before_what_was_read() {
    let git = tcp_origin();
    let app = App {
        routing: Some(Routing {
            by: RouteBy::Minecraft,
            unknown: UnknownNames::Refuse,
            routes: vec![route(&["git.example.com"], &git)],
        }),
        proxy_protocol: ProxyProtocol::V1,
        ..tcp_app(&[git.local_addr().unwrap()])
    };
    let stage = Stage::new(&[app]);
    let sent = handshake("git.example.com");
    let mut client = connect(edge());
    client.write_all(&sent).unwrap();
    let (from, to) = (client.local_addr().unwrap(), edge());
    let header = format!(
        "PROXY TCP4 {} {} {} {}\r\n",
        from.ip(),
        to.ip(),
        from.port(),
        to.port()
    );
    let expected = [header.as_bytes(), &sent].concat();
    let mut origin = accept(&git);
    let mut read = vec![0; expected.len()];
    origin.read_exact(&mut read).unwrap();
    assert_eq!(read, expected);
    assert_eq!(stage.snapshot("app").routes[0].hosts, ["git.example.com"]);
}
