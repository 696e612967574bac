//! The rules that only datagrams need.

use std::ops::Range;

use toml::Spanned;

use super::super::{
    app::host_name,
    scalar,
    table::{Table, Wrong},
};
use crate::config::{Amplification, Datagrams, Mode, TcpSession};

/// What QUIC sends to an address that is not validated, at the most (RFC 9000 section 8).
const AMPLIFICATION: u32 = 3;

pub(super) struct UdpRules {
    pub(super) tcp_session: Option<Spanned<TcpSession>>,
    pub(super) datagrams: Datagrams,
    pub(super) amplification: Amplification,
}

pub(super) fn read(protection: &mut Table<'_>, is_udp: bool) -> UdpRules {
    UdpRules {
        tcp_session: tcp_session(protection, is_udp),
        datagrams: datagrams(protection, is_udp),
        amplification: amplification(protection, is_udp),
    }
}

/// Whoever names an app wants it enforced, unless the mode says otherwise.
fn tcp_session(protection: &mut Table<'_>, is_udp: bool) -> Option<Spanned<TcpSession>> {
    let app = protection.get("require_tcp_session", |value| host_name(value.text()?));
    let mode = protection.get("tcp_session", scalar::mode);
    let spans = [
        ("require_tcp_session", app.as_ref().map(Spanned::span)),
        ("tcp_session", mode.as_ref().map(Spanned::span)),
    ];
    if !is_udp {
        for (key, span) in spans {
            refuse_for_tcp(protection, key, span);
        }
        return None;
    }
    if let Some(mode) = &mode
        && *mode.get_ref() != Mode::Off
        && !protection.has("require_tcp_session")
    {
        let wrong = Wrong::new(
            "no app is named",
            "expected `require_tcp_session` beside it",
        )
        .help("for example `require_tcp_session = \"login.example.com\"`, or remove this field");
        protection.wrong("tcp_session", mode.span(), wrong);
    }
    let mode = mode.map_or(Mode::Enforce, Spanned::into_inner);
    app.map(|app| {
        let span = app.span();
        let app = app.into_inner();
        Spanned::new(span, TcpSession { mode, app })
    })
}

/// By default, empty datagrams are counted. Few protocols send any, but some keep a session alive
/// with them (RFC 6263), and a flood gains little by them: who knows the app says more.
fn datagrams(protection: &mut Table<'_>, is_udp: bool) -> Datagrams {
    let key = "datagrams";
    let (given, default) = enforced_if_given(protection, key);
    let mut table = protection.table(key);
    let mode = table.get_or("mode", default, scalar::mode);
    let min = table.get_or("min", 1, |value| value.integer(0..=Datagrams::LARGEST));
    let max = table.get_or("max", Datagrams::LARGEST, |value| {
        let max = value.integer(0..=Datagrams::LARGEST)?;
        if min <= max {
            return Ok(max);
        }
        Err(Wrong::new(
            format!("smaller than `min`, which is {min}"),
            "expected no less",
        )
        .help("raise it, or lower `min`"))
    });
    table.finish();
    if !is_udp {
        refuse_for_tcp(protection, key, given);
        return Datagrams::ANY;
    }
    Datagrams { mode, min, max }
}

/// By default, what exceeds the bound is counted: many an honest server answers a short question at
/// length.
fn amplification(protection: &mut Table<'_>, is_udp: bool) -> Amplification {
    let key = "amplification";
    let (given, default) = enforced_if_given(protection, key);
    let mut table = protection.table(key);
    let mode = table.get_or("mode", default, scalar::mode);
    let ratio = table.get_or("ratio", AMPLIFICATION, |value| value.integer(1..=1000));
    table.finish();
    if !is_udp {
        refuse_for_tcp(protection, key, given);
        return Amplification::ANY;
    }
    Amplification { mode, ratio }
}

/// Whether a table is given, and where; and so the mode of its rule where it says none.
fn enforced_if_given(
    protection: &mut Table<'_>,
    key: &'static str,
) -> (Option<Range<usize>>, Mode) {
    let given = protection.get(key, |value| Ok(value.span()));
    let default = if given.is_some() {
        Mode::Enforce
    } else {
        Mode::Monitor
    };
    (given.map(Spanned::into_inner), default)
}

fn refuse_for_tcp(protection: &Table<'_>, key: &str, span: Option<Range<usize>>) {
    if let Some(span) = span {
        let wrong = Wrong::new("TCP has no datagrams", "only for UDP apps")
            .help("remove it; TCP knows its clients by their handshake");
        protection.wrong(key, span, wrong);
    }
}
