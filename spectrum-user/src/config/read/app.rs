//! A document of `apps.d/`.

use std::{path::Path, sync::Arc, time::Duration};

use toml::Spanned;

use super::{
    address::{self, Protocol},
    health, limits, origins, protection, routing, scalar,
    table::{Report, Table, Wrong},
    tls,
    value::Value,
};
use crate::config::{
    App, AppId, DataPath, EdgeIps, HeaderOn, Limits, PortRange, ProxyProtocol, TcpSession,
    Timeouts, Transport,
    errors::Problem,
    source::{Place, Source},
};

/// Enough for any way to an origin that is worth having; a client waits all that time.
const CONNECT: Duration = Duration::from_secs(5);

/// A few round trips on the worst of lines; whoever takes longer holds a place for nothing.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Longer than the keepalives of what people leave open (SSH, MQTT, pools of databases), and
/// short enough that dead peers do not pile up.
const TCP_IDLE: Duration = Duration::from_secs(3600);

/// Twice the keepalive that games and tunnels send to hold a NAT open (25 to 30 s).
const UDP_IDLE: Duration = Duration::from_secs(60);

const MIN_CONNECT: Duration = Duration::from_millis(10);
const MAX_CONNECT: Duration = Duration::from_secs(300);
const MIN_IDLE: Duration = Duration::from_secs(1);
const MAX_IDLE: Duration = Duration::from_secs(30 * 24 * 3600);

/// A value, and where it stands.
pub(crate) struct Placed<T> {
    pub(crate) value: T,
    pub(crate) place: Place,
}

/// What could be read of an app's document: enough to hold it against the others, though something
/// else in it be wrong.
pub(crate) struct AppDraft {
    pub(crate) name: Option<Placed<String>>,
    pub(crate) id: Option<Placed<AppId>>,
    /// What it claims of the edge, placed at its protocol.
    pub(crate) edge: Option<Placed<EdgeClaim>>,
    /// The app with which its clients have to be connected.
    pub(crate) tcp_session: Option<Placed<TcpSession>>,
    /// The fields that ask where a source is.
    pub(crate) asking: Vec<Placed<String>>,
    /// `None` if there are problems.
    pub(crate) app: Option<App>,
}

/// Edge addresses and ports that an app wants for itself.
pub(crate) struct EdgeClaim {
    pub(crate) transport: Transport,
    pub(crate) ports: PortRange,
    pub(crate) ips: EdgeIps,
}

/// `None` if the document is no TOML.
pub(crate) fn read(source: &Arc<Source>, problems: &mut Vec<Problem>) -> Option<AppDraft> {
    let report = Report::new(source);
    let draft = report
        .parse()
        .map(|root| read_root(Table::root(&report, &root), &report));
    problems.extend(report.into_problems());
    draft
}

fn read_root(mut root: Table<'_>, report: &Report) -> AppDraft {
    let source = &report.source;
    let id = id(&mut root, source);
    let name = name(&mut root);
    let protocol = root.require("protocol", "protocol = \"tcp/22\"", address::protocol);
    let transport = protocol
        .as_ref()
        .map(|protocol| protocol.get_ref().transport);
    let edge_ips = address::edge_ips(&mut root);
    let origins = origins::read(&mut root, protocol.as_ref(), edge_ips.as_ref());
    let health = health::read(&mut root, name.as_ref().map(|name| name.get_ref().as_str()));
    let (proxy_protocol, proxy_protocol_on) = proxy_protocol(&mut root, protocol.as_ref());
    let ip_firewall = root.get_or("ip_firewall", true, Value::boolean);
    let tls = tls::read(
        &mut root,
        protocol.as_ref(),
        source.path.parent().unwrap_or(Path::new("")),
        name.as_ref().map(|name| name.get_ref().as_str()),
    );
    let routing = routing::read(
        &mut root,
        protocol.as_ref(),
        edge_ips.as_ref(),
        tls.is_some(),
    );
    refuse_unserved(&mut root);
    let reads_first = tls.is_some() || root.has("routing");
    let timeouts = timeouts(&mut root, transport, reads_first);
    let mut routes = routing.iter().flat_map(|routing| &routing.routes);
    let is_bounded = origins.max_connections.is_some()
        || routes.any(|route| route.origins.max_connections.is_some());
    let limits = limits::read(&mut root, transport, is_bounded);
    let data_path = data_path(&mut root, protocol.as_ref(), proxy_protocol, &limits);
    let ports = protocol.as_ref().map(|protocol| protocol.get_ref().ports);
    let (protection, tcp_session) = protection::read(&mut root, transport, ports, ip_firewall);
    for stamp in ["created_on", "modified_on"] {
        root.get(stamp, Value::timestamp);
    }
    root.finish();

    let name = name.map(|name| placed(name, source));
    let edge = protocol.zip(edge_ips).map(|(protocol, ips)| {
        let claim = |Protocol { transport, ports }| EdgeClaim {
            transport,
            ports,
            ips,
        };
        let span = protocol.span();
        placed(Spanned::new(span, claim(protocol.into_inner())), source)
    });
    let app = match (&name, &id, &edge) {
        (Some(name), Some(id), Some(edge)) if report.is_clean() => Some(App {
            id: id.value,
            name: name.value.clone(),
            document: source.path.clone(),
            transport: edge.value.transport,
            ports: edge.value.ports,
            edge_ips: edge.value.ips.clone(),
            origins,
            health,
            proxy_protocol,
            proxy_protocol_on,
            data_path,
            routing,
            tls,
            timeouts,
            limits,
            ip_firewall,
            protection,
        }),
        _ => None,
    };
    AppDraft {
        name,
        id,
        edge,
        tcp_session: tcp_session.map(|session| placed(session, source)),
        asking: all_placed(report.take_asking(), source),
        app,
    }
}

