#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{cell::RefCell, rc::Rc};

use tokio::{
    runtime::Builder,
    task::{JoinHandle, LocalSet, spawn_local, yield_now},
};

use super::*;

/// An origin with places, and who has got one, in this order.
#[derive(Default)]
struct Scene {
    queue: Queue,
    places: RefCell<u32>,
    served: RefCell<Vec<u32>>,
}

impl Scene {
    async fn wait(self: Rc<Self>, name: u32) {
        let ticket = self.queue.join(100).unwrap();
        let take = || {
            let left = self.places.borrow().checked_sub(1)?;
            self.places.replace(left);
            Some(())
        };
        ticket.wait(take).await;
        self.served.borrow_mut().push(name);
    }

    async fn come(self: &Rc<Self>, names: std::ops::Range<u32>) -> Vec<JoinHandle<()>> {
        let tasks = names.map(|name| spawn_local(Rc::clone(self).wait(name)));
        let tasks = tasks.collect();
        settle().await;
        tasks
    }

    async fn free(&self, places: u32) -> Vec<u32> {
        *self.places.borrow_mut() += places;
        // However many there are, it says so once.
        self.queue.wake();
        settle().await;
        self.served.take()
    }
}

/// Lets all tasks run that can.
async fn settle() {
    for _ in 0..100 {
        yield_now().await;
    }
}

fn play(scene: impl AsyncFnOnce(Rc<Scene>)) {
    let runtime = Builder::new_current_thread().build().unwrap();
    LocalSet::new().block_on(&runtime, scene(Rc::default()));
}

/// Who waits longest is served first, and nobody waits while there is a place.
#[test]
fn places_go_to_who_came_first() {
    play(async |scene| {
        let _tasks = scene.come(0..5).await;
        assert_eq!(scene.free(0).await, [0_u32; 0]);
        assert_eq!(scene.free(1).await, [0]);
        let _more = scene.come(5..7).await;
        assert_eq!(scene.free(3).await, [1, 2, 3]);
        assert_eq!(scene.free(10).await, [4, 5, 6]);
        assert_eq!(scene.queue.len(), 0);
        assert_eq!(*scene.places.borrow(), 7);
    });
}

/// Else a client that hangs up takes the place of all behind it.
#[test]
fn who_leaves_holds_up_nobody() {
    play(async |scene| {
        let tasks = scene.come(0..5).await;
        for gone in [0, 1, 3] {
            tasks.get(gone).unwrap().abort();
        }
        assert_eq!(scene.free(1).await, [2]);
        assert_eq!(scene.free(1).await, [4]);
        // The first may go in the moment in which it is woken.
        let tasks = scene.come(5..7).await;
        *scene.places.borrow_mut() = 1;
        scene.queue.wake();
        tasks.first().unwrap().abort();
        settle().await;
        assert_eq!(scene.served.take(), [6]);
    });
}

#[test]
fn a_queue_is_as_long_as_it_may_be() {
    let queue = Queue::default();
    let tickets: Vec<_> = (0..3).map(|_| queue.join(3).unwrap()).collect();
    assert!(queue.join(3).is_none());
    drop(tickets);
    assert!(queue.join(1).is_some());
}
