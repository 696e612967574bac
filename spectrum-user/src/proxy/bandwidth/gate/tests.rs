#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{cell::Cell, future::poll_fn, rc::Rc, time::Instant};

use tokio::{
    runtime::Builder,
    task::LocalSet,
    time::{sleep, timeout},
};

use super::*;
use crate::config;

fn down(rate: u64) -> Ways {
    Ways {
        up: None,
        down: Some(rate),
    }
}

fn source(number: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, number])
}

/// Reads for ever, and counts.
async fn read(bandwidth: Arc<Bandwidth>, source: IpAddr, bytes: Rc<Cell<u64>>) {
    let mut gate = Gate::new(Way::Down);
    loop {
        let granted = poll_fn(|cx| {
            gate.is_limited(&bandwidth, source);
            gate.poll_grant(cx, 64 * 1024)
        });
        let granted = granted.await;
        // A socket has not always as much.
        let read = granted - granted / 4;
        gate.settle(granted, read);
        bytes.set(bytes.get() + read as u64);
        tokio::task::yield_now().await;
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, test);
}

/// Ten connections of one source and two of another share what the app has; each source has its bound
/// as well, and each connection. Nobody gets more than any bound, and nobody gets nothing.
#[test]
fn bounds_within_bounds_hold_and_nobody_starves() {
    const APP: u64 = 4_000_000;
    const SOURCE: u64 = 3_000_000;
    const CONNECTION: u64 = 1_000_000;
    run(async {
        let bandwidth = Arc::new(Bandwidth::new(config::Bandwidth {
            per_connection: down(CONNECTION),
            per_source: down(SOURCE),
            app: down(APP),
        }));
        let began = Instant::now();
        let sources = (0..12).map(|index| source(u8::from(index >= 10)));
        let read = sources.map(|source| {
            let bytes = Rc::new(Cell::new(0));
            let reader = read(Arc::clone(&bandwidth), source, Rc::clone(&bytes));
            (tokio::task::spawn_local(reader), bytes)
        });
        let read: Vec<_> = read.collect();
        sleep(Duration::from_millis(1500)).await;
        let read: Vec<u64> = read
            .into_iter()
            .map(|(reader, bytes)| {
                reader.abort();
                bytes.get()
            })
            .collect();
        let seconds = began.elapsed().as_secs_f64();
        let most = |rate: u64| rate as f64 * (seconds + 0.25);
        let (first, second) = read.split_at(10);
        let sum = |part: &[u64]| part.iter().sum::<u64>() as f64;
        for (part, rate) in [(first, SOURCE), (second, SOURCE), (&read[..], APP)] {
            assert!(sum(part) <= most(rate), "{read:?} in {seconds} s");
        }
        assert!(read.iter().all(|&one| one as f64 <= most(CONNECTION)));
        assert!(sum(&read) >= most(APP) / 2.0, "{read:?}");
        let (least, most) = (first.iter().min().unwrap(), first.iter().max().unwrap());
        assert!(least * 4 >= *most, "{read:?}");
        assert!(second.iter().all(|second| second >= least), "{read:?}");
    });
}

/// Else who once waits behind a narrow limit waits on when the operator widens it.
#[test]
fn who_waits_is_let_through_when_the_limit_is_lifted() {
    run(async {
        let narrow = config::Bandwidth {
            app: down(1_000),
            ..config::Bandwidth::default()
        };
        let bandwidth = Arc::new(Bandwidth::new(narrow));
        let waiting: Vec<_> = (0..50)
            .map(|_| {
                let bytes = Rc::new(Cell::new(0));
                let reader = read(Arc::clone(&bandwidth), source(1), Rc::clone(&bytes));
                (tokio::task::spawn_local(reader), bytes)
            })
            .collect();
        sleep(Duration::from_millis(50)).await;
        // One after another at this rate: 50 seconds.
        bandwidth.set(config::Bandwidth::default());
        let all = async {
            while !waiting.iter().all(|(_, bytes)| bytes.get() > 1_000_000) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(10), all).await.unwrap();
        waiting.iter().for_each(|(reader, _)| reader.abort());
    });
}

/// Else a connection that ends while it is the first in the line stops all others.
#[test]
fn who_ends_while_it_waits_holds_up_nobody() {
    run(async {
        let limits = config::Bandwidth {
            app: down(100_000),
            ..config::Bandwidth::default()
        };
        let bandwidth = Arc::new(Bandwidth::new(limits));
        let start = || {
            let bytes = Rc::new(Cell::new(0));
            let reader = read(Arc::clone(&bandwidth), source(1), Rc::clone(&bytes));
            (tokio::task::spawn_local(reader), bytes)
        };
        let early: Vec<_> = (0..20).map(|_| start()).collect();
        let (late, bytes) = start();
        sleep(Duration::from_millis(100)).await;
        early.iter().for_each(|(reader, _)| reader.abort());
        let before = bytes.get();
        let goes_on = async {
            while bytes.get() < before + 20_000 {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(10), goes_on).await.unwrap();
        late.abort();
    });
}
