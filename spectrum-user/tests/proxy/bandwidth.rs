//! How many bytes pass, and that nothing else changes by it.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use spectrum_user::{
    config::{Bandwidth, Ways},
    event::Kind,
};

use crate::stage::*;

/// What a pipe and a buffer may hold that has passed already.
const HELD: u64 = 1024 * 1024 + 64 * 1024;

/// Bytes that may have passed in `time` at this rate.
fn most(rate: u64, time: Duration) -> u64 {
    (rate as f64 * time.as_secs_f64()) as u64 + rate / 4
}

fn down(rate: u64) -> Ways {
    Ways {
        up: None,
        down: Some(rate),
    }
}

fn up(rate: u64) -> Ways {
    Ways {
        up: Some(rate),
        down: None,
    }
}

/// Sends until the other side has closed.
fn send_for_ever(mut stream: TcpStream) {
    let bytes = vec![7; 256 * 1024];
    while stream.write_all(&bytes).is_ok() {}
}

/// Takes all that comes, until the end.
fn count_all(mut stream: &TcpStream, counter: &AtomicU64) {
    let mut buffer = vec![0; 256 * 1024];
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        counter.fetch_add(read as u64, Ordering::Relaxed);
    }
}

/// Waits until so many more have arrived.
fn wait_for(counter: &AtomicU64, bytes: u64) {
    let before = counter.load(Ordering::Relaxed);
    let now = || counter.load(Ordering::Relaxed);
    eventually(now, |&now| now >= before + bytes);
}

/// A download that is limited, set free, and limited again, is one connection all the time.
#[test]
fn an_open_connection_takes_over_new_limits() {
    const RATE: u64 = 2_000_000;
    let origin = tcp_origin();
    let mut app = tcp_app(&[origin.local_addr().unwrap()]);
    app.limits.bandwidth.per_connection = down(RATE);
    let stage = Stage::new(&[app.clone()]);
    let began = Instant::now();
    let (client, server) = connect_through(edge(), &origin);
    let arrived = AtomicU64::new(0);
    thread::scope(|scope| {
        scope.spawn(|| count_all(&client, &arrived));
        scope.spawn(move || send_for_ever(server));
        wait_for(&arrived, RATE);
        let (passed, time) = (arrived.load(Ordering::Relaxed), began.elapsed());
        assert!(passed <= most(RATE, time), "{passed} bytes in {time:?}");
        assert!(time < Duration::from_secs(5), "{passed} bytes in {time:?}");

        app.limits.bandwidth = Bandwidth::default();
        stage.apply(&[app.clone()]).unwrap();
        let began = Instant::now();
        wait_for(&arrived, 10 * RATE);
        let time = began.elapsed();
        assert!(time < Duration::from_secs(5), "still slow: {time:?}");

        // By now in bulk.
        app.limits.bandwidth.per_source = down(RATE);
        stage.apply(&[app.clone()]).unwrap();
        let passed = || stage.snapshot("app").totals.egress_bytes;
        let (before, began) = (passed(), Instant::now());
        let enough = before + HELD + RATE;
        let passed = eventually(passed, |&passed| passed >= enough) - before;
        let time = began.elapsed();
        assert!(passed <= most(RATE, time) + HELD, "{passed} in {time:?}");
        client.shutdown(Shutdown::Both).unwrap();
    });
    stage.expect_event(Kind::Connect, 0);
}

/// Ten uploads at once get the same, and together no more than the app has.
#[test]
fn flows_share_what_the_app_has() {
    const RATE: u64 = 4_000_000;
    const FLOWS: usize = 10;
    let origin = tcp_origin();
    let mut app = tcp_app(&[origin.local_addr().unwrap()]);
    app.limits.bandwidth.app = up(RATE);
    let _stage = Stage::new(&[app]);
    let began = Instant::now();
    let flows: Vec<_> = (0..FLOWS)
        .map(|_| (connect_through(edge(), &origin), AtomicU64::new(0)))
        .collect();
    thread::scope(|scope| {
        for ((client, server), arrived) in &flows {
            scope.spawn(|| count_all(server, arrived));
            let client = client.try_clone().unwrap();
            scope.spawn(move || send_for_ever(client));
        }
        let counts = || -> Vec<u64> {
            let counts = flows.iter().map(|(_, arrived)| arrived);
            counts.map(|count| count.load(Ordering::Relaxed)).collect()
        };
        let counts = eventually(counts, |counts| counts.iter().sum::<u64>() >= 2 * RATE);
        let (passed, time) = (counts.iter().sum::<u64>(), began.elapsed());
        assert!(passed <= most(RATE, time), "{passed} bytes in {time:?}");
        assert!(time < Duration::from_secs(8), "{passed} bytes in {time:?}");
        let fair = passed / FLOWS as u64;
        assert!(counts.iter().all(|&one| one >= fair / 4), "{counts:?}");
        for ((client, _), _) in &flows {
            client.shutdown(Shutdown::Both).unwrap();
        }
    });
}

