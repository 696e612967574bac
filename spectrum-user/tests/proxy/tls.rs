//! TLS that ends at the edge.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    crypto::ring,
    pki_types::{PrivateKeyDer, ServerName},
    server::WebPkiClientVerifier,
    version::TLS12,
};
use spectrum_user::{
    config::{self, App, ProxyProtocol, Tls, Transport},
    event::{Kind, TlsStatus},
    proxy::proxy_protocol::parse_v2,
    tls::fingerprint,
};
use tempfile::TempDir;

use crate::{
    authority::{Authority, Signed},
    stage::*,
};

const NAME: &str = "app.example.com";

/// An authority that signs for everybody, and a directory for what is read.
struct Hall {
    authority: Authority,
    edge: Signed,
    origin: Signed,
    directory: TempDir,
}

impl Hall {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let edge = authority.sign(&[NAME, "*.example.org"]);
        edge.write(directory.path(), "edge");
        let origin = authority.sign(&["origin.internal"]);
        authority.write(&directory.path().join("ca.pem"));
        Self {
            authority,
            edge,
            origin,
            directory,
        }
    }

    /// What an app's document says: `tls`, lines of `[client_tls]`, and further tables.
    fn tls(&self, mode: &str, client: &str, tables: &str) -> Option<Tls> {
        let document = format!(
            "dns = {{ name = \"{NAME}\" }}\nprotocol = \"tcp/1\"\n\
             origin_direct = [\"tcp://192.0.2.1:1\"]\ntls = \"{mode}\"\n\
             [client_tls]\n{client}\n{tables}"
        );
        let path = self.directory.path().join("app.toml");
        fs::write(&path, document).unwrap();
        let app = config::load_app(&path).unwrap_or_else(|errors| panic!("{errors}"));
        app.tls
    }

    fn app(&self, origin: &TcpListener, tls: Option<Tls>) -> App {
        App {
            tls,
            ..tcp_app(&[origin.local_addr().unwrap()])
        }
    }

    /// The most that an origin can ask for.
    fn strict(&self, origin: &TcpListener) -> App {
        let tables = "[origin_tls]\nca = \"ca.pem\"\nserver_name = \"origin.internal\"\n";
        self.app(origin, self.tls("strict", CERTIFICATE, tables))
    }

    /// A client that trusts the authority.
    fn client(&self, name: &'static str, alpn: &[&str]) -> Client {
        let mut config = self.client_config().with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        connect_tls(config, name)
    }

    fn client_config(
        &self,
    ) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.certificate.der().clone()).unwrap();
        ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
    }

    /// What an origin of `signed` needs.
    fn origin_config(&self, signed: &Signed, alpn: &[&str]) -> ServerConfig {
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![signed.certificate.der().clone()], key_of(signed))
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }
}

const CERTIFICATE: &str = "certificates = [{ chain = \"edge.pem\", key = \"edge.key\" }]";

type Client = StreamOwned<ClientConnection, TcpStream>;
type Server = StreamOwned<ServerConnection, TcpStream>;

fn connect_tls(config: ClientConfig, name: &'static str) -> Client {
    let name = ServerName::try_from(name).unwrap();
    let session = ClientConnection::new(Arc::new(config), name).unwrap();
    StreamOwned::new(session, connect(edge()))
}

fn key_of(signed: &Signed) -> PrivateKeyDer<'static> {
    PrivateKeyDer::try_from(signed.key.serialize_der()).unwrap()
}

/// Plays the origin of one connection on a thread of its own.
fn serve(
    listener: TcpListener,
    config: ServerConfig,
    play: impl FnOnce(&mut Server) -> io::Result<()> + Send + 'static,
) -> thread::JoinHandle<io::Result<()>> {
    thread::spawn(move || {
        let session = ServerConnection::new(Arc::new(config)).unwrap();
        let mut stream = StreamOwned::new(session, accept(&listener));
        play(&mut stream)
    })
}

/// Sends back what comes until the orderly end, and ends as well.
fn echo(stream: &mut Server) -> io::Result<()> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all)?;
    stream.write_all(&all)?;
    stream.conn.send_close_notify();
    stream.flush()
}

