//! What one way of one connection passes through.

use std::{
    future::Future as _,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep};

use super::{
    Bandwidth, Pair,
    bucket::{Bucket, Wait},
};
use crate::{
    config::Ways,
    proxy::{clock::nanoseconds, line::Waiter},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Way {
    /// To the origin.
    Up,
    /// To the client.
    Down,
}

impl Way {
    fn of(self, ways: Ways) -> Option<u64> {
        match self {
            Self::Up => ways.up,
            Self::Down => ways.down,
        }
    }
}

/// Small, and nearly free to pass, while there is no limit.
#[derive(Debug)]
pub(in crate::proxy) struct Gate {
    way: Way,
    /// Of the limits that it knows.
    version: u32,
    throttle: Option<Box<Throttle>>,
}

impl Gate {
    pub(in crate::proxy) fn new(way: Way) -> Self {
        Self {
            way,
            version: 0,
            throttle: None,
        }
    }

    /// Learns of limits that are new; whether there are any for this connection.
    pub(in crate::proxy) fn is_limited(
        &mut self,
        bandwidth: &Arc<Bandwidth>,
        source: IpAddr,
    ) -> bool {
        if self.version != bandwidth.version() {
            self.renew(bandwidth, source);
        }
        self.throttle.is_some()
    }

    /// How many bytes may be read now, of up to `most`; at least 1. What is not read is to be
    /// [given back](Self::settle).
    pub(in crate::proxy) fn poll_grant(
        &mut self,
        cx: &mut Context<'_>,
        most: usize,
    ) -> Poll<usize> {
        match &mut self.throttle {
            None => Poll::Ready(most),
            Some(throttle) => throttle.poll_grant(cx, most),
        }
    }

    /// Of the bytes that were granted, so many were read.
    pub(in crate::proxy) fn settle(&self, granted: usize, read: usize) {
        if let Some(throttle) = &self.throttle {
            throttle.give_back(granted.saturating_sub(read) as u64);
        }
    }

    /// How many of so many bytes in parts of `size` pass now; whole parts.
    pub(in crate::proxy) fn grant_now(&self, bytes: usize, size: usize) -> usize {
        match &self.throttle {
            None => bytes,
            Some(throttle) => throttle.grant_now(bytes, size),
        }
    }

    /// Whether somebody would read if there were tokens.
    pub(in crate::proxy) fn is_waiting(&self) -> bool {
        let throttle = self.throttle.as_ref();
        throttle.is_some_and(|throttle| throttle.in_line_of.is_some())
    }

    #[cold]
    fn renew(&mut self, bandwidth: &Arc<Bandwidth>, source: IpAddr) {
        // In this order: should they change in between, it looks again.
        self.version = bandwidth.version();
        let limits = *bandwidth.limits();
        if limits.is_unlimited() {
            self.throttle = None;
            return;
        }
        let own = self.way.of(limits.per_connection);
        let of_source = limits.per_source;
        let source = (of_source != Ways::NONE).then(|| bandwidth.of_source(source, of_source));
        match &mut self.throttle {
            None => {
                let throttle = Throttle::new(self.way, own, source, Arc::clone(bandwidth));
                self.throttle = Some(Box::new(throttle));
            }
            Some(throttle) => throttle.renew(own, source),
        }
    }
}

/// Takes tokens from its own bucket, that of its source and that of the app, or waits in the line of
/// the first that has none.
#[derive(Debug)]
struct Throttle {
    way: Way,
    own: Bucket,
    source: Option<Arc<Pair>>,
    app: Arc<Bandwidth>,
    waiter: Arc<Waiter>,
    in_line_of: Option<Level>,
    /// Armed while it is the first of its line.
    timer: Option<Pin<Box<Sleep>>>,
}

/// Whose bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Own,
    Source,
    App,
}

impl Throttle {
    fn new(way: Way, own: Option<u64>, source: Option<Arc<Pair>>, app: Arc<Bandwidth>) -> Self {
        Self {
            way,
            own: Bucket::new(own, nanoseconds()),
            source,
            app,
            waiter: Waiter::new(),
            in_line_of: None,
            timer: None,
        }
    }

