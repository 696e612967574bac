//! Writes records as JSON lines.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{self, TryRecvError, TrySendError},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde::Serialize;

use super::{Message, Receiver, Sink};
use crate::config::EventOutput;

/// Bytes that are gathered before a write, when records come faster than they can be written.
const GATHER: usize = 64 * 1024;

/// The thread that writes records. It ends when the last [`Sink`] is gone, or at
/// [`close`](Self::close).
#[derive(Debug)]
pub struct Writer {
    /// `None`: events are off.
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    queue: mpsc::SyncSender<Message>,
    reopen: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Writer {
    /// Opens the output and starts to write.
    ///
    /// # Errors
    /// The file cannot be opened for appending, or no thread can be started.
    pub fn start(output: &EventOutput) -> io::Result<(Sink, Self)> {
        let output = match output {
            EventOutput::Off => return Ok((Sink::discard(), Self { running: None })),
            EventOutput::Stdout => Output::Stdout,
            EventOutput::File(path) => Output::File {
                path: path.clone(),
                file: open(path)?,
            },
        };
        Self::start_with(output, super::channel())
    }

    fn start_with(output: Output, (sink, receiver): (Sink, Receiver)) -> io::Result<(Sink, Self)> {
        let Some(queue) = sink.queue.clone() else {
            return Ok((sink, Self { running: None }));
        };
        let reopen = Arc::new(AtomicBool::new(false));
        let lines = Lines {
            output,
            gathered: Vec::new(),
            records: 0,
            torn: false,
            failing: false,
            lost: Arc::clone(&sink.lost),
        };
        let thread = {
            let reopen = Arc::clone(&reopen);
            thread::Builder::new()
                .name("events".into())
                .spawn(move || write_all(&receiver, lines, &reopen))?
        };
        let running = Running {
            queue,
            reopen,
            thread,
        };
        Ok((
            sink,
            Self {
                running: Some(running),
            },
        ))
    }

    /// Opens the file again before the next record: after `logrotate` has moved it away.
    pub fn reopen(&self) {
        if let Some(running) = &self.running {
            running.reopen.store(true, Ordering::Relaxed);
        }
    }

    /// Writes what has been sent so far, and ends. False if the output did not take it by the
    /// deadline; the rest is lost then.
    pub fn close(self, deadline: Duration) -> bool {
        let Some(running) = self.running else {
            return true;
        };
        let deadline = Instant::now() + deadline;
        let mut close = running.queue.try_send(Message::Close);
        while let Err(TrySendError::Full(_)) = close {
            if Instant::now() >= deadline {
                return false;
            }
            thread::sleep(Duration::from_millis(5));
            close = running.queue.try_send(Message::Close);
        }
        while !running.thread.is_finished() {
            if Instant::now() >= deadline {
                return false;
            }
            thread::sleep(Duration::from_millis(1));
        }
        running.thread.join().is_ok()
    }
}

/// Each record is written at once, unless others wait behind it.
fn write_all(receiver: &Receiver, mut lines: Lines, reopen: &AtomicBool) {
    while let Ok(first) = receiver.queue.recv() {
        if reopen.swap(false, Ordering::Relaxed) {
            lines.reopen();
        }
        let mut next = Ok(first);
        loop {
            match next {
                Ok(Message::Record(record)) => lines.add(&receiver.located(*record)),
                Ok(Message::Mitigation(record)) => lines.add(&record),
                Ok(Message::Origin(record)) => lines.add(&record),
                Ok(Message::Close) | Err(TryRecvError::Disconnected) => {
                    lines.flush();
                    return;
                }
                Err(TryRecvError::Empty) => break,
            }
            next = receiver.queue.try_recv();
        }
        lines.flush();
    }
}

enum Output {
    Stdout,
    File { path: PathBuf, file: File },
}

/// Lines on their way out.
struct Lines {
    output: Output,
    gathered: Vec<u8>,
    /// In `gathered`.
    records: u64,
    /// The output may end within a line.
    torn: bool,
    /// The last write failed, and the log says so.
    failing: bool,
    lost: Arc<AtomicU64>,
}

impl Lines {
    fn add(&mut self, record: &impl Serialize) {
        let start = self.gathered.len();
        if serde_json::to_writer(&mut self.gathered, record).is_err() {
            self.gathered.truncate(start);
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.gathered.push(b'\n');
        self.records += 1;
        if self.gathered.len() >= GATHER {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if self.gathered.is_empty() {
            return;
        }
        match self.output.write(self.torn, &self.gathered) {
            Ok(()) => (self.torn, self.failing) = (false, false),
            Err(error) => {
                self.torn = true;
                self.lost.fetch_add(self.records, Ordering::Relaxed);
                if !self.failing {
                    log::error!("events are lost: cannot write them: {error}");
                }
                self.failing = true;
            }
        }
        self.gathered.clear();
        self.records = 0;
    }

    fn reopen(&mut self) {
        let Output::File { path, file } = &mut self.output else {
            return;
        };
        match open(path) {
            Ok(new) => (*file, self.torn) = (new, false),
            Err(error) => log::error!(
                "cannot open {} again, events go on into the old file: {error}",
                path.display()
            ),
        }
    }
}

impl Output {
    fn write(&mut self, torn: bool, bytes: &[u8]) -> io::Result<()> {
        let newline: &[u8] = if torn { b"\n" } else { b"" };
        match self {
            Self::File { file, .. } => {
                file.write_all(newline)?;
                file.write_all(bytes)
            }
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(newline)?;
                stdout.write_all(bytes)?;
                stdout.flush()
            }
        }
    }
}

/// Client addresses are in it: not for everybody's eyes.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o640)
        .open(path)
}

#[cfg(test)]
mod tests;
