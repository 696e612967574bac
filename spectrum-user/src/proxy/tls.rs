//! One TCP connection whose TLS ends here.
//!
//! If the origin speaks TLS and the client offers protocols (ALPN), the origin chooses: it is
//! reached between the client's first message and the answer to it. Otherwise the client's handshake
//! comes first, and nobody who fails it costs an origin anything.

mod relay;
mod stream;

use std::{io, net::SocketAddr, sync::Arc};

use rustls::{
    AlertDescription, CipherSuite, CommonState, Error, ProtocolVersion, ServerConfig,
    server::Acceptor,
};
use tokio::{
    io::{AsyncWriteExt as _, Interest},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{LazyConfigAcceptor, StartHandshake, TlsConnector, client, server};

use super::{
    account::{Account, Spoken},
    clock::Idle,
    limits::Limit,
    origins::Origins,
    proxy_protocol::{ClientTls, Ends, encode_v2_tls},
    routes::Astray,
    tcp::{self, End, Reached, Refusal, ResetOnDrop, Side, Unreached, reach},
};
use crate::{
    config::{ProxyProtocol, UnknownNames},
    event::{Status, TlsStatus},
    tls::{Endpoint, OriginTerms, Terms, fingerprint},
};
use relay::relay;

type Client = server::TlsStream<ResetOnDrop>;

enum Origin {
    Plain(ResetOnDrop),
    Tls(Box<client::TlsStream<ResetOnDrop>>),
}

impl Origin {
    /// The protocol that it has chosen, if any.
    fn chosen(&self) -> Vec<Vec<u8>> {
        let chosen = match self {
            Self::Plain(_) => None,
            Self::Tls(origin) => origin.get_ref().1.alpn_protocol(),
        };
        chosen.into_iter().map(<[u8]>::to_vec).collect()
    }
}

/// How a connection ends before it is open.
enum Unopened {
    /// A handshake has failed, or the client is not wanted.
    Tls(Status),
    /// No origin could be reached.
    Origin(Status),
    /// All origins are full.
    Limit(Limit),
    /// The client has gone away.
    Gone,
}

impl From<Unreached> for Unopened {
    fn from(unreached: Unreached) -> Self {
        match unreached {
            Unreached::Origin(status) => Self::Origin(status),
            Unreached::Limit(limit) => Self::Limit(limit),
            Unreached::Gone => Self::Gone,
        }
    }
}

/// Bytes of the protocols that a client may offer where an origin is offered them too: far more than any
/// does. The origin's refusal of a first message that is too long would look like its own failure.
const MAX_OFFER: usize = 1024;

pub(super) async fn carry(
    client: ResetOnDrop,
    edge: SocketAddr,
    account: &Account,
    endpoint: &Endpoint,
) {
    let session = Session {
        account,
        endpoint,
        terms: endpoint.terms(),
        edge,
    };
    match session.open(client).await {
        Ok((client, reached)) => {
            let status = session.relay(client, reached).await;
            account.close(status);
        }
        Err(Unopened::Tls(status)) => account.tls_error(status),
        Err(Unopened::Origin(status)) => account.origin_error(status),
        Err(Unopened::Limit(limit)) => account.refused(limit),
        Err(Unopened::Gone) => account.close(Status::CLIENT_RESET),
    }
}

struct Session<'a> {
    account: &'a Account,
    endpoint: &'a Endpoint,
    terms: Arc<Terms>,
    edge: SocketAddr,
}