    fn renew(&mut self, own: Option<u64>, source: Option<Arc<Pair>>) {
        self.own.set_rate(own, nanoseconds());
        self.leave_line();
        self.source = source;
    }

    fn poll_grant(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<usize> {
        self.waiter.listen(cx.waker());
        loop {
            if let Some(level) = self.in_line_of
                && !self
                    .bucket(level)
                    .is_some_and(|bucket| bucket.is_first(&self.waiter))
            {
                return Poll::Pending;
            }
            match self.take(most as u64) {
                // It is no more than `most`.
                Ok(granted) => return Poll::Ready(usize::try_from(granted).unwrap_or(most)),
                Err(Wait::Turn) => return Poll::Pending,
                Err(Wait::For(time)) => ready!(self.poll_timer(cx, time)),
            }
        }
    }

    /// From all buckets as much, or from none.
    fn take(&mut self, most: u64) -> Result<u64, Wait> {
        let now = nanoseconds();
        let mut granted = most;
        for level in Level::ALL {
            let is_in_line = self.in_line_of == Some(level);
            let Some(bucket) = self.bucket(level) else {
                continue;
            };
            match bucket.take(granted, now, &self.waiter, is_in_line) {
                Ok(less) => {
                    self.give_back_before(level, granted - less);
                    granted = less;
                    if is_in_line {
                        self.in_line_of = None;
                    }
                }
                Err(wait) => {
                    self.give_back_before(level, granted);
                    if !is_in_line {
                        // Nobody shall wait behind who waits for something else.
                        self.leave_line();
                        self.in_line_of = Some(level);
                    }
                    return Err(wait);
                }
            }
        }
        Ok(granted)
    }

    fn grant_now(&self, bytes: usize, size: usize) -> usize {
        let now = nanoseconds();
        let mut taken = [0; Level::ALL.len()];
        let mut granted = bytes as u64;
        for (taken, level) in taken.iter_mut().zip(Level::ALL) {
            if let Some(bucket) = self.bucket(level) {
                granted = bucket.take_now(granted, now);
                *taken = granted;
            }
        }
        // It is no more than `bytes`.
        let granted = usize::try_from(granted).unwrap_or(bytes);
        let whole = if granted == bytes {
            bytes
        } else {
            granted - granted % size.max(1)
        };
        for (taken, level) in taken.into_iter().zip(Level::ALL) {
            if let Some(bucket) = self.bucket(level) {
                bucket.give_back(taken - whole as u64);
            }
        }
        whole
    }

    fn give_back(&self, bytes: u64) {
        for level in Level::ALL {
            if let Some(bucket) = self.bucket(level) {
                bucket.give_back(bytes);
            }
        }
    }

    fn give_back_before(&self, level: Level, bytes: u64) {
        for earlier in Level::ALL.into_iter().take_while(|other| *other != level) {
            if let Some(bucket) = self.bucket(earlier) {
                bucket.give_back(bytes);
            }
        }
    }

    /// `None` where there is no limit.
    fn bucket(&self, level: Level) -> Option<&Bucket> {
        match level {
            Level::Own => Some(&self.own),
            Level::Source => Some(self.source.as_ref()?.bucket(self.way)),
            Level::App => Some(self.app.app.bucket(self.way)),
        }
    }

    fn leave_line(&mut self) {
        if let Some(level) = self.in_line_of.take()
            && let Some(bucket) = self.bucket(level)
        {
            bucket.leave(&self.waiter);
        }
    }

    /// Ready after `time`.
    fn poll_timer(&mut self, cx: &mut Context<'_>, time: Duration) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(time)));
        timer.as_mut().reset(Instant::now() + time);
        timer.as_mut().poll(cx)
    }
}

impl Drop for Throttle {
    fn drop(&mut self) {
        self.leave_line();
    }
}

impl Level {
    const ALL: [Self; 3] = [Self::Own, Self::Source, Self::App];
}

#[cfg(test)]
mod tests;