fn close(client: &mut Client) {
    client.conn.send_close_notify();
    client.flush().unwrap();
}

/// Sends back the first four bytes, and waits for the end.
fn pong(stream: &mut Server) -> io::Result<()> {
    let mut four = [0; 4];
    stream.read_exact(&mut four)?;
    stream.write_all(&four)?;
    stream.flush()?;
    stream.read_to_end(&mut Vec::new()).map(drop)
}

/// Handshakes and gets an answer, or learns why not.
fn ping(client: &mut Client) -> io::Result<()> {
    client.write_all(b"ping")?;
    let mut four = [0; 4];
    client.read_exact(&mut four)?;
    assert_eq!(&four, b"ping");
    Ok(())
}

fn shown(client: &Client) -> &[u8] {
    &client.conn.peer_certificates().unwrap()[0]
}

#[test]
fn a_plain_origin_gets_what_the_client_encrypted() {
    let hall = Hall::new();
    let origin = tcp_origin();
    let stage = Stage::new(&[hall.app(&origin, hall.tls("flexible", CERTIFICATE, ""))]);
    let mut client = hall.client(NAME, &["h2"]);
    let sent = Random::new(1).bytes(3_000_000);
    let mut received = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut origin = accept(&origin);
            let mut all = vec![0; sent.len()];
            origin.read_exact(&mut all).unwrap();
            // The client's orderly end is one here, and the other direction goes on.
            assert_eq!(end_of(&mut origin), 0);
            origin.write_all(&all).unwrap();
        });
        client.write_all(&sent).unwrap();
        close(&mut client);
        client.read_to_end(&mut received).unwrap();
    });
    assert!(received == sent);
    assert_eq!(client.conn.alpn_protocol(), None);
    let opened = stage.expect_event(Kind::Connect, 0);
    assert_eq!(opened.origin_tls_mode, "flexible");
    assert_eq!(opened.client_tls_status, TlsStatus::Ok);
    assert_eq!(opened.client_tls_protocol, "TLSv1.3");
    assert_eq!(opened.client_tls_cipher, "TLS_AES_256_GCM_SHA384");
    assert_eq!(
        opened.client_tls_client_hello_server_name.as_deref(),
        Some(NAME)
    );
    assert_eq!(opened.origin_tls_status, TlsStatus::Unknown);
    drop(client);
    let closed = stage.expect_event(Kind::Disconnect, 200);
    assert_eq!(closed.client_bytes, sent.len() as u64);
    assert_eq!(closed.origin_bytes, sent.len() as u64);
}

/// Both sides agree on a protocol as if nobody stood in between.
#[test]
fn a_verified_origin_chooses_the_protocol() {
    let hall = Hall::new();
    let origin = tcp_origin();
    let stage = Stage::new(&[hall.strict(&origin)]);
    for (offered, expected) in [
        (&["http/1.1", "h2"][..], Some(&b"h2"[..])),
        (&["http/1.1"], Some(b"http/1.1")),
        (&[], None),
    ] {
        let listener = origin.try_clone().unwrap();
        let config = hall.origin_config(&hall.origin, &["h2", "http/1.1"]);
        let playing = serve(listener, config, echo);
        let mut client = hall.client(NAME, offered);
        client.write_all(b"hello").unwrap();
        close(&mut client);
        let mut received = String::new();
        client.read_to_string(&mut received).unwrap();
        assert_eq!(received, "hello");
        assert_eq!(client.conn.alpn_protocol(), expected);
        playing.join().unwrap().unwrap();
        drop(client);
        let opened = stage.expect_event(Kind::Connect, 0);
        assert_eq!(opened.origin_tls_mode, "strict");
        assert_eq!(opened.origin_tls_status, TlsStatus::Ok);
        assert_eq!(
            opened.origin_tls_fingerprint,
            Some(fingerprint(hall.origin.certificate.der()))
        );
        stage.expect_event(Kind::Disconnect, 200);
    }
}