pub(super) fn all_placed<T>(spanned: Vec<Spanned<T>>, source: &Arc<Source>) -> Vec<Placed<T>> {
    let spanned = spanned.into_iter();
    spanned.map(|one| placed(one, source)).collect()
}

fn placed<T>(spanned: Spanned<T>, source: &Arc<Source>) -> Placed<T> {
    Placed {
        place: source.place(spanned.span()),
        value: spanned.into_inner(),
    }
}

/// The id, or one that follows from the file's name.
fn id(root: &mut Table<'_>, source: &Arc<Source>) -> Option<Placed<AppId>> {
    if root.has("id") {
        let given = root.get("id", |value| {
            let text = value.text()?;
            AppId::parse(text).ok_or_else(|| {
                Wrong::new(
                    format!("`{text}` is no id"),
                    "expected 32 hex digits, not all of them 0",
                )
                .help("remove it: an id then follows from the name of the file")
            })
        })?;
        return Some(placed(given, source));
    }
    // Known all the same, and not to be complained about.
    root.get("id", |_| Ok(()));
    let stem = source.path.file_stem().unwrap_or_default();
    Some(Placed {
        value: AppId::from_file_stem(&stem.to_string_lossy()),
        place: source.place(0..0),
    })
}

/// `dns.name`. The type goes with the edge addresses; it matters to who publishes the name.
fn name(root: &mut Table<'_>) -> Option<Spanned<String>> {
    const EXAMPLE: &str = "dns = { name = \"ssh.example.com\", type = \"CNAME\" }";
    if !root.has("dns") {
        root.missing("dns", EXAMPLE);
        root.table("dns");
        return None;
    }
    let mut dns = root.table("dns");
    let name = dns.require("name", "name = \"ssh.example.com\"", |value| {
        host_name(value.text()?)
    });
    dns.get("type", |value| {
        value.choice(&[("CNAME", ()), ("ADDRESS", ())])
    });
    dns.finish();
    name
}

/// A host name (RFC 1123 §2.1), and `_` as services use it; in lower case.
pub(super) fn host_name(text: &str) -> Result<String, Wrong> {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.len() <= 253 && name.split('.').all(is_label) {
        return Ok(name.to_ascii_lowercase());
    }
    Err(Wrong::new(
        format!("`{text}` is no host name"),
        "expected letters, digits and hyphens, in parts divided by dots",
    )
    .help("for example `ssh.example.com`"))
}