impl Session<'_> {
    async fn open(&self, client: ResetOnDrop) -> Result<(Box<Client>, Reached<Origin>), Unopened> {
        let hello = self.hello(client).await?;
        let origins = self.origins(&hello);
        let Ok(origins) = origins else {
            self.account
                .note_tls(|tls| tls.client.status = TlsStatus::InvalidSni);
            alert(hello.io, AlertDescription::UnrecognisedName).await;
            return Err(Unopened::Tls(Status::BAD_SERVER_NAME));
        };
        let offered = offered(&hello);
        let is_passed_on = self.terms.origin.is_some();
        if is_passed_on && offered.iter().map(Vec::len).sum::<usize>() > MAX_OFFER {
            self.account
                .note_tls(|tls| tls.client.status = TlsStatus::HandshakeFailed);
            alert(hello.io, AlertDescription::NoApplicationProtocol).await;
            return Err(Unopened::Tls(Status::CLIENT_HANDSHAKE_FAILED));
        }
        match &self.terms.origin {
            Some(terms) if !offered.is_empty() => {
                let header = self.header(&hello.io.stream, None);
                let reached = self.reach_tls(
                    origins,
                    terms,
                    &hello.io.stream,
                    &offered,
                    header.as_deref(),
                );
                let reached = match unless_gone(&hello.io.stream, reached).await {
                    Err(Unopened::Tls(Status::CLIENT_HANDSHAKE_FAILED)) => {
                        alert(hello.io, AlertDescription::NoApplicationProtocol).await;
                        return Err(Unopened::Tls(Status::CLIENT_HANDSHAKE_FAILED));
                    }
                    reached => reached?,
                };
                let mut config = ServerConfig::clone(&self.terms.client);
                config.alpn_protocols = reached.origin.chosen();
                let client = self.finish(hello, Arc::new(config)).await?;
                Ok((client, reached))
            }
            Some(terms) => {
                let client = self.finish(hello, Arc::clone(&self.terms.client)).await?;
                let (stream, state) = client.get_ref();
                let header = self.header(&stream.stream, Some(state));
                let reached =
                    self.reach_tls(origins, terms, &stream.stream, &[], header.as_deref());
                let reached = unless_gone(&stream.stream, reached).await?;
                Ok((client, reached))
            }
            None => {
                let client = self.finish(hello, Arc::clone(&self.terms.client)).await?;
                let stream = &client.get_ref().0.stream;
                let reached = unless_gone(stream, self.reach_plain(origins, stream)).await?;
                Ok((client, reached))
            }
        }
    }

    /// Those that belong to the server that the client names.
    fn origins(&self, hello: &StartHandshake<ResetOnDrop>) -> Result<&Origins, Astray> {
        let serving = &self.account.serving;
        let name = hello
            .client_hello()
            .server_name()
            .map(str::to_ascii_lowercase);
        match &serving.routes {
            None => Ok(&serving.origins),
            Some(routes) => routes.find(name.as_deref(), &serving.origins),
        }
    }

    /// Reads the client's first message.
    async fn hello(&self, client: ResetOnDrop) -> Result<StartHandshake<ResetOnDrop>, Unopened> {
        let limit = self.account.app().timeouts.handshake;
        let mut acceptor = LazyConfigAcceptor::new(Acceptor::default(), client);
        let hello = match timeout(limit, &mut acceptor).await {
            Ok(Ok(hello)) => hello,
            Ok(Err(error)) => {
                if let Some(client) = acceptor.take_io() {
                    // An alert may be on its way.
                    client.end_in_order();
                }
                return Err(self.client_failed(&error));
            }
            Err(_elapsed) => return Err(self.client_failed(&io::ErrorKind::TimedOut.into())),
        };
        let name = hello.client_hello().server_name().map(Arc::<str>::from);
        let tls = self.account.app().tls.as_ref();
        let refuses = tls.is_some_and(|tls| tls.client.unknown_names == UnknownNames::Refuse);
        let is_known = name
            .as_deref()
            .is_some_and(|name| self.terms.names.has(name));
        self.account.note_tls(|tls| tls.server_name = name);
        if refuses && !is_known {
            self.account
                .note_tls(|tls| tls.client.status = TlsStatus::InvalidSni);
            alert(hello.io, AlertDescription::UnrecognisedName).await;
            return Err(Unopened::Tls(Status::BAD_SERVER_NAME));
        }
        Ok(hello)
    }

    /// The rest of the client's handshake.
    async fn finish(
        &self,
        hello: StartHandshake<ResetOnDrop>,
        config: Arc<ServerConfig>,
    ) -> Result<Box<Client>, Unopened> {
        let limit = self.account.app().timeouts.handshake;
        let handshake = hello.into_stream(config).into_fallible();
        match timeout(limit, handshake).await {
            Ok(Ok(client)) => {
                let spoken = spoken(client.get_ref().1);
                self.account.note_tls(|tls| tls.client = spoken);
                Ok(Box::new(client))
            }
            Ok(Err((error, client))) => {
                client.end_in_order();
                Err(self.client_failed(&error))
            }
            Err(_elapsed) => Err(self.client_failed(&io::ErrorKind::TimedOut.into())),
        }
    }

    fn client_failed(&self, error: &io::Error) -> Unopened {
        let (app, client) = (&self.account.app().name, self.account.client);
        log::debug!("{app}: TLS handshake with {client}: {error}");
        self.account
            .note_tls(|tls| tls.client.status = TlsStatus::HandshakeFailed);
        Unopened::Tls(Status::CLIENT_HANDSHAKE_FAILED)
    }

    /// Reaches an origin that speaks no TLS.
    async fn reach_plain(
        &self,
        origins: &Origins,
        client: &TcpStream,
    ) -> Result<Reached<Origin>, Unopened> {
        let greet = async |stream| Ok(Origin::Plain(ResetOnDrop::new(stream)));
        let reached = reach(origins, self.account, client, self.edge.port(), greet).await;
        Ok(reached?)
    }

    /// Reaches an origin that speaks TLS; it chooses among the protocols `offered`.
    async fn reach_tls(
        &self,
        origins: &Origins,
        terms: &OriginTerms,
        client: &TcpStream,
        offered: &[Vec<u8>],
        header: Option<&[u8]>,
    ) -> Result<Reached<Origin>, Unopened> {
        let greet = async |stream| self.greet(stream, terms, offered, header).await;
        let reached = reach(origins, self.account, client, self.edge.port(), greet).await;
        reached.map_err(|unreached| match unreached {
            Unreached::Origin(
                status @ (Status::CLIENT_HANDSHAKE_FAILED
                | Status::ORIGIN_CERTIFICATE
                | Status::ORIGIN_UNKNOWN_ERROR),
            ) => Unopened::Tls(status),
            Unreached::Origin(_) | Unreached::Limit(_) | Unreached::Gone => unreached.into(),
        })
    }

    /// The header goes before the handshake, which the origin can thus hand on as it is.
    async fn greet(
        &self,
        stream: TcpStream,
        terms: &OriginTerms,
        offered: &[Vec<u8>],
        header: Option<&[u8]>,
    ) -> Result<Origin, Refusal> {
        let app = self.account.app();
        let mut stream = ResetOnDrop::new(stream);
        let handshake = async {
            if let Some(header) = header {
                stream.write_all(header).await?;
            }
            let connector = TlsConnector::from(Arc::clone(&terms.config));
            let connector = connector.with_alpn(offered.to_vec());
            connector.connect(terms.server_name.clone(), stream).await
        };
        let shaken = timeout(app.timeouts.handshake, handshake).await;
        let error = match shaken {
            Ok(Ok(origin)) => {
                let state = origin.get_ref().1;
                let certificates = state.peer_certificates().unwrap_or_default();
                let fingerprint = certificates.first().map(fingerprint);
                let spoken = spoken(state);
                self.account.note_tls(|tls| {
                    tls.origin = spoken;
                    tls.fingerprint = fingerprint;
                });
                return Ok(Origin::Tls(Box::new(origin)));
            }
            Ok(Err(error)) => error,
            Err(_elapsed) => io::ErrorKind::TimedOut.into(),
        };
        let refusal = match tls_error(&error) {
            // What the client offers is its own choice, and says nothing about the origin.
            Some(Error::AlertReceived(AlertDescription::NoApplicationProtocol)) => {
                self.account
                    .note_tls(|tls| tls.client.status = TlsStatus::HandshakeFailed);
                return Err(Refusal::OfClient(Status::CLIENT_HANDSHAKE_FAILED));
            }
            Some(Error::InvalidCertificate(_)) => Status::ORIGIN_CERTIFICATE,
            _ => Status::ORIGIN_UNKNOWN_ERROR,
        };
        self.endpoint.complain_of_origin(&error);
        self.account.note_tls(|tls| {
            tls.origin = Spoken {
                status: TlsStatus::HandshakeFailed,
                ..Spoken::default()
            };
        });
        Err(Refusal::OfOrigin(refusal))
    }

    /// What an origin gets first; `state` once the client's handshake is complete.
    fn header(&self, client: &TcpStream, state: Option<&CommonState>) -> Option<Vec<u8>> {
        if self.account.app().proxy_protocol != ProxyProtocol::V2 {
            let header = tcp::header(client, self.edge, self.account);
            return header.map(|header| header.to_vec());
        }
        let ends = Ends {
            client: self.account.client,
            edge: client.local_addr().unwrap_or(self.edge),
        };
        let spoken = state.map(spoken).unwrap_or_default();
        let authority = self.account.server_name();
        let tls = ClientTls {
            authority: authority.as_deref(),
            alpn: state.and_then(CommonState::alpn_protocol),
            version: spoken.protocol,
            cipher: spoken.cipher,
            is_authenticated: state.is_some_and(|state| state.peer_certificates().is_some()),
        };
        Some(encode_v2_tls(&ends, &tls))
    }

    /// Carries bytes until the end.
    async fn relay(&self, mut client: Box<Client>, reached: Reached<Origin>) -> Status {
        let account = self.account;
        let Reached {
            origin,
            address,
            held: _held,
        } = reached;
        let idle = Idle::new(account.app().timeouts.idle);
        let end = match origin {
            Origin::Plain(mut origin) => {
                let (stream, state) = client.get_ref();
                let header = self.header(&stream.stream, Some(state));
                tcp::note_round_trips(&stream.stream, &origin.stream, account);
                account.opened(address);
                let end = relay(&mut *client, &mut origin, header.as_deref(), &idle, account).await;
                tcp::note_round_trips(&client.get_ref().0.stream, &origin.stream, account);
                if is_in_order(&end) {
                    origin.end_in_order();
                }
                end
            }
            Origin::Tls(mut origin) => {
                let (inner, outer) = (&client.get_ref().0.stream, &origin.get_ref().0.stream);
                tcp::note_round_trips(inner, outer, account);
                account.opened(address);
                let end = relay(&mut *client, &mut *origin, None, &idle, account).await;
                let (inner, outer) = (&client.get_ref().0.stream, &origin.get_ref().0.stream);
                tcp::note_round_trips(inner, outer, account);
                if is_in_order(&end) {
                    origin.get_ref().0.end_in_order();
                }
                end
            }
        };
        if is_in_order(&end) {
            client.get_ref().0.end_in_order();
        }
        status(&end)
    }
}

