use std::{fs, io::Write as _, os::unix::net::UnixStream};

use spectrum_common::address::Address;
use spectrum_ebpf::{parse::Packet as Facts, verdict::Verdict};

use super::*;
use crate::{
    config,
    control::{Request, Socket},
};

const APP: AppId = AppId([7; 16]);
const EVERYTHING: Wanted = Wanted {
    end: None,
    reason: None,
    app: None,
    source: None,
    since: Duration::ZERO,
};

fn seen(outcome: Outcome, app: Option<AppId>, source: &str) -> Seen {
    let source: IpAddr = source.parse().expect("an address");
    let packet = Facts {
        source: Address::from(source),
        kind: Kind::Addressed,
        ..Facts::default()
    };
    let verdict = Verdict { slot: 0, outcome };
    Seen {
        interface: 0,
        app,
        is_proven: false,
        sample: Sample::of(verdict, packet, Duration::from_secs(5)),
    }
}

#[test]
fn a_capture_holds_what_was_asked_for() {
    let all = [
        seen(Outcome::Passed, Some(APP), "192.0.2.7"),
        seen(Outcome::Monitored(Reason::Blocked), Some(APP), "192.0.2.8"),
        seen(Outcome::Dropped(Reason::Fragment), None, "2001:db8::7"),
        seen(Outcome::Answered, Some(APP), "198.51.100.1"),
    ];
    let prefix = |text: &str| Some(text.parse().expect("a prefix"));
    let later = Duration::from_secs(6);
    #[rustfmt::skip]
    let table = [
        (EVERYTHING, [true, true, true, true]),
        (Wanted { end: Some(End::Passed), ..EVERYTHING }, [true, true, false, false]),
        (Wanted { end: Some(End::Dropped), ..EVERYTHING }, [false, false, true, false]),
        (Wanted { reason: Some(Reason::Blocked), ..EVERYTHING }, [false, true, false, false]),
        (Wanted { reason: Some(Reason::Fragment), ..EVERYTHING }, [false, false, true, false]),
        (Wanted { app: Some(APP), ..EVERYTHING }, [true, true, false, true]),
        (Wanted { source: prefix("192.0.2.8/31"), ..EVERYTHING }, [false, true, false, false]),
        (Wanted { source: prefix("2001:db8::/32"), ..EVERYTHING }, [false, false, true, false]),
        (Wanted { since: later, ..EVERYTHING }, [false, false, false, false]),
    ];
    for (wanted, expected) in table {
        assert_eq!(all.each_ref().map(|seen| wanted.includes(seen)), expected);
    }
}

/// What the operator reads beside each packet.
#[test]
fn a_comment_says_what_became_of_a_packet() {
    for (outcome, app, weight, expected) in [
        (
            Outcome::Dropped(Reason::Blocked),
            Some("mc.example.com"),
            37,
            "dropped: blocked, app mc.example.com, stands for 37 packets",
        ),
        (
            Outcome::Monitored(Reason::Ceiling),
            Some("ssh"),
            1,
            "passed, monitored: ceiling, app ssh, stands for 1 packet",
        ),
        (
            Outcome::Passed,
            None,
            2,
            "passed, no app, stands for 2 packets",
        ),
        (
            Outcome::Answered,
            Some("ssh"),
            2,
            "answered with a SYN cookie, app ssh, stands for 2 packets",
        ),
    ] {
        let mut sample = seen(outcome, None, "192.0.2.7").sample;
        sample.weight = weight;
        assert_eq!(comment(&sample, app), expected);
    }
}

/// Each would hold a queue of megabytes for as long as the daemon runs.
#[tokio::test]
async fn a_client_that_does_not_read_the_end_of_its_capture_is_let_go() {
    let dir = tempfile::tempdir().expect("a directory");
    let document = dir.path().join("spectrum.toml");
    fs::create_dir(dir.path().join("apps.d")).expect("a directory");
    fs::write(&document, "interfaces = [\"lo\"]").expect("a file");
    let config = config::load(&document).expect("a configuration");
    let path = dir.path().join("control.sock");
    let socket = Socket::bind(&path).expect("a socket");

    let mut captures = Captures::default();
    let mut clients = Vec::new();
    for _ in 0..MOST {
        let request = Request::Capture {
            filter: Filter::default(),
        };
        let request = serde_json::to_string(&request).expect("a request");
        let mut client = UnixStream::connect(&path).expect("a daemon");
        client
            .write_all(format!("{request}\n").as_bytes())
            .expect("a daemon");
        clients.push(client);
        let (_, reply) = socket.accept().await;
        captures.start(&Filter::default(), &config, vec!["lo".to_owned()], reply);
    }
    // More than a socket holds.
    let later = clock::since_boot() + Duration::from_secs(1);
    let samples = (0..QUEUE).map(|_| {
        let mut wanted = seen(Outcome::Passed, None, "192.0.2.7");
        wanted.sample.time = later;
        wanted
    });
    captures.offer(&samples.collect::<Vec<_>>());
    captures.end("its configuration has changed");

    let refused = |captures: &Captures| captures.admit(&Filter::default(), &config).is_err();
    captures.tidy(Instant::now());
    assert!(refused(&captures));
    captures.tidy(Instant::now() + PATIENCE);
    while captures.tasks.join_next().await.is_some() {}
    captures.tidy(Instant::now());
    assert!(!refused(&captures));
}
