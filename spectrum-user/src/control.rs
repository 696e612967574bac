//! The daemon's ear: a Unix socket on which the command line asks.
//!
//! One request and one answer per connection, each a line of JSON; more lines follow the answer to
//! who asks for what goes on. The socket's mode (0600) says who may ask.

use std::{
    fs, io,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _},
        net::UnixStream as StdUnixStream,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{
    io::{
        AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader as AsyncBufReader,
        Lines,
    },
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};

use crate::capture::Filter;

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Request {
    Status,
    /// Keep a mitigation until it is removed.
    AcceptMitigation {
        id: u32,
    },
    /// End a mitigation, and leave alone what it matched for a while.
    RemoveMitigation {
        id: u32,
    },
    /// What is listed, and where it comes from.
    Lists,
    /// Look at the source of a feed, or of all, at once.
    RefreshFeeds {
        name: Option<String>,
    },
    /// Start the program anew, to take the place of the daemon.
    Upgrade,
    /// Give way to the daemon that asks.
    Succeed,
    /// Let no client in to these apps (by name or id; none: all), or in again.
    Drain {
        apps: Vec<String>,
        end: bool,
    },
    /// Send sampled packets as they come.
    Capture {
        filter: Filter,
    },
}

/// A request takes a line of at most this many bytes.
const LONGEST_REQUEST: u64 = 4096;

/// How long either side waits for the other.
const PATIENCE: Duration = Duration::from_secs(5);

/// The listening socket; its path is removed when this is dropped, if it is still its own.
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode.
    identity: Option<(u64, u64)>,
}

impl Socket {
    /// Listens at `path`, in place of a daemon that died.
    ///
    /// # Errors
    /// Another daemon answers there, or the path cannot be used.
    pub fn bind(path: &Path) -> Result<Self> {
        if StdUnixStream::connect(path).is_ok() {
            bail!(
                "another daemon answers on {}\n  help: stop it, or give this one a control_socket \
                 (and interfaces) of its own",
                path.display()
            );
        }
        Self::create(path)
    }

    /// Listens beside `path`, where another daemon answers, until this one
    /// [takes its place](Self::take_place).
    ///
    /// # Errors
    /// The path cannot be used.
    pub fn bind_beside(path: &Path) -> Result<Self> {
        Self::create(&path.with_extension("next"))
    }

    /// Is found at `path` from now on.
    ///
    /// # Errors
    /// The path cannot be used.
    pub fn take_place(&mut self, path: &Path) -> Result<()> {
        fs::rename(&self.path, path)
            .with_context(|| format!("cannot listen on {}", path.display()))?;
        path.clone_into(&mut self.path);
        Ok(())
    }