/// What the client wants is its own fault: the origin is not passed over for it.
#[test]
fn a_protocol_that_the_origin_does_not_speak_is_refused() {
    let hall = Hall::new();
    let origin = tcp_origin();
    let stage = Stage::new(&[hall.strict(&origin)]);
    let config = hall.origin_config(&hall.origin, &["h2"]);
    let playing = serve(origin, config, pong);
    let mut client = hall.client(NAME, &["gopher"]);
    let error = ping(&mut client).unwrap_err().to_string();
    assert!(error.contains("NoApplicationProtocol"), "{error}");
    playing.join().unwrap().unwrap_err();
    let failed = stage.expect_event(Kind::TlsError, 443);
    assert_eq!(failed.client_tls_status, TlsStatus::HandshakeFailed);
    let snapshot = stage.snapshot("app");
    assert_eq!(snapshot.origins[0].failures, 0);
    assert_eq!(snapshot.totals.tls_errors, 1);
}

/// An origin that is shown too long an offer refuses it with another word, and would pass for broken.
#[test]
fn more_protocols_than_anybody_speaks_reach_no_origin() {
    let hall = Hall::new();
    let origin = tcp_origin();
    let stage = Stage::new(&[hall.strict(&origin)]);
    let names: Vec<String> = (0..200)
        .map(|number| format!("protocol-{number}"))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut client = hall.client(NAME, &names);
    let error = ping(&mut client).unwrap_err().to_string();
    assert!(error.contains("NoApplicationProtocol"), "{error}");
    stage.expect_event(Kind::TlsError, 443);
    origin.set_nonblocking(true).unwrap();
    assert!(origin.accept().is_err(), "the origin was asked");
    assert_eq!(stage.snapshot("app").origins[0].failures, 0);
}

/// Nobody gets between edge and origin, and whoever tries is seen.
#[test]
fn an_origin_with_another_certificate_gets_nothing() {
    let hall = Hall::new();
    let stranger = Authority::new().sign(&["origin.internal"]);
    let namesake = hall.authority.sign(&["another.internal"]);
    let pinned = format!(
        "[origin_tls]\nfingerprints = [\"{}\"]\n",
        fingerprint(hall.origin.certificate.der())
    );
    let strict = "[origin_tls]\nca = \"ca.pem\"\nserver_name = \"origin.internal\"\n";
    for (mode, tables, signed) in [
        ("strict", strict, &stranger),
        ("strict", strict, &namesake),
        ("full", &pinned, &stranger),
    ] {
        let origin = tcp_origin();
        let stage = Stage::new(&[hall.app(&origin, hall.tls(mode, CERTIFICATE, tables))]);
        let playing = serve(origin, hall.origin_config(signed, &[]), pong);
        let mut client = hall.client(NAME, &[]);
        ping(&mut client).unwrap_err();
        playing.join().unwrap().unwrap_err();
        let failed = stage.expect_event(Kind::TlsError, 540);
        assert_eq!(failed.origin_tls_status, TlsStatus::HandshakeFailed);
        assert_eq!(failed.client_tls_status, TlsStatus::Ok);
    }
}

