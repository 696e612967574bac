//! The part of a session that goes past the proxy.

use std::net::SocketAddr;

use super::Session;
use crate::{
    config::Mode,
    event::Status,
    proxy::shortcut::{Carried, Route},
};

impl Session {
    /// Lets the datagrams go past the proxy, once it has no more to say to them: who is there is known,
    /// and what it may be sent is not bounded any more.
    pub(super) fn carry(&self) {
        let app = self.account.app();
        let is_known = self.exchange.is_proof()
            || (self.exchange.is_two_way() && app.protection.amplification.mode == Mode::Off);
        let now = self.idle.last();
        if self.account.bandwidth().is_bounded() {
            return;
        }
        if !is_known || !app.may_be_carried() || !self.carriage.is_due(now) {
            return;
        }
        if let (Some(shortcut), Ok(outside)) = (self.account.shortcut(), self.socket.local_addr()) {
            let route = Route {
                client: self.key.client,
                edge: SocketAddr::new(self.key.edge, self.edge.address.port()),
                outside,
                origin: self.address,
            };
            self.carriage.open(shortcut, &route, now);
        }
    }

    /// Keeps the books of what goes past the proxy, until the session ends.
    pub(super) async fn book_all(&self) {
        loop {
            self.carriage.ripe().await;
            let news = if self.account.bandwidth().is_bounded() {
                // By a reload: only the proxy counts bytes before they pass.
                self.carriage.close()
            } else {
                self.carriage.news()
            };
            let Some(news) = news else {
                continue;
            };
            self.book(news);
            let [inward, _] = news;
            let is_used = inward.datagrams > 0;
            if is_used
                && self.origin.is_down()
                && self.account.serving.origins.has_better(&self.origin)
            {
                return self.end(Status::ORIGIN_TIMED_OUT);
            }
        }
    }

    /// As if these had come to the proxy.
    pub(super) fn book(&self, [inward, outward]: [Carried; 2]) {
        let bytes = |carried: Carried| usize::try_from(carried.bytes).unwrap_or(usize::MAX);
        self.account.ingress(bytes(inward));
        self.account.egress(bytes(outward));
        self.idle.touch_at(inward.last.max(outward.last).into());
        if outward.datagrams > 0 {
            self.refused.set(false);
            self.origin.reached(None);
            self.exchange.answer();
        }
        if inward.datagrams > 0 && self.exchange.hear(self.idle.last()) {
            self.account.prove();
        }
    }

    /// Returns once nothing has come for a while, by any way.
    pub(super) async fn expired(&self) {
        loop {
            self.idle.expired().await;
            match self.carriage.news() {
                Some(news) => self.book(news),
                None => return,
            }
        }
    }
}
