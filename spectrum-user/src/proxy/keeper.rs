//! What is done about origins beside the data path, on a thread of its own, so that neither the
//! workers nor the daemon's main loop wait for it, nor it for those: their names are looked up, and
//! they are checked.
//!
//! What is found stands in the service and in the states of its origins, where the workers see it
//! at their next choice.

use std::{io, net::SocketAddr, sync::Arc, thread};

use tokio::{
    runtime::{Builder, Runtime},
    sync::{Notify, watch},
};

use super::{health::Checks, names::Names, service::Service};

/// The handle of the thread, which ends when this is dropped.
pub(super) struct Keeper {
    services: watch::Sender<Vec<Arc<Service>>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Keeper {
    /// Names are asked of these servers; if there are none, of those of the system.
    pub(super) fn start(dns_servers: Vec<SocketAddr>) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (services, watched) = watch::channel(Vec::new());
        let thread = thread::Builder::new()
            .name("origins".to_owned())
            .spawn(move || run(&runtime, watched, dns_servers))?;
        Ok(Self {
            services,
            thread: Some(thread),
        })
    }

    /// Looks after the origins of these apps from now on, as their settings say, and of no others.
    pub(super) fn follow(&self, services: Vec<Arc<Service>>) {
        self.services.send_replace(services);
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // The thread ends when no more services can come.
        self.services = watch::Sender::new(Vec::new());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the thread of origins has panicked, please report this");
        }
    }
}

fn run(
    runtime: &Runtime,
    mut services: watch::Receiver<Vec<Arc<Service>>>,
    dns_servers: Vec<SocketAddr>,
) {
    runtime.block_on(async {
        let resolved = Arc::new(Notify::new());
        let mut names = Names::new(dns_servers, Arc::clone(&resolved));
        let mut checks = Checks::default();
        loop {
            tokio::select! {
                changed = services.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    let services = services.borrow_and_update().clone();
                    names.follow(&services).await;
                }
                () = resolved.notified() => {}
            }
            let services = services.borrow().clone();
            checks.follow(&services).await;
        }
        names.end().await;
        checks.end().await;
    });
}
