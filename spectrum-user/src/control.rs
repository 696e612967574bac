//! The daemon's ear: a Unix socket on which the command line asks.
//!
//! One request and one answer per connection, each a line of JSON. The socket's mode (0600) says
//! who may ask.

use std::{
    fs, io,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::{fs::PermissionsExt as _, net::UnixStream as StdUnixStream},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{
    io::{
        AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader as AsyncBufReader,
    },
    net::{UnixListener, UnixStream},
    time::timeout,
};

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
}

/// A request takes a line of at most this many bytes.
const LONGEST_REQUEST: u64 = 4096;

/// How long either side waits for the other.
const PATIENCE: Duration = Duration::from_secs(5);

/// The listening socket; its path is removed when this is dropped.
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
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
        if let Err(error) = fs::remove_file(&self.path) {
            log::debug!("control socket: {error}");
        }
    }
}

/// Where the answer to a request goes.
pub struct Reply(UnixStream);

impl Reply {
    /// Sends the answer. A client that went away or does not read is no one's problem.
    pub async fn send(mut self, answer: Result<impl Serialize>) {
        let answer = answer.map_err(|error| format!("{error:#}"));
        let sent = timeout(PATIENCE, async {
            let mut line = serde_json::to_vec(&answer)?;
            line.push(b'\n');
            self.0.write_all(&line).await?;
            anyhow::Ok(())
        });
        match sent.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => log::debug!("control socket: {error:#}"),
            Err(_elapsed) => log::debug!("control socket: a client does not read"),
        }
    }
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
    let mut stream = match StdUnixStream::connect(path) {
        Ok(stream) => stream,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            return Ok(None);
        }
        Err(error) => {
            return Err(error)
                .with_context(|| format!("cannot ask the daemon at {}", path.display()));
        }
    };
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(&request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = String::new();
    BufReader::new(stream)
        .read_line(&mut answer)
        .context("the daemon does not answer")?;
    let answer: Result<T, String> =
        serde_json::from_str(&answer).context("the daemon's answer is not understood")?;
    answer.map(Some).map_err(anyhow::Error::msg)
}
