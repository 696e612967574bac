//! Messages between two daemons on a Unix socket, with the sockets that belong to them: the length
//! of a message in four bytes, to which the sockets are attached, and the message in JSON.

use std::{
    io::{IoSlice, IoSliceMut, Read as _, Write as _},
    mem::MaybeUninit,
    net::IpAddr,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use anyhow::{Result, ensure};
use rustix::{
    cmsg_space,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
    },
};
use serde::{Deserialize, Serialize};

use crate::{
    config::AppId,
    proxy::{Left, ListenerNote, SessionNote},
};

/// Sockets that go with one message; the kernel takes 253 (`SCM_MAX_FD`).
pub(super) const BATCH: usize = 64;

/// More than any message has that is meant so.
const LONGEST: usize = 1 << 20;

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Message {
    /// How many workers the listeners are for.
    Workers(usize),
    /// With a socket for each.
    Listeners(Vec<ListenerNote>),
    /// The successor serves.
    Ready,
    /// With a socket for each.
    Sessions(Vec<SessionNote>),
    /// Sources that hold TCP connections.
    Connected(Vec<(AppId, IpAddr)>),
    /// It is the other's turn.
    End,
}

/// Blocks until it is sent.
pub(super) fn send(
    stream: &UnixStream,
    message: &Message,
    sockets: &[BorrowedFd<'_>],
) -> Result<()> {
    let body = serde_json::to_vec(message)?;
    let length = u32::try_from(body.len())?.to_be_bytes();
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(BATCH))];
    let mut attached = SendAncillaryBuffer::new(&mut space);
    if !sockets.is_empty() {
        let fits = attached.push(SendAncillaryMessage::ScmRights(sockets));
        ensure!(fits, "too many sockets for one message");
    }
    let sent = sendmsg(
        stream,
        &[IoSlice::new(&length)],
        &mut attached,
        SendFlags::NOSIGNAL,
    )?;
    ensure!(sent == length.len(), "a message was cut");
    let mut stream = stream;
    Ok(stream.write_all(&body)?)
}

/// As many messages as it takes.
pub(super) fn send_all<T>(
    stream: &UnixStream,
    all: Vec<Left<T>>,
    message: impl Fn(Vec<T>) -> Message,
) -> Result<()> {
    let mut all = all.into_iter().peekable();
    while all.peek().is_some() {
        let (notes, sockets): (Vec<T>, Vec<OwnedFd>) = all
            .by_ref()
            .take(BATCH)
            .map(|left| (left.note, left.socket))
            .unzip();
        let sockets: Vec<_> = sockets.iter().map(OwnedFd::as_fd).collect();
        send(stream, &message(notes), &sockets)?;
    }
    Ok(())
}

/// Waits for a message, as long as the stream does.
pub(super) fn receive(stream: &UnixStream) -> Result<(Message, Vec<OwnedFd>)> {
    let mut length = [0; 4];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(BATCH))];
    let mut attached = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        stream,
        &mut [IoSliceMut::new(&mut length)],
        &mut attached,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    ensure!(received.bytes == length.len(), "the other is gone");
    let mut sockets = Vec::new();
    for message in attached.drain() {
        if let RecvAncillaryMessage::ScmRights(some) = message {
            sockets.extend(some);
        }
    }
    let length = u32::from_be_bytes(length) as usize;
    ensure!(length <= LONGEST, "a message is too long");
    let mut body = vec![0; length];
    let mut stream = stream;
    stream.read_exact(&mut body)?;
    Ok((serde_json::from_slice(&body)?, sockets))
}

/// Each note with its socket.
pub(super) fn join<T>(
    notes: Vec<T>,
    sockets: Vec<OwnedFd>,
) -> Result<impl Iterator<Item = Left<T>>> {
    ensure!(
        notes.len() == sockets.len(),
        "sockets are missing (may no more files be open?)"
    );
    let both = notes.into_iter().zip(sockets);
    Ok(both.map(|(note, socket)| Left { note, socket }))
}
