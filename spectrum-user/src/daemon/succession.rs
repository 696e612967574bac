//! How one daemon takes the place of another, without a client noticing: `spectrum run --upgrade`.
//!
//! The successor asks at the control socket. The daemon that runs stops writing to the maps, and hands
//! over its listening sockets, on which it goes on to accept. Once the successor serves, too, and has
//! the filters, it says so: now the other lets no more clients in, hands over its UDP sessions, and
//! stays until its TCP connections have ended. If the successor fails before, nothing has happened.

mod wire;

use std::{
    io::{self, Read as _},
    net::IpAddr,
    os::unix::net::UnixStream,
    path::Path,
    process::{Command, ExitStatus},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use sd_notify::NotifyState;
use tokio::{sync::oneshot, task::spawn_blocking};

use super::{Daemon, Options, work::Cause};
use crate::{
    config::AppId,
    control::{self, Reply, Request},
    proxy::{Left, ListenerNote, Proxy, SessionNote},
};
use wire::Message;

/// Takes the place of the daemon before, with its UDP sessions.
pub(super) async fn succeed(predecessor: Predecessor, proxy: &Proxy) -> Result<Remaining> {
    let Estate {
        sessions,
        remaining,
    } = predecessor.succeed()?;
    let count = sessions.len();
    let homeless = proxy.adopt(sessions).await?;
    let adopted = count - homeless;
    log::info!("took over from the daemon before, with {adopted} of {count} UDP sessions");
    Ok(remaining)
}

/// How long the successor may take until it serves: it reads documents, lists and databases, and builds
/// tables of them.
const PATIENCE: Duration = Duration::from_mins(2);

/// The daemon whose place this one takes, until it does.
pub(super) struct Predecessor {
    stream: UnixStream,
    /// Its sockets are for as many.
    pub(super) workers: usize,
    pub(super) listeners: Vec<Left<ListenerNote>>,
}

/// What the predecessor had beside its listeners.
struct Estate {
    sessions: Vec<Left<SessionNote>>,
    remaining: Remaining,
}

/// The predecessor, while it waits for its TCP connections to end.
pub(super) struct Remaining {
    /// Ends with it.
    stream: UnixStream,
    connected: Vec<(AppId, IpAddr)>,
}

impl Predecessor {
    /// Asks the daemon that listens at `path`; `None` if there is none. Blocks.
    pub(super) fn meet(path: &Path) -> Result<Option<Self>> {
        let Some(stream) = control::begin(path, Request::Succeed)? else {
            return Ok(None);
        };
        stream.set_read_timeout(Some(PATIENCE))?;
        let (mut workers, mut listeners) = (None, Vec::new());
        loop {
            match wire::receive(&stream).context(
                "the daemon that runs does not hand over its sockets: it may be of a version that \
                 cannot; stop it and start this one",
            )? {
                (Message::Listeners(notes), sockets) => {
                    listeners.extend(wire::join(notes, sockets)?)
                }
                (Message::Workers(count), _) => workers = Some(count),
                (Message::End, _) => break,
                (Message::Ready | Message::Sessions(_) | Message::Connected(_), _) => {
                    bail!(UNEXPECTED)
                }
            }
        }
        Ok(Some(Self {
            stream,
            workers: workers.context(UNEXPECTED)?,
            listeners,
        }))
    }

    /// Takes the place of the predecessor, which waits for nothing else. Blocks.
    fn succeed(self) -> Result<Estate> {
        wire::send(&self.stream, &Message::Ready, &[])?;
        let (mut sessions, mut connected) = (Vec::new(), Vec::new());
        loop {
            match wire::receive(&self.stream)? {
                (Message::Sessions(notes), sockets) => sessions.extend(wire::join(notes, sockets)?),
                (Message::Connected(some), _) => connected.extend(some),
                (Message::End, _) => break,
                (Message::Ready | Message::Listeners(_) | Message::Workers(_), _) => {
                    bail!(UNEXPECTED)
                }
            }
        }
        Ok(Estate {
            sessions,
            remaining: Remaining {
                stream: self.stream,
                connected,
            },
        })
    }
}

const UNEXPECTED: &str = "the daemon that runs says something unexpected";

impl Remaining {
    /// The sources that held TCP connections with the predecessor when it gave way, as long as it is
    /// there: which of them still do, nobody tells.
    pub(super) fn connected(&mut self) -> &[(AppId, IpAddr)] {
        if !self.connected.is_empty() && self.is_gone() {
            self.connected = Vec::new();
        }
        &self.connected
    }

    fn is_gone(&self) -> bool {
        let waiting = self.stream.set_nonblocking(true);
        let read = waiting.and_then(|()| (&self.stream).read(&mut [0]));
        !matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

/// A program that was started to take the place of this one, and who waits to hear of it.
pub(super) struct Upgrade {
    reply: Reply,
    ended: oneshot::Receiver<io::Result<ExitStatus>>,
}

impl Upgrade {
    /// Starts the program anew, from where it was started: what is there by now.
    fn start(options: &Options, reply: Reply) -> Result<Self, (Reply, anyhow::Error)> {
        let mut command = Command::new(&options.program);
        command.arg("run").arg("--upgrade");
        command.arg("--config").arg(&options.config);
        if options.detach_on_exit {
            command.arg("--detach-on-exit");
        }
        let failed = |error| {
            let program = options.program.display();
            anyhow::Error::new(error).context(format!("cannot start {program}"))
        };
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => return Err((reply, failed(error))),
        };
        let (ends, ended) = oneshot::channel();
        // A thread of its own: the runtime would wait for it at the end, and the child outlives us.
        let waiting = thread::Builder::new().name("upgrade".to_owned());
        let waiting = waiting.spawn(move || drop(ends.send(child.wait())));
        match waiting {
            Ok(_) => Ok(Self { reply, ended }),
            Err(error) => Err((reply, failed(error))),
        }
    }

    /// Waits for it to end, which it does only if it fails. Cancel-safe.
    async fn failed(upgrade: &mut Option<Self>) -> String {
        let Some(upgrade) = upgrade else {
            return std::future::pending().await;
        };
        match (&mut upgrade.ended).await {
            Ok(Ok(status)) => status.to_string(),
            Ok(Err(error)) => error.to_string(),
            Err(_nobody_waits) => "nobody waits for it".to_owned(),
        }
    }
}

impl Daemon {
    /// Starts the program that is installed now, to take the place of this one.
    pub(super) async fn upgrade(&mut self, reply: Reply) {
        if self.upgrade.is_some() {
            return reply.send(under_way()).await;
        }
        match Upgrade::start(&self.options, reply) {
            Ok(upgrade) => self.upgrade = Some(upgrade),
            Err((reply, error)) => reply.send(Err::<(), _>(error)).await,
        }
    }

    /// Waits for a program that was to take over, and has failed. Cancel-safe.
    pub(super) async fn upgrade_failed(upgrade: &mut Option<Upgrade>) {
        let how = Upgrade::failed(upgrade).await;
        log::error!("the program that was to take over has failed: {how}");
        if let Some(Upgrade { reply, .. }) = upgrade.take() {
            let why = anyhow::anyhow!(
                "the program that was to take over has failed ({how}); its \
                                       log says why, and nothing has changed"
            );
            reply.send(Err::<(), _>(why)).await;
        }
    }

    /// Gives way to another daemon. True once it has: what is left is to wait for the connections of
    /// this one. Otherwise all is as it was.
    pub(super) async fn give_way(&mut self, reply: Reply) -> bool {
        // It is the other's turn to write to the maps and to read what comes out of them.
        self.paused.send_replace(true);
        let given = self.hand_over(reply).await;
        match given {
            Ok(heir) => {
                self.heir = Some(heir);
                if let Some(Upgrade { reply, .. }) = self.upgrade.take() {
                    reply.send(Ok(())).await;
                }
                true
            }
            Err(error) => {
                log::error!("no other daemon has taken over: {error:#}");
                self.paused.send_replace(false);
                // It may have got as far as the maps.
                self.want(Cause::Documents("another daemon was to take over"));
                false
            }
        }
    }

    async fn hand_over(&mut self, reply: Reply) -> Result<UnixStream> {
        let stream = reply.into_stream()?;
        stream.set_read_timeout(Some(PATIENCE))?;
        // 0 if it is in a PID namespace (a container) that this process does not see.
        let pid = getsockopt(&stream, PeerCredentials)?.pid();
        log::info!("process {pid} is to take over");
        let (workers, listeners) = (self.proxy.workers(), self.proxy.listeners().await?);
        let stream = spawn_blocking(move || offer(stream, workers, listeners)).await??;
        // Nobody may be let in twice, or by nobody: the other has the same sockets by now.
        let sessions = self.proxy.release().await;
        let connected = self.proxy.connected();
        let (count, left) = (sessions.len(), connected.len());
        let leave = move || -> Result<UnixStream> {
            bequeath(&stream, sessions, &connected)?;
            Ok(stream)
        };
        let stream = spawn_blocking(leave).await?.inspect_err(|error| {
            log::error!("the UDP sessions are lost: {error:#}");
        });
        log::info!(
            "process {pid} has taken over, and {count} UDP sessions; {left} sources are still \
                    connected here"
        );
        // The service manager takes that from the process that it knows only.
        if pid > 0
            && let Err(error) = sd_notify::notify(&[NotifyState::MainPid(pid.unsigned_abs())])
        {
            log::debug!("sd_notify: {error}");
        }
        stream
    }
}

fn under_way() -> Result<()> {
    bail!("another program is already about to take over")
}

/// Hands listeners over, and waits until the other serves.
fn offer(
    stream: UnixStream,
    workers: usize,
    listeners: Vec<Left<ListenerNote>>,
) -> Result<UnixStream> {
    wire::send(&stream, &Message::Workers(workers), &[])?;
    wire::send_all(&stream, listeners, Message::Listeners)?;
    wire::send(&stream, &Message::End, &[])?;
    match wire::receive(&stream).context("it does not say that it serves")? {
        (Message::Ready, _) => Ok(stream),
        _ => bail!("it says something unexpected"),
    }
}

/// Hands over what the listeners were not.
fn bequeath(
    stream: &UnixStream,
    sessions: Vec<Left<SessionNote>>,
    connected: &[(AppId, IpAddr)],
) -> Result<()> {
    wire::send_all(stream, sessions, Message::Sessions)?;
    for some in connected.chunks(wire::BATCH) {
        wire::send(stream, &Message::Connected(some.to_vec()), &[])?;
    }
    wire::send(stream, &Message::End, &[])
}
