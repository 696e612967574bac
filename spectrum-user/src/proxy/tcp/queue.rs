//! Waiting for a place at an origin.

use std::{io, os::fd::AsFd as _, time::Duration};

use tokio::{
    io::Interest,
    net::TcpStream,
    time::{MissedTickBehavior, interval, sleep},
};

use super::Unreached;
use crate::proxy::{
    account::Account,
    limits::Limit,
    origins::{Attempts, Held, Origins},
};

/// How often who is first looks by itself: an origin that was passed over may be tried again after
/// a while, of which nobody tells.
const LOOK: Duration = Duration::from_secs(1);

/// Waits in the queue of the app, as long as it says.
pub(super) async fn wait(
    origins: &Origins,
    attempts: &mut Attempts<'_>,
    account: &Account,
    client: &TcpStream,
) -> Result<Held, Unreached> {
    let Some(settings) = account.app().limits.queue else {
        return Err(Unreached::Limit(Limit::Origins));
    };
    let Some(ticket) = origins.queue(settings.length) else {
        return Err(Unreached::Limit(Limit::Queue));
    };
    account.queued();
    attempts.start_again();
    let turn = async {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                held = ticket.wait(|| attempts.next()) => return held,
                _ = look.tick() => {}
            }
        }
    };
    tokio::select! {
        biased;
        held = turn => Ok(held),
        () = hung_up(client) => Err(Unreached::Gone),
        () = sleep(settings.timeout) => Err(Unreached::Limit(Limit::QueueTimeout)),
    }
}

/// Returns when the client has closed its side, whatever it has sent before.
async fn hung_up(client: &TcpStream) {
    let closed = async {
        // Under a number of its own, so that what is done about readiness here does not concern
        // the relay, which has yet to read what has come.
        let watched = std::net::TcpStream::from(client.as_fd().try_clone_to_owned()?);
        let watched = TcpStream::from_std(watched)?;
        while !watched.ready(Interest::READABLE).await?.is_read_closed() {
            // Until something else happens.
            let _ = watched.try_io(Interest::READABLE, || {
                Err::<(), _>(io::ErrorKind::WouldBlock.into())
            });
        }
        io::Result::Ok(())
    };
    if closed.await.is_err() {
        // Without file descriptors to spare, it waits until its time is over.
        std::future::pending::<()>().await;
    }
}
