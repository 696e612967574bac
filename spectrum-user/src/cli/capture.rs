//! `spectrum capture -w FILE`: sampled packets, as they come.

use std::{
    fs,
    io::{self, IsTerminal as _, Write as _},
    os::{
        fd::AsFd as _,
        unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    },
    path::Path,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use tokio::{
    fs::File,
    io::AsyncWriteExt as _,
    signal::unix::{Signal, SignalKind, signal},
};

use super::{Capture, Global, context::Context, output};
use crate::{
    capture::{End, Filter, Message, Packet, Started},
    control::{self, Following, Request},
    recording::write,
};

pub fn run(global: &Global, args: &Capture) -> Result<ExitCode> {
    let context = Context::load(&global.config);
    let filter = filter(&context, args)?;
    if is_stdout(&args.write) && io::stdout().is_terminal() {
        bail!("a terminal shows no packets\n  help: `spectrum capture -w - | tcpdump -n -r -`");
    }
    let config = context
        .config
        .context("without a configuration, no daemon can be asked")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let captured = runtime.block_on(capture(&config.host.control_socket, filter, args));
    // A write to a pipe that nobody reads never ends.
    runtime.shutdown_background();
    captured
}

fn filter(context: &Context, args: &Capture) -> Result<Filter> {
    let app = args.app.as_deref().map(|name| context.app(name));
    Ok(Filter {
        end: match (args.passed, args.dropped) {
            (true, _) => Some(End::Passed),
            (_, true) => Some(End::Dropped),
            (_, _) => None,
        },
        reason: args.reason.map(|reason| reason as u32),
        app: app.transpose()?.map(|app| app.id.to_string()),
        source: args.source,
    })
}

async fn capture(socket: &Path, filter: Filter, args: &Capture) -> Result<ExitCode> {
    let mut stop = Stop::new(args.duration)?;
    let followed = control::follow(socket, Request::Capture { filter }).await?;
    let (started, packets): (Started, _) = followed
        .context("no daemon runs, and it has the samples\n  help: `spectrum run` starts one")?;
    let mut recorder = Recorder {
        packets,
        file: open(&args.write)?,
        left: args.count.unwrap_or(u64::MAX),
        written: 0,
        stand_for: 0,
    };
    recorder.write(&write::header(&started)?).await?;
    say(&format!(
        "capturing at most {} bytes of each sampled packet on {}",
        started.snap_length,
        started.interfaces.join(", ")
    ));
    let ended = tokio::select! {
        ended = recorder.run() => Some(ended),
        () = stop.wanted() => None,
    };
    let finish = async {
        let ended = match ended {
            Some(ended) => ended,
            None => {
                recorder.packets.enough().await;
                recorder.run().await
            }
        };
        (ended, recorder.file.flush().await)
    };
    let (ended, flushed) = tokio::select! {
        finished = finish => finished,
        () = stop.insisted() => bail!("cut short: the file may lack its end"),
    };
    recorder.report(ended.as_ref().ok());
    let ended = ended?;
    flushed.context(CANNOT_WRITE)?;
    match ended.why {
        None => Ok(ExitCode::SUCCESS),
        Some(why) => bail!("the capture was ended by the daemon: {why}\n  help: begin another"),
    }
}

const CANNOT_WRITE: &str = "cannot write the packets";

/// When the operator has had enough.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
    duration: Option<Duration>,
}

impl Stop {
    fn new(duration: Option<Duration>) -> Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            duration,
        })
    }

    /// Asked to end, or the time is over.
    async fn wanted(&mut self) {
        match self.duration {
            Some(duration) => drop(tokio::time::timeout(duration, self.insisted()).await),
            None => self.insisted().await,
        }
    }

    /// Asked to end.
    async fn insisted(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// How a capture ended.
struct Ended {
    /// Samples that were lost; `None` if the daemon could not tell.
    lost: Option<u64>,
    /// Why the daemon ended it.
    why: Option<String>,
}

/// Writes what the daemon sends.
struct Recorder {
    packets: Following,
    file: File,
    /// Packets that are wanted still.
    left: u64,
    written: u64,
    /// Packets that those written stand for.
    stand_for: u64,
}

impl Recorder {
    /// Until the daemon sends no more. Cancel-safe: packets are written whole or not at all.
    async fn run(&mut self) -> Result<Ended> {
        loop {
            match self.packets.next().await? {
                Some(Message::Packet(packet)) if self.left > 0 => self.record(&packet).await?,
                Some(Message::Packet(_)) => {}
                Some(Message::Ended { lost, why }) => {
                    return Ok(Ended {
                        lost: Some(lost),
                        why,
                    });
                }
                None => {
                    return Ok(Ended {
                        lost: None,
                        why: Some("it is gone".to_owned()),
                    });
                }
            }
        }
    }

    async fn record(&mut self, packet: &Packet) -> Result<()> {
        self.write(&write::packet(packet)?).await?;
        self.written += 1;
        self.stand_for += u64::from(packet.weight);
        self.left -= 1;
        if self.left == 0 {
            self.packets.enough().await;
        }
        Ok(())
    }

    /// The file takes all of a block at once, or waits until it can: it is much shorter than what a
    /// [`File`] writes in one go.
    async fn write(&mut self, block: &[u8]) -> Result<()> {
        self.file.write_all(block).await.context(CANNOT_WRITE)
    }

    fn report(&self, ended: Option<&Ended>) {
        let lost = ended.and_then(|ended| ended.lost);
        let lost = lost.map_or_else(|| "an unknown number".to_owned(), output::count);
        say(&format!(
            "{} packets written, which stand for {}; {lost} lost because the reader was slow",
            output::count(self.written),
            output::count(self.stand_for),
        ));
    }
}

fn is_stdout(path: &Path) -> bool {
    path == Path::new("-")
}

fn open(path: &Path) -> Result<File> {
    let file = if is_stdout(path) {
        io::stdout()
            .as_fd()
            .try_clone_to_owned()
            .map(fs::File::from)
    } else {
        open_privately(path)
    };
    let file = file.with_context(|| format!("cannot write to {}", path.display()))?;
    Ok(File::from_std(file))
}

/// For the operator only: packets may carry secrets. A file that was there before is so, too, from now
/// on; a device or pipe is somebody else's.
fn open_privately(path: &Path) -> io::Result<fs::File> {
    const PRIVATE: u32 = 0o600;
    let mut options = fs::OpenOptions::new();
    options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(PRIVATE);
    let file = options.open(path)?;
    if file.metadata()?.is_file() {
        file.set_permissions(fs::Permissions::from_mode(PRIVATE))?;
    }
    Ok(file)
}

/// To stderr: stdout may be the packets'.
fn say(line: &str) {
    // Where not even stderr can be written, the packets still are.
    let _ = writeln!(io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Else the names and passwords in it could be read by whoever could read the last capture.
    #[test]
    fn a_file_that_anybody_could_read_is_the_owners_alone_from_now_on() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("now.pcapng");
        fs::write(&path, "yesterday's").expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("its owner");

        drop(open_privately(&path).expect("open"));
        let about = fs::metadata(&path).expect("a file");
        assert_eq!(about.permissions().mode() & 0o777, 0o600);
        assert_eq!(about.len(), 0);
    }
}