    fn create(path: &Path) -> Result<Self> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", path.display()));
            }
            _ => {}
        }
        let listener = UnixListener::bind(path)
            .with_context(|| format!("cannot listen on {}", path.display()))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))
            .with_context(|| format!("cannot restrict {}", path.display()))?;
        Ok(Self {
            listener,
            identity: identity(path),
            path: path.to_owned(),
        })
    }

    /// Waits for a request. A client that sends none in time, or none that is understood, is sent
    /// away and never reported. Cancel-safe up to the moment a client has connected.
    pub async fn accept(&self) -> (Request, Reply) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => match timeout(PATIENCE, read_request(stream)).await {
                    Ok(Ok(asked)) => return asked,
                    Ok(Err(error)) => log::debug!("control socket: {error:#}"),
                    Err(_elapsed) => log::debug!("control socket: a client did not ask in time"),
                },
                Err(error) => {
                    log::warn!("control socket: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Another daemon may have taken its place.
        if self.identity != identity(&self.path) {
            return;
        }
        if let Err(error) = fs::remove_file(&self.path) {
            log::debug!("control socket: {error}");
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let found = fs::symlink_metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

/// Where the answer to a request goes.
pub struct Reply(UnixStream);

impl Reply {
    /// Sends the answer. A client that went away or does not read is no one's problem.
    pub async fn send(mut self, answer: Result<impl Serialize>) {
        let answer = answer.map_err(|error| format!("{error:#}"));
        let sent = timeout(PATIENCE, async {
            self.0.write_all(&line(&answer)?).await?;
            anyhow::Ok(())
        });
        match sent.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => log::debug!("control socket: {error:#}"),
            Err(_elapsed) => log::debug!("control socket: a client does not read"),
        }
    }

    /// The connection itself, for another protocol than this.
    ///
    /// # Errors
    /// The runtime does not give it back.
    pub fn into_stream(self) -> io::Result<StdUnixStream> {
        let stream = self.0.into_std()?;
        stream.set_nonblocking(false)?;
        Ok(stream)
    }

    /// Sends the answer, and more to come.
    ///
    /// # Errors
    /// The client went away.
    pub async fn begin(self, answer: impl Serialize) -> Result<Stream> {
        let (from, to) = self.0.into_split();
        let mut stream = Stream { to, from };
        stream.send(&Ok::<_, String>(answer)).await?;
        Ok(stream)
    }
}

/// Where more goes, for as long as the client wants it.
pub struct Stream {
    to: OwnedWriteHalf,
    from: OwnedReadHalf,
}

impl Stream {
    /// Waits for a client that reads slowly.
    ///
    /// # Errors
    /// The client went away.
    pub async fn send(&mut self, more: &impl Serialize) -> Result<()> {
        Ok(self.to.write_all(&line(more)?).await?)
    }

    /// Waits until the client has had enough, or is gone. Cancel-safe.
    pub async fn enough(&mut self) {
        let mut unexpected = [0; 64];
        while self.from.read(&mut unexpected).await.is_ok_and(|n| n > 0) {}
    }
}

fn line(value: &impl Serialize) -> Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

async fn read_request(stream: UnixStream) -> Result<(Request, Reply)> {
    let mut reader = AsyncBufReader::new(stream);
    let mut line = String::new();
    (&mut reader)
        .take(LONGEST_REQUEST)
        .read_line(&mut line)
        .await?;
    let request = serde_json::from_str(&line).context("not a request")?;
    Ok((request, Reply(reader.into_inner())))
}

/// Asks the daemon at `path`; `None` if none runs there.
///
/// # Errors
/// The daemon answers with an error, or not at all.
pub fn ask<T: DeserializeOwned>(path: &Path, request: Request) -> Result<Option<T>> {
    ask_within(PATIENCE, path, request)
}

/// As [`ask`], of what takes longer.
///
/// # Errors
/// As [`ask`].
pub fn ask_within<T: DeserializeOwned>(
    patience: Duration,
    path: &Path,
    request: Request,
) -> Result<Option<T>> {
    let line = line(&request)?;
    let mut answer = String::new();
    // A daemon that gives way to another answers nothing any more: the other is asked then.
    for _ in 0..2 {
        let Some(mut stream) = connect(path)? else {
            return Ok(None);
        };
        stream.set_read_timeout(Some(patience))?;
        stream.write_all(&line)?;
        BufReader::new(stream)
            .read_line(&mut answer)
            .context(SILENT)?;
        if !answer.is_empty() {
            break;
        }
    }
    understand(&answer).map(Some)
}

/// Begins another protocol with the daemon at `path`; `None` if none runs there.
///
/// # Errors
/// It cannot be asked.
pub fn begin(path: &Path, request: Request) -> Result<Option<StdUnixStream>> {
    let Some(mut stream) = connect(path)? else {
        return Ok(None);
    };
    stream.write_all(&line(&request)?)?;
    Ok(Some(stream))
}

/// As [`ask`], of what goes on after the answer. Must be called within a tokio runtime.
///
/// # Errors
/// As [`ask`].
pub async fn follow<T: DeserializeOwned>(
    path: &Path,
    request: Request,
) -> Result<Option<(T, Following)>> {
    let Some(stream) = connect(path)? else {
        return Ok(None);
    };
    stream.set_nonblocking(true)?;
    let (from, mut to) = UnixStream::from_std(stream)?.into_split();
    to.write_all(&line(&request)?).await?;
    let mut lines = AsyncBufReader::new(from).lines();
    let answer = timeout(PATIENCE, lines.next_line()).await.context(SILENT)?;
    let answer = understand(&answer?.context(SILENT)?)?;
    Ok(Some((answer, Following { lines, to })))
}

/// What the daemon sends after its answer.
pub struct Following {
    lines: Lines<AsyncBufReader<OwnedReadHalf>>,
    to: OwnedWriteHalf,
}

impl Following {
    /// Waits for more; `None` if the daemon is gone, though it be in the middle of a line. Cancel-safe.
    ///
    /// # Errors
    /// It is not what was expected.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>> {
        let Some(line) = self.lines.next_line().await? else {
            return Ok(None);
        };
        match serde_json::from_str(&line) {
            Ok(more) => Ok(Some(more)),
            Err(error) if error.is_eof() => Ok(None),
            Err(error) => Err(error).context(UNCLEAR),
        }
    }

    /// Tells the daemon that it is enough. What it has sent already is still to come.
    pub async fn enough(&mut self) {
        if let Err(error) = self.to.shutdown().await {
            log::debug!("control socket: {error}");
        }
    }
}

const SILENT: &str = "the daemon does not answer";
const UNCLEAR: &str = "the daemon's answer is not understood";

fn connect(path: &Path) -> Result<Option<StdUnixStream>> {
    match StdUnixStream::connect(path) {
        Ok(stream) => Ok(Some(stream)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            Ok(None)
        }
        Err(error) => {
            Err(error).with_context(|| format!("cannot ask the daemon at {}", path.display()))
        }
    }
}

fn understand<T: DeserializeOwned>(answer: &str) -> Result<T> {
    let answer: Result<T, String> = serde_json::from_str(answer).context(UNCLEAR)?;
    answer.map_err(anyhow::Error::msg)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Else the operator is told that an answer is not understood, and looks for two versions.
    #[tokio::test]
    async fn a_daemon_that_dies_in_the_middle_of_a_line_is_gone() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("control.sock");
        let listener = UnixListener::bind(&path).expect("a socket");
        let daemon = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("a client");
            let (_, Reply(mut stream)) = read_request(stream).await.expect("a request");
            let said = b"{\"Ok\":1}\n\"more\"\n\"even mo";
            stream.write_all(said).await.expect("a reader");
        });
        let followed = follow::<u32>(&path, Request::Status).await;
        let (answer, mut following) = followed.expect("an answer").expect("a daemon");
        assert_eq!(answer, 1);
        let next = following.next::<String>().await;
        assert_eq!(next.expect("more").as_deref(), Some("more"));
        assert_eq!(following.next::<String>().await.expect("an end"), None);
        daemon.await.expect("no panic");
    }
}