/// Waits for the origin as long as the client does.
async fn unless_gone<T>(
    client: &TcpStream,
    reached: impl Future<Output = Result<T, Unopened>>,
) -> Result<T, Unopened> {
    tokio::select! {
        biased;
        reached = reached => reached,
        _ = client.ready(Interest::ERROR) => Err(Unopened::Gone),
    }
}

/// The protocols that the client offers, the preferred first.
fn offered(hello: &StartHandshake<ResetOnDrop>) -> Vec<Vec<u8>> {
    let hello = hello.client_hello();
    let offered = hello.alpn().into_iter().flatten();
    offered.map(<[u8]>::to_vec).collect()
}

/// Tells a client that the server it names is not served.
pub(super) async fn refuse_name(client: ResetOnDrop) {
    alert(client, AlertDescription::UnrecognisedName).await;
}

/// Ends a handshake whose first message was read.
async fn alert(mut client: ResetOnDrop, description: AlertDescription) {
    /// A record of two bytes: fatal, and why (RFC 8446 §6).
    const FATAL_ALERT: [u8; 6] = [21, 3, 3, 0, 2, 2];
    let mut record = FATAL_ALERT.to_vec();
    record.push(description.into());
    // The client may be gone already.
    if client.write_all(&record).await.is_ok() {
        client.end_in_order();
    }
}