/// What is slow by order of the operator arrives, whole, and its end as well.
#[test]
fn who_waits_for_bandwidth_is_not_idle_and_loses_nothing() {
    let origin = tcp_origin();
    let mut app = tcp_app(&[origin.local_addr().unwrap()]);
    app.timeouts.idle = Duration::from_secs(1);
    // Beyond the first 64 KiB, a kibibyte comes each second and a little more.
    app.limits.bandwidth.per_connection = up(1_000);
    let stage = Stage::new(&[app]);
    let (mut client, mut server) = connect_through(edge(), &origin);
    let sent = Random::new(1).bytes(64 * 1024 + 3 * 1024);
    client.write_all(&sent).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut arrived = Vec::new();
    server.read_to_end(&mut arrived).unwrap();
    assert!(arrived == sent, "{} bytes arrived", arrived.len());
    drop((client, server));
    stage.expect_event(Kind::Connect, 0);
    stage.expect_event(Kind::Disconnect, 200);
}

/// A client that is reset while it waits is noticed at once.
#[test]
fn a_reset_is_seen_while_there_is_no_bandwidth() {
    let origin = tcp_origin();
    let mut app = tcp_app(&[origin.local_addr().unwrap()]);
    app.limits.bandwidth.app = up(1_000);
    let stage = Stage::new(&[app]);
    let (mut client, server) = connect_through(edge(), &origin);
    client.write_all(&[7; 200_000]).unwrap();
    let began = Instant::now();
    eventually(
        || stage.snapshot("app").totals.ingress_bytes,
        |&bytes| bytes >= 64 * 1024,
    );
    reset(client);
    stage.wait_for_active("app", 0);
    // What is left would take two minutes.
    assert!(began.elapsed() < Duration::from_secs(10));
    drop(server);
}

#[test]
fn datagrams_beyond_the_bandwidth_are_dropped_and_counted() {
    const SIZE: usize = 1000;
    const COUNT: u64 = 200;
    let origin = udp_origin();
    let mut app = udp_app(&[origin.local_addr().unwrap()]);
    app.timeouts.idle = Duration::from_secs(1);
    app.limits.bandwidth.per_source = Ways {
        up: Some(1_000),
        down: Some(1_000),
    };
    let stage = Stage::new(&[app]);
    let client = udp_client(edge());
    let began = Instant::now();
    let totals = || stage.snapshot("app").totals;
    for sent in 1..=COUNT {
        client.send(&[7; SIZE]).unwrap();
        // The kernel keeps but a few.
        if sent % 20 == 0 {
            let bytes = sent * SIZE as u64;
            eventually(totals, |totals| totals.ingress_bytes == bytes);
        }
    }
    let totals = totals();
    let most = || 65 + began.elapsed().as_secs() + 1;
    let passed = COUNT - totals.bandwidth_dropped;
    assert!((65..=most()).contains(&passed), "{totals:?}");
    let (_, session) = receive_from(&origin);
    for _ in 1..passed {
        assert_eq!(receive(&origin).len(), SIZE);
    }

    let dropped = totals.bandwidth_dropped;
    for sent in 1..=COUNT {
        origin.send_to(&[7; SIZE], session).unwrap();
        if sent % 20 == 0 {
            let seen = || {
                let totals = stage.snapshot("app").totals;
                totals.egress_bytes / SIZE as u64 + totals.bandwidth_dropped - dropped
            };
            eventually(seen, |&seen| seen == sent);
        }
    }
    let totals = stage.snapshot("app").totals;
    let passed = totals.egress_bytes / SIZE as u64;
    assert!((65..=most()).contains(&passed), "{totals:?}");
}
