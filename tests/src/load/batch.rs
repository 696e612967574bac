//! Datagrams by the batch: one system call receives or sends many, so that the processor is for
//! the proxy that is measured.

use std::{io, mem, net::UdpSocket, os::fd::AsRawFd, ptr};

/// Datagrams in one batch at most.
pub(super) const BATCH: usize = 64;
/// Bytes of a datagram at most; what exceeds is cut off.
pub(super) const DATAGRAM: usize = 2048;

#[expect(clippy::cast_possible_truncation, reason = "it is 128")]
const PEER_LEN: libc::socklen_t = size_of::<libc::sockaddr_storage>() as libc::socklen_t;

/// Datagrams that were received, or are to be sent.
pub(super) struct Batch {
    datagrams: Box<[Datagram; BATCH]>,
    /// How many of them are in use.
    len: usize,
}

#[derive(Clone, Copy)]
struct Datagram {
    bytes: [u8; DATAGRAM],
    len: usize,
    peer: libc::sockaddr_storage,
    peer_len: libc::socklen_t,
}

impl Batch {
    pub(super) fn new() -> Self {
        // SAFETY: `sockaddr_storage` is plain data, and zeros are its "unspecified".
        let peer = unsafe { mem::zeroed() };
        let empty = Datagram {
            bytes: [0; DATAGRAM],
            len: 0,
            peer,
            peer_len: 0,
        };
        Self {
            datagrams: Box::new([empty; BATCH]),
            len: 0,
        }
    }

    /// The payloads, in the order of arrival.
    pub(super) fn payloads(&self) -> impl Iterator<Item = &[u8]> {
        let used = self.datagrams.iter().take(self.len);
        used.map(|datagram| datagram.bytes.get(..datagram.len).unwrap_or_default())
    }

    /// Makes the batch `count` copies of one payload, of at most [`DATAGRAM`] bytes.
    pub(super) fn fill(&mut self, count: usize, payload: &[u8]) {
        self.len = count.min(BATCH);
        for datagram in self.datagrams.iter_mut().take(self.len) {
            for (byte, source) in datagram.bytes.iter_mut().zip(payload) {
                *byte = *source;
            }
            datagram.len = payload.len().min(DATAGRAM);
        }
    }

    /// Replaces the batch by what has arrived; a blocking socket waits for the first datagram.
    pub(super) fn receive(&mut self, socket: &UdpSocket) -> io::Result<()> {
        self.len = 0;
        for datagram in self.datagrams.iter_mut() {
            datagram.len = DATAGRAM;
            datagram.peer_len = PEER_LEN;
        }
        let flags = libc::MSG_WAITFORONE;
        self.len = call(&mut *self.datagrams, Peer::Named, |headers, count| {
            // SAFETY: `call` gives `count` headers whose pointers hold during the call.
            unsafe { libc::recvmmsg(socket.as_raw_fd(), headers, count, flags, ptr::null_mut()) }
        })?;
        Ok(())
    }

    /// Sends the batch to the peer that the socket is connected to; returns how many datagrams
    /// left.
    pub(super) fn send(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        let used = self.datagrams.get_mut(..self.len).unwrap_or_default();
        send(socket, used, Peer::Connected)
    }

    /// Sends each datagram back to where it came from. One that cannot be sent is lost, as
    /// datagrams may be.
    pub(super) fn send_back(&mut self, socket: &UdpSocket) {
        let mut rest = self.datagrams.get_mut(..self.len).unwrap_or_default();
        while !rest.is_empty() {
            let sent = send(socket, rest, Peer::Named).unwrap_or(1);
            rest = rest.get_mut(sent..).unwrap_or_default();
        }
    }
}

/// Where a datagram comes from or goes to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Peer {
    /// To or from the address in the datagram.
    Named,
    /// To the peer of the socket.
    Connected,
}

fn send(socket: &UdpSocket, datagrams: &mut [Datagram], peer: Peer) -> io::Result<usize> {
    call(datagrams, peer, |headers, count| {
        // SAFETY: `call` gives `count` headers whose pointers hold during the call.
        unsafe { libc::sendmmsg(socket.as_raw_fd(), headers, count, 0) }
    })
}

/// Makes a system call on the headers of at most [`BATCH`] datagrams, and notes their lengths
/// afterwards; returns how many the call was about.
fn call(
    datagrams: &mut [Datagram],
    peer: Peer,
    system_call: impl FnOnce(*mut libc::mmsghdr, libc::c_uint) -> libc::c_int,
) -> io::Result<usize> {
    // SAFETY: `iovec` and `mmsghdr` are plain data; zeros are null pointers and no bytes.
    let (mut vectors, mut headers): ([libc::iovec; BATCH], [libc::mmsghdr; BATCH]) =
        unsafe { (mem::zeroed(), mem::zeroed()) };
    let mut count = 0;
    for ((datagram, vector), header) in datagrams.iter_mut().zip(&mut vectors).zip(&mut headers) {
        vector.iov_base = datagram.bytes.as_mut_ptr().cast();
        vector.iov_len = datagram.len;
        header.msg_hdr.msg_iov = vector;
        header.msg_hdr.msg_iovlen = 1;
        if peer == Peer::Named {
            header.msg_hdr.msg_name = ptr::from_mut(&mut datagram.peer).cast();
            header.msg_hdr.msg_namelen = datagram.peer_len;
        }
        count += 1;
    }
    let Ok(done) = usize::try_from(system_call(headers.as_mut_ptr(), count)) else {
        return Err(io::Error::last_os_error());
    };
    for (datagram, header) in datagrams.iter_mut().zip(&headers).take(done) {
        datagram.len = header.msg_len as usize;
        datagram.peer_len = header.msg_hdr.msg_namelen;
    }
    Ok(done)
}