fn is_in_order(end: &End) -> bool {
    matches!(end, End::Closed | End::Idle { .. })
}

fn status(end: &End) -> Status {
    let End::Failed { side, error } = end else {
        return tcp::status(end);
    };
    let is_cut = error.kind() == io::ErrorKind::UnexpectedEof;
    match side {
        Side::Client if tls_error(error).is_some() => Status::CLIENT_TLS_ERROR,
        // A FIN that TLS did not announce is no end.
        Side::Client if is_cut => Status::CLIENT_RESET,
        Side::Origin if is_cut => Status::ORIGIN_RESET,
        Side::Client | Side::Origin => tcp::status(end),
    }
}

fn tls_error(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

/// What was agreed on.
fn spoken(state: &CommonState) -> Spoken {
    Spoken {
        status: TlsStatus::Ok,
        protocol: match state.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            _ => "",
        },
        cipher: match state.negotiated_cipher_suite().map(|suite| suite.suite()) {
            // In the words of the registry.
            Some(CipherSuite::TLS13_AES_128_GCM_SHA256) => "TLS_AES_128_GCM_SHA256",
            Some(CipherSuite::TLS13_AES_256_GCM_SHA384) => "TLS_AES_256_GCM_SHA384",
            Some(CipherSuite::TLS13_CHACHA20_POLY1305_SHA256) => "TLS_CHACHA20_POLY1305_SHA256",
            Some(suite) => suite.as_str().unwrap_or_default(),
            None => "",
        },
    }
}
