//! What of a session goes past the proxy, and how much of that its books have.

use std::{
    cell::{Cell, RefCell},
    time::Duration,
};

use tokio::{sync::Notify, time::sleep};

use crate::proxy::{
    clock::Moment,
    shortcut::{Carried, Passage, Route, Shortcut},
};

/// How often the books are brought up to date.
const BOOKED_EVERY: Duration = Duration::from_secs(1);

/// After there was no room.
const RETRY_AFTER: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct Carriage {
    passage: RefCell<Option<Box<dyn Passage>>>,
    booked: Cell<[Carried; 2]>,
    tried: Cell<Option<Moment>>,
    opened: Notify,
}

impl Carriage {
    /// Whether it is worth trying now.
    pub(super) fn is_due(&self, now: Moment) -> bool {
        let tried = self.tried.get();
        self.passage.borrow().is_none() && tried.is_none_or(|tried| now.since(tried) >= RETRY_AFTER)
    }

    pub(super) fn open(&self, shortcut: &dyn Shortcut, route: &Route, now: Moment) {
        self.tried.set(Some(now));
        let passage = shortcut.open(route);
        if passage.is_some() {
            self.booked.set([Carried::default(); 2]);
            self.opened.notify_one();
        }
        *self.passage.borrow_mut() = passage;
    }

    /// What was carried since this was last asked; `None` if nothing.
    pub(super) fn news(&self) -> Option<[Carried; 2]> {
        let carried = self.passage.borrow().as_ref()?.carried();
        self.book(carried)
    }

    /// Carries nothing more, and says what was since this was last asked.
    pub(super) fn close(&self) -> Option<[Carried; 2]> {
        let passage = self.passage.take()?;
        self.book(passage.close())
    }

    fn book(&self, carried: [Carried; 2]) -> Option<[Carried; 2]> {
        let [booked_in, booked_out] = self.booked.replace(carried);
        let [inward, outward] = carried;
        let news = [inward.since(booked_in), outward.since(booked_out)];
        news.iter().any(|news| news.datagrams > 0).then_some(news)
    }

    /// Returns when there may be news.
    pub(super) async fn ripe(&self) {
        while self.passage.borrow().is_none() {
            self.opened.notified().await;
        }
        sleep(BOOKED_EVERY).await;
    }
}

impl Carried {
    fn since(self, earlier: Self) -> Self {
        Self {
            datagrams: self.datagrams.saturating_sub(earlier.datagrams),
            bytes: self.bytes.saturating_sub(earlier.bytes),
            last: self.last,
        }
    }
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use std::rc::Rc;

    use super::*;

    /// Carries as much as it is told.
    #[derive(Debug)]
    struct Told(std::sync::Arc<std::sync::Mutex<[Carried; 2]>>);

    impl Passage for Told {
        fn carried(&self) -> [Carried; 2] {
            *self.0.lock().expect("whole")
        }

        fn close(self: Box<Self>) -> [Carried; 2] {
            self.carried()
        }
    }

    #[derive(Debug, Default)]
    struct Teller {
        carried: std::sync::Arc<std::sync::Mutex<[Carried; 2]>>,
        is_full: bool,
    }

    impl Shortcut for Teller {
        fn open(&self, _: &Route) -> Option<Box<dyn Passage>> {
            let passage = Told(std::sync::Arc::clone(&self.carried));
            (!self.is_full).then(|| Box::new(passage) as Box<dyn Passage>)
        }
    }

    fn carried(datagrams: u64) -> Carried {
        Carried {
            datagrams,
            bytes: datagrams * 100,
            last: Duration::from_secs(datagrams),
        }
    }

    fn route() -> Route {
        let at = std::net::SocketAddr::from(([192, 0, 2, 1], 1));
        Route {
            client: at,
            edge: at,
            outside: at,
            origin: at,
        }
    }

    fn at(seconds: u64) -> Moment {
        Moment::from(Duration::from_secs(1000 + seconds))
    }

    #[test]
    fn what_is_carried_is_booked_once() {
        let teller = Teller::default();
        let carriage = Carriage::default();
        assert!(carriage.is_due(at(0)));
        carriage.open(&teller, &route(), at(0));
        assert!(!carriage.is_due(at(100)), "it is open");
        assert_eq!(carriage.news(), None);
        *teller.carried.lock().expect("whole") = [carried(3), carried(1)];
        let news = carriage.news().expect("news");
        assert_eq!(news, [carried(3), carried(1)]);
        assert_eq!(carriage.news(), None);
        *teller.carried.lock().expect("whole") = [carried(5), carried(1)];
        let [inward, outward] = carriage.close().expect("news");
        assert_eq!((inward.datagrams, inward.bytes), (2, 200));
        assert_eq!((outward.datagrams, outward.bytes), (0, 0));
        assert_eq!(carriage.close(), None);
    }

    #[test]
    fn what_had_no_room_is_tried_again_later() {
        let full = Teller {
            is_full: true,
            ..Teller::default()
        };
        let carriage = Rc::new(Carriage::default());
        carriage.open(&full, &route(), at(0));
        assert!(!carriage.is_due(at(9)));
        assert!(carriage.is_due(at(10)));
        assert_eq!(carriage.close(), None);
    }
}