#[test]
fn an_unverified_origin_may_be_anybody() {
    let hall = Hall::new();
    let stranger = Authority::new().sign(&["whoever"]);
    let pinned = format!(
        "[origin_tls]\nfingerprints = [\"{}\"]\n",
        fingerprint(stranger.certificate.der())
    );
    for tables in ["", &pinned] {
        let origin = tcp_origin();
        let stage = Stage::new(&[hall.app(&origin, hall.tls("full", CERTIFICATE, tables))]);
        let playing = serve(origin, hall.origin_config(&stranger, &[]), pong);
        let mut client = hall.client(NAME, &[]);
        ping(&mut client).unwrap();
        close(&mut client);
        playing.join().unwrap().unwrap();
        // This origin does not announce its end, and the client can tell.
        let error = client.read(&mut [0; 1]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        drop(client);
        stage.expect_event(Kind::Connect, 0);
        stage.expect_event(Kind::Disconnect, 200);
    }
}

#[test]
fn the_client_is_shown_the_certificate_that_it_asks_for() {
    let hall = Hall::new();
    let other = hall.authority.sign(&["other.example.com"]);
    other.write(hall.directory.path(), "other");
    let certificates = "certificates = [{ chain = \"edge.pem\", key = \"edge.key\" }, \
                        { chain = \"other.pem\", key = \"other.key\" }]\n\
                        unknown_names = \"refuse\"";
    let origin = tcp_origin();
    let stage = Stage::new(&[hall.app(&origin, hall.tls("flexible", certificates, ""))]);
    for (name, expected) in [
        (NAME, &hall.edge),
        ("www.example.org", &hall.edge),
        ("other.example.com", &other),
    ] {
        let mut client = hall.client(name, &[]);
        client.conn.complete_io(&mut client.sock).unwrap();
        assert_eq!(shown(&client), &**expected.certificate.der());
        drop(accept(&origin));
        drop(client);
        stage.expect_event(Kind::Connect, 0);
        stage.next_event();
    }
    let mut client = hall.client("nobody.example.com", &[]);
    let error = ping(&mut client).unwrap_err().to_string();
    assert!(error.contains("UnrecognisedName"), "{error}");
    let failed = stage.expect_event(Kind::TlsError, 400);
    assert_eq!(failed.client_tls_status, TlsStatus::InvalidSni);
    assert_eq!(
        failed.client_tls_client_hello_server_name.as_deref(),
        Some("nobody.example.com")
    );
}

#[test]
fn clients_and_edge_prove_who_they_are_where_asked() {
    let hall = Hall::new();
    let known = hall.authority.sign(&["client"]);
    let client_tls = format!("{CERTIFICATE}\nca = \"ca.pem\"");
    let tables = "[origin_tls]\ncertificate = { chain = \"edge.pem\", key = \"edge.key\" }\n";
    let origin = tcp_origin();
    let stage = Stage::new(&[hall.app(&origin, hall.tls("full", &client_tls, tables))]);

    // Without a certificate, the client gets nowhere, and the origin does not hear of it.
    let mut client = hall.client(NAME, &[]);
    let error = ping(&mut client).unwrap_err().to_string();
    assert!(error.contains("CertificateRequired"), "{error}");
    stage.expect_event(Kind::TlsError, 443);

    let mut roots = RootCertStore::empty();
    roots.add(hall.authority.certificate.der().clone()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(
            vec![hall.origin.certificate.der().clone()],
            key_of(&hall.origin),
        )
        .unwrap();
    let playing = serve(origin, config, pong);
    let config = hall.client_config();
    let config =
        config.with_client_auth_cert(vec![known.certificate.der().clone()], key_of(&known));
    let mut client = connect_tls(config.unwrap(), NAME);
    ping(&mut client).unwrap();
    close(&mut client);
    playing.join().unwrap().unwrap();
    drop(client);
    let opened = stage.expect_event(Kind::Connect, 0);
    assert_eq!(opened.origin_tls_protocol, "TLSv1.2");
    assert!(
        opened.origin_tls_cipher.starts_with("TLS_ECDHE_"),
        "{opened:?}"
    );
    stage.expect_event(Kind::Disconnect, 200);
}

#[test]
fn an_old_version_is_refused_where_a_newer_one_is_demanded() {
    let hall = Hall::new();
    let origin = tcp_origin();
    let client_tls = format!("{CERTIFICATE}\nmin_version = \"1.3\"");
    let stage = Stage::new(&[hall.app(&origin, hall.tls("flexible", &client_tls, ""))]);
    let mut roots = RootCertStore::empty();
    roots.add(hall.authority.certificate.der().clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let error = ping(&mut connect_tls(config, NAME))
        .unwrap_err()
        .to_string();
    assert!(error.contains("ProtocolVersion"), "{error}");
    stage.expect_event(Kind::TlsError, 443);
}

/// Who says nothing, or no TLS, holds a place for a moment only, and costs no origin anything.
#[test]
fn a_client_without_a_handshake_is_sent_away() {
    let hall = Hall::new();
    let origin = tcp_origin();
    let mut app = hall.strict(&origin);
    app.timeouts.handshake = Duration::from_millis(300);
    let stage = Stage::new(&[app]);
    let silent = connect(edge());
    stage.expect_event(Kind::TlsError, 443);
    drop(silent);
    let mut plain = connect(edge());
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    // The answer is an alert, whatever follows it.
    let _ = plain.read_to_end(&mut answer);
    assert_eq!(answer.first(), Some(&21), "{answer:?}");
    stage.expect_event(Kind::TlsError, 443);
    origin.set_nonblocking(true).unwrap();
    origin.accept().unwrap_err();
}

/// What was cut short must not look complete: whoever speaks TLS can tell, the other sees a reset.
#[test]
fn an_end_that_tls_did_not_announce_is_a_reset() {
    let hall = Hall::new();
    let origin = tcp_origin();
    let stage = Stage::new(&[hall.app(&origin, hall.tls("flexible", CERTIFICATE, ""))]);
    let mut client = hall.client(NAME, &[]);
    client.write_all(b"half").unwrap();
    let mut origin = accept(&origin);
    origin.read_exact(&mut [0; 4]).unwrap();
    client.sock.shutdown(Shutdown::Write).unwrap();
    assert_eq!(end_of(&mut origin), libc::ECONNRESET);
    drop(client);
    stage.expect_event(Kind::Connect, 0);
    stage.expect_event(Kind::Disconnect, 499);
}

#[test]
fn a_plain_origin_learns_of_the_tls_by_proxy_v2() {
    let hall = Hall::new();
    let origin = tcp_origin();
    let client_tls = format!("{CERTIFICATE}\nalpn = [\"h2\"]");
    let mut app = hall.app(&origin, hall.tls("flexible", &client_tls, ""));
    app.proxy_protocol = ProxyProtocol::V2;
    let stage = Stage::new(&[app]);
    let mut client = hall.client(NAME, &["h2", "http/1.1"]);
    client.write_all(b"ping").unwrap();
    assert_eq!(client.conn.alpn_protocol(), Some(&b"h2"[..]));
    let local = client.sock.local_addr().unwrap();
    let mut origin = accept(&origin);
    let mut start = vec![0; 16];
    origin.read_exact(&mut start).unwrap();
    let length = usize::from(u16::from_be_bytes([start[14], start[15]]));
    start.resize(16 + length, 0);
    origin.read_exact(&mut start[16..]).unwrap();
    let (ends, whole) = parse_v2(&start, Transport::Tcp).unwrap();
    assert_eq!((ends.unwrap().client, whole), (local, start.len()));
    let ssl = b"\x01\0\0\0\x01\x21\0\x07TLSv1.3\x23\0\x16TLS_AES_256_GCM_SHA384";
    let expected = [
        &b"\x01\0\x02h2\x02\0\x0f"[..],
        NAME.as_bytes(),
        b"\x20\0",
        &[ssl.len() as u8],
        ssl,
    ]
    .concat();
    assert_eq!(&start[16 + 12..], expected);
    let mut rest = [0; 4];
    origin.read_exact(&mut rest).unwrap();
    assert_eq!(&rest, b"ping");
    drop(origin);
    close(&mut client);
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
    drop(client);
    stage.expect_event(Kind::Connect, 0);
    stage.expect_event(Kind::Disconnect, 200);
}

/// A renewed certificate is shown to whoever comes next; whoever is there stays.
#[test]
fn certificates_change_under_open_connections() {
    let hall = Hall::new();
    let origin = tcp_origin();
    let stage = Stage::new(&[hall.app(&origin, hall.tls("flexible", CERTIFICATE, ""))]);
    let mut before = hall.client(NAME, &[]);
    before.conn.complete_io(&mut before.sock).unwrap();
    let mut first = accept(&origin);
    let renewed = hall.authority.sign(&[NAME]);
    renewed.write(hall.directory.path(), "edge");
    stage.look_at_certificates();
    let mut after = hall.client(NAME, &[]);
    after.conn.complete_io(&mut after.sock).unwrap();
    assert_eq!(shown(&before), &**hall.edge.certificate.der());
    assert_eq!(shown(&after), &**renewed.certificate.der());
    before.write_all(b"still there").unwrap();
    first.read_exact(&mut [0; 11]).unwrap();
    for mut client in [before, after] {
        close(&mut client);
    }
    drop((first, accept(&origin)));
}
