//! `tls`, `[client_tls]` and `[origin_tls]` of an app.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use toml::Spanned;

use super::{
    address::Protocol,
    app::host_name,
    table::{Table, Wrong},
    value::Value,
};
use crate::config::{
    ClientTls, Fingerprint, KeyPair, OriginTls, Tls, TlsMode, TlsVersion, Transport, UnknownNames,
};

const CLIENT: &str = "client_tls";
const ORIGIN: &str = "origin_tls";
const TABLE: &str =
    "client_tls = { certificates = [{ chain = \"mail.pem\", key = \"mail.key\" }] }";
const CERTIFICATES: &str = "certificates = [{ chain = \"mail.pem\", key = \"mail.key\" }]";
/// Bytes of a protocol's name (RFC 7301 §3.1).
const MAX_PROTOCOL: usize = 255;

/// `None`: off, or wrong. Relative paths are relative to `directory`; `name` is the app's.
pub(super) fn read(
    root: &mut Table<'_>,
    protocol: Option<&Spanned<Protocol>>,
    directory: &Path,
    name: Option<&str>,
) -> Option<Tls> {
    let mode = root.get("tls", |value| {
        let mode = value.choice(TlsMode::WORDS)?;
        match protocol {
            Some(protocol)
                if mode != TlsMode::Off && protocol.get_ref().transport == Transport::Udp =>
            {
                let wrong = Wrong::new(format!("`{mode}` is for TCP"), "expected `off`")
                    .beside(protocol.span(), "because of this")
                    .help("with `off`, DTLS and QUIC pass through to the origin untouched");
                Err(wrong)
            }
            _ => Ok(mode),
        }
    });
    let is_given = root.has("tls");
    let is_known = mode.is_some() || !is_given;
    let mode = mode.map_or(TlsMode::Off, Spanned::into_inner);
    if is_known {
        refuse_without_effect(root, CLIENT, mode != TlsMode::Off, "`tls` other than `off`");
        let has_origin = matches!(mode, TlsMode::Full | TlsMode::Strict);
        refuse_without_effect(root, ORIGIN, has_origin, "`tls = \"full\"` or `\"strict\"`");
    }
    if mode == TlsMode::Off {
        // Known all the same, and not to be complained about.
        root.get(CLIENT, |_| Ok(()));
        root.get(ORIGIN, |_| Ok(()));
        return None;
    }
    let client = client(root, mode, directory);
    let origin = match mode {
        TlsMode::Off | TlsMode::Flexible => {
            root.get(ORIGIN, |_| Ok(()));
            None
        }
        TlsMode::Full | TlsMode::Strict => Some(origin(root, mode, directory, name)),
    };
    Some(Tls {
        client: client?,
        origin,
    })
}

fn refuse_without_effect(root: &mut Table<'_>, key: &'static str, has_effect: bool, with: &str) {
    if let Some(span) = root.get(key, |value| Ok(value.span()))
        && !has_effect
    {
        let wrong = Wrong::new("this app speaks no such TLS", "without effect")
            .help(format!("it goes with {with}; remove it otherwise"));
        root.wrong(key, span.into_inner(), wrong);
    }
}

fn client(root: &mut Table<'_>, mode: TlsMode, directory: &Path) -> Option<ClientTls> {
    if !root.has(CLIENT) {
        root.missing(CLIENT, TABLE);
        return None;
    }
    let mut table = root.table(CLIENT);
    let is_there = table.has("certificates");
    if !is_there {
        table.missing("certificates", CERTIFICATES);
    }
    let certificates = certificates(&mut table, directory);
    let unknown_names = table.get_or("unknown_names", UnknownNames::Default, |value| {
        value.choice(UnknownNames::WORDS)
    });
    let alpn = alpn(&mut table, mode);
    let min_version = min_version(&mut table);
    let ca = table.get("ca", |value| file(value, directory));
    table.finish();
    Some(ClientTls {
        certificates,
        unknown_names,
        alpn,
        min_version,
        ca: ca.map(Spanned::into_inner),
    })
}

fn certificates(table: &mut Table<'_>, directory: &Path) -> Vec<KeyPair> {
    const KEY: &str = "certificates";
    let tables = table.tables(KEY);
    if tables.is_empty() && table.is_empty_list(KEY) {
        let wrong = Wrong::new("the list is empty", "expected at least one certificate")
            .help(format!("for example `{CERTIFICATES}`"));
        if let Some(list) = table.get(KEY, |value| Ok(value.span())) {
            table.wrong(KEY, list.into_inner(), wrong);
        }
    }
    let pairs = tables.into_iter();
    pairs.filter_map(|pair| key_pair(pair, directory)).collect()
}

