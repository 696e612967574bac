//! `spectrum.toml`.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use toml::Spanned;

use super::{
    app::{Placed, all_placed},
    feeds, places,
    rules::{self, Owner},
    scalar,
    table::{Report, Table, Wrong},
    value::Value,
};
use crate::config::{
    EventOutput, Host, Mode, SynAnswers, XdpMode, errors::Problem, source::Source,
};

const APPS_DIR: &str = "apps.d";
const PIN_DIR: &str = "/sys/fs/bpf/spectrum";
const CONTROL_SOCKET: &str = "/run/spectrum/control.sock";
const STATE_DIR: &str = "/var/lib/spectrum";
const DRAIN: Duration = Duration::from_secs(10);
const MAX_DRAIN: Duration = Duration::from_secs(3600);
const DROP_EVENTS_PER_SECOND: u32 = 100;
const MAX_WORKERS: usize = 1024;

/// Bytes of an interface's name (`IFNAMSIZ`, without the final zero).
const MAX_INTERFACE_NAME: usize = 15;

/// Bytes of a Unix socket's path (`sun_path`, without the final zero).
const MAX_SOCKET_PATH: usize = 107;

/// What could be read of the host's document.
pub(crate) struct HostDraft {
    /// Where the apps are; `None` if that cannot be known.
    pub(crate) apps_dir: Option<PathBuf>,
    /// Whether databases are named that know where addresses are; true if that cannot be known.
    pub(crate) has_databases: bool,
    /// The fields that ask for that.
    pub(crate) asking: Vec<Placed<String>>,
    /// `None` if there are problems.
    pub(crate) host: Option<Host>,
}

pub(crate) fn read(source: &Arc<Source>, problems: &mut Vec<Problem>) -> HostDraft {
    let report = Report::new(source);
    let draft = match report.parse() {
        Some(root) => read_root(Table::root(&report, &root), &report),
        None => HostDraft {
            apps_dir: None,
            has_databases: true,
            asking: Vec::new(),
            host: None,
        },
    };
    problems.extend(report.into_problems());
    draft
}

fn read_root(mut root: Table<'_>, report: &Report) -> HostDraft {
    let directory = report.source.path.parent().unwrap_or(Path::new(""));
    // Relative paths are relative to the document, wherever the daemon was started.
    let path = |value: Value<'_>| match value.text()? {
        "" => Err(Wrong::new("empty path", "expected a path")
            .help("write a path, absolute or relative to this document")),
        text => Ok(directory.join(text)),
    };

    let interfaces = interfaces(&mut root);
    let xdp_mode = root.get_or("xdp_mode", XdpMode::Auto, |value| {
        value.choice(XdpMode::WORDS)
    });
    let apps_dir = root.get_or("apps_dir", directory.join(APPS_DIR), path);
    let pin_dir = root.get_or("pin_dir", PathBuf::from(PIN_DIR), |value| {
        absolute(value.text()?)
    });
    let control_socket = root.get_or("control_socket", PathBuf::from(CONTROL_SOCKET), |value| {
        socket(path(value)?)
    });
    let state_dir = root.get_or("state_dir", PathBuf::from(STATE_DIR), path);
    let dns_servers = root.items("dns_servers", "remove it to ask the system's", |value| {
        dns_server(value.text()?)
    });
    let feeds = feeds::read(&mut root, directory);
    let (geo, has_databases) = places::geo(&mut root, directory);
    let workers = root.get_or("workers", cores(), |value| value.integer(1..=MAX_WORKERS));
    let drain = root.get_or("drain", DRAIN, |value| {
        scalar::duration(value, Duration::ZERO..=MAX_DRAIN)
    });

    let mut events = root.table("events");
    let output = events.get_or("output", EventOutput::Off, |value| {
        event_output(value.text()?)
    });
    let drop_events_per_second =
        events.get_or("drop_events_per_second", DROP_EVENTS_PER_SECOND, |value| {
            value.integer(0..=1_000_000)
        });
    events.finish();

    let mut protection = root.table("protection");
    let (block, allow) = scalar::access_lists(&mut protection);
    let malformed = protection.get_or("malformed", Mode::Enforce, scalar::mode);
    let closed_ports = protection.get("closed_ports", scalar::mode);
    let syn_answers = protection.get_or("syn_answers", SynAnswers::Auto, |value| {
        value.choice(SynAnswers::WORDS)
    });
    let rules = rules::read(&mut protection, Owner::Host);
    protection.finish();
    root.finish();

    let host = Host {
        interfaces,
        xdp_mode,
        apps_dir: apps_dir.clone(),
        pin_dir,
        control_socket,
        dns_servers: dns_servers.map_or_else(Vec::new, |servers| {
            let servers = servers.into_inner().into_iter();
            servers.map(Spanned::into_inner).collect()
        }),
        workers,
        drain,
        events: output,
        drop_events_per_second,
        state_dir,
        feeds,
        geo,
        block,
        allow,
        malformed,
        closed_ports: closed_ports.map(Spanned::into_inner),
        syn_answers,
        rules,
    };
    HostDraft {
        apps_dir: Some(apps_dir),
        has_databases,
        asking: all_placed(report.take_asking(), &report.source),
        host: report.is_clean().then_some(host),
    }
}