fn proxy_protocol(
    root: &mut Table<'_>,
    protocol: Option<&Spanned<Protocol>>,
) -> (ProxyProtocol, HeaderOn) {
    let header = root.get("proxy_protocol", |value| {
        let header = value.choice(ProxyProtocol::WORDS)?;
        let Some(protocol) = protocol else {
            return Ok(header);
        };
        let wrong = match (header, protocol.get_ref().transport) {
            (ProxyProtocol::V1, Transport::Udp) => {
                Wrong::new("`v1` is for TCP", "expected `v2`, `simple` or `off`")
                    .help("`v2` and `simple` carry the client's address over UDP")
            }
            (ProxyProtocol::Simple, Transport::Tcp) => {
                Wrong::new("`simple` is for UDP", "expected `v1`, `v2` or `off`")
                    .help("`v2` is what most servers read")
            }
            _ => return Ok(header),
        };
        Err(wrong.beside(protocol.span(), "because of this"))
    });
    let on = root.get("proxy_protocol_on", |value| value.choice(HeaderOn::WORDS));
    let is_v2 = header.as_ref().map(Spanned::get_ref) == Some(&ProxyProtocol::V2);
    let is_udp = protocol.is_none_or(|protocol| protocol.get_ref().transport == Transport::Udp);
    if let Some(on) = &on
        && !(is_v2 && is_udp)
    {
        let wrong = Wrong::new(
            "this app has no datagrams with a `v2` header",
            "without effect",
        )
        .help("it goes with `proxy_protocol = \"v2\"` and UDP; remove it otherwise");
        root.wrong("proxy_protocol_on", on.span(), wrong);
    }
    (
        header.map_or(ProxyProtocol::Off, Spanned::into_inner),
        on.map_or(HeaderOn::First, Spanned::into_inner),
    )
}

/// Who moves the datagrams; for TCP there is no choice.
fn data_path(
    root: &mut Table<'_>,
    protocol: Option<&Spanned<Protocol>>,
    header: ProxyProtocol,
    limits: &Limits,
) -> DataPath {
    let is_tcp = protocol.is_some_and(|protocol| protocol.get_ref().transport == Transport::Tcp);
    let chosen = root.get("data_path", |value| {
        let path = value.choice(DataPath::WORDS)?;
        if is_tcp && let Some(protocol) = protocol {
            let wrong = Wrong::new("TCP goes through the proxy", "only for UDP apps");
            return Err(wrong
                .beside(protocol.span(), "because of this")
                .help("remove it"));
        }
        if path == DataPath::Kernel && header != ProxyProtocol::Off {
            return Err(Wrong::new(
                format!("the kernel writes no `{header}` headers"),
                "expected `auto` or `proxy`",
            )
            .help("or set `proxy_protocol` to `off`"));
        }
        if path == DataPath::Kernel && !limits.bandwidth.is_unlimited() {
            return Err(Wrong::new(
                "the kernel counts no bytes before they pass",
                "expected `auto` or `proxy`",
            )
            .help("or remove `limits.bandwidth`"));
        }
        Ok(path)
    });
    match chosen {
        Some(path) => path.into_inner(),
        None if is_tcp => DataPath::Proxy,
        None => DataPath::Auto,
    }
}

/// Values that the format knows and this version does not serve.
fn refuse_unserved(root: &mut Table<'_>) {
    root.get("traffic_type", |value| {
        let words = ["direct", "http", "https"].map(|word| (word, word));
        match value.choice(&words)? {
            "direct" => Ok(()),
            other => Err(Wrong::new(
                format!("`{other}` is not served by this version"),
                "expected `direct`",
            )
            .help("`direct` passes HTTP through like any other protocol")),
        }
    });
}

fn timeouts(root: &mut Table<'_>, transport: Option<Transport>, reads_first: bool) -> Timeouts {
    let mut table = root.table("timeouts");
    let is_udp = transport == Some(Transport::Udp);
    let connect = table.get("connect", |value| {
        if is_udp {
            return Err(
                Wrong::new("UDP has no connections to wait for", "only for TCP apps")
                    .help("remove it; `idle` ends a session that nobody answers"),
            );
        }
        scalar::duration(value, MIN_CONNECT..=MAX_CONNECT)
    });
    let handshake = table.get("handshake", |value| {
        if !reads_first {
            return Err(
                Wrong::new("this app shakes no hands", "without effect").help(
                    "it goes with `tls` other than `off`, and with `routing`; remove it otherwise",
                ),
            );
        }
        scalar::duration(value, MIN_CONNECT..=MAX_CONNECT)
    });
    let idle = if is_udp { UDP_IDLE } else { TCP_IDLE };
    let idle = table.get_or("idle", idle, |value| {
        scalar::duration(value, MIN_IDLE..=MAX_IDLE)
    });
    let max_duration = table.get("max_duration", |value| {
        scalar::duration(value, MIN_IDLE..=MAX_IDLE)
    });
    table.finish();
    Timeouts {
        connect: connect.map_or(CONNECT, Spanned::into_inner),
        handshake: handshake.map_or(HANDSHAKE, Spanned::into_inner),
        idle,
        max_duration: max_duration.map(Spanned::into_inner),
    }
}