fn key_pair(mut table: Table<'_>, directory: &Path) -> Option<KeyPair> {
    let example = "chain = \"/etc/ssl/example.pem\"";
    let chain = table.require("chain", example, |value| file(value, directory));
    let key = table.get("key", |value| file(value, directory));
    table.finish();
    let chain = chain?.into_inner();
    Some(KeyPair {
        // Many tools keep both in one file.
        key: key.map_or_else(|| chain.clone(), Spanned::into_inner),
        chain,
    })
}

fn alpn(table: &mut Table<'_>, mode: TlsMode) -> Vec<String> {
    const KEY: &str = "alpn";
    let help = "to agree on no protocol, remove this field";
    let listed = table.items(KEY, help, |value| match value.text()? {
        text if (1..=MAX_PROTOCOL).contains(&text.len()) => Ok(text.to_owned()),
        _ => Err(Wrong::new(
            "not the name of a protocol",
            format!("expected 1 to {MAX_PROTOCOL} bytes"),
        )
        .help("for example `\"h2\"` or `\"http/1.1\"`")),
    });
    let Some(listed) = listed else {
        return Vec::new();
    };
    if mode != TlsMode::Flexible {
        let wrong = Wrong::new("the origin is asked instead", "without effect")
            .help("it goes with `tls = \"flexible\"`; remove it otherwise");
        table.wrong(KEY, listed.span(), wrong);
    }
    let listed = listed.into_inner().into_iter();
    listed.map(Spanned::into_inner).collect()
}

fn origin(root: &mut Table<'_>, mode: TlsMode, directory: &Path, name: Option<&str>) -> OriginTls {
    let mut table = root.table(ORIGIN);
    let is_verified = mode == TlsMode::Strict;
    let server_name = table.get("server_name", |value| {
        let text = value.text()?;
        match text.parse::<IpAddr>() {
            Ok(ip) => Ok(ip.to_string()),
            Err(_) => host_name(text),
        }
    });
    let ca = table.get("ca", |value| file(value, directory));
    if let Some(ca) = &ca
        && !is_verified
    {
        let wrong = Wrong::new("`full` verifies no certificate", "without effect")
            .help("it goes with `tls = \"strict\"`; remove it otherwise");
        table.wrong("ca", ca.span(), wrong);
    }
    let help = "to take any certificate, remove this field";
    let fingerprints = table.items("fingerprints", help, fingerprint);
    let certificate = table.has("certificate").then(|| table.table("certificate"));
    let certificate = match certificate {
        Some(pair) if pair.is_there() => key_pair(pair, directory),
        _ => None,
    };
    let min_version = min_version(&mut table);
    table.finish();
    let mut fingerprints: Vec<Fingerprint> = fingerprints
        .map_or_else(Vec::new, Spanned::into_inner)
        .into_iter()
        .map(Spanned::into_inner)
        .collect();
    fingerprints.sort();
    fingerprints.dedup();
    OriginTls {
        is_verified,
        server_name: server_name
            .map_or_else(|| name.unwrap_or_default().to_owned(), Spanned::into_inner),
        ca: ca.map(Spanned::into_inner),
        fingerprints,
        certificate,
        min_version,
    }
}

fn min_version(table: &mut Table<'_>) -> TlsVersion {
    table.get_or("min_version", TlsVersion::V1_2, |value| {
        value.choice(TlsVersion::WORDS)
    })
}

fn file(value: Value<'_>, directory: &Path) -> Result<PathBuf, Wrong> {
    match value.text()? {
        "" => Err(Wrong::new("empty path", "expected a path")
            .help("write a path, absolute or relative to this document")),
        text => Ok(directory.join(text)),
    }
}

fn fingerprint(value: Value<'_>) -> Result<Fingerprint, Wrong> {
    let text = value.text()?;
    Fingerprint::parse(text).ok_or_else(|| {
        Wrong::new("not the SHA-256 of a certificate", "expected 64 hex digits")
            .help("`openssl x509 -noout -fingerprint -sha256 -in FILE` prints it; colons may stay")
    })
}