/// Whether the interfaces exist is for those to find out who attach to them.
fn interfaces(root: &mut Table<'_>) -> Vec<String> {
    const KEY: &str = "interfaces";
    const EXAMPLE: &str = "interfaces = [\"eth0\"]";
    let help = format!("name the one that clients come through, for example `{EXAMPLE}`");
    let listed = root.items(KEY, &help, |value| interface(value.text()?));
    let Some(listed) = listed else {
        if !root.has(KEY) {
            root.missing(KEY, EXAMPLE);
        }
        return Vec::new();
    };
    let mut names: Vec<Spanned<String>> = Vec::new();
    for name in listed.into_inner() {
        match names.iter().find(|known| known.get_ref() == name.get_ref()) {
            None => names.push(name),
            Some(first) => {
                let wrong =
                    Wrong::new(format!("`{}` is named twice", name.get_ref()), "again here")
                        .beside(first.span(), "first here")
                        .help("remove one of them");
                root.wrong(KEY, name.span(), wrong);
            }
        }
    }
    names.into_iter().map(Spanned::into_inner).collect()
}

/// A name as the kernel accepts it (`dev_valid_name`); it becomes the name of a directory.
fn interface(text: &str) -> Result<String, Wrong> {
    let bad = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    let is_name = (1..=MAX_INTERFACE_NAME).contains(&text.len())
        && !text.contains(bad)
        && !matches!(text, "." | "..");
    if is_name {
        return Ok(text.to_owned());
    }
    Err(Wrong::new(
        format!("`{text}` cannot be the name of an interface"),
        format!("expected at most {MAX_INTERFACE_NAME} characters, without `/`, `:` and spaces"),
    )
    .help("`ip link` lists the names"))
}

fn absolute(text: &str) -> Result<PathBuf, Wrong> {
    let path = PathBuf::from(text);
    if path.is_absolute() {
        return Ok(path);
    }
    Err(Wrong::new(
        format!("`{text}` is relative"),
        "expected a path that begins with `/`",
    )
    .help(format!(
        "pins live in a BPF file system, for example `{PIN_DIR}`"
    )))
}

fn socket(path: PathBuf) -> Result<PathBuf, Wrong> {
    let length = path.as_os_str().len();
    if length <= MAX_SOCKET_PATH && path.file_name().is_some() {
        return Ok(path);
    }
    Err(Wrong::new(
        format!("a socket cannot have this path ({length} bytes)"),
        format!("expected a file name, and at most {MAX_SOCKET_PATH} bytes in all"),
    )
    .help(format!("for example `{CONTROL_SOCKET}`")))
}

fn event_output(text: &str) -> Result<EventOutput, Wrong> {
    match text {
        "off" => Ok(EventOutput::Off),
        "stdout" => Ok(EventOutput::Stdout),
        path if path.starts_with('/') => Ok(EventOutput::File(PathBuf::from(path))),
        other => Err(Wrong::new(
            format!("`{other}` is no output"),
            "expected `off`, `stdout`, or a path that begins with `/`",
        )
        .help("for example `output = \"/var/log/spectrum/events.jsonl\"`")),
    }
}

/// One worker per core that this process may use.
fn cores() -> usize {
    thread::available_parallelism()
        .map_or(1, usize::from)
        .min(MAX_WORKERS)
}

/// `10.0.0.53`, or with a port that is not 53: `10.0.0.53:5353`.
fn dns_server(text: &str) -> Result<SocketAddr, Wrong> {
    const PORT: u16 = 53;
    let address = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, PORT));
    match address.or_else(|_| text.parse()) {
        Ok(address) if address.port() != 0 => Ok(address),
        _ => Err(Wrong::new(
            format!("`{text}` is no address"),
            "expected an address, perhaps with a port",
        )
        .help("for example `10.0.0.53` or `[2001:db8::53]:5353`")),
    }
}
