//! Datagrams in runs, as the kernel gathers and splits them (GRO, GSO).

use std::{
    cell::RefCell,
    io::{self, IoSliceMut},
};

use quinn_udp::{BATCH_SIZE, EcnCodepoint, RecvMeta, Transmit, UdpSocketState};
use tokio::{io::Interest, net::UdpSocket};

/// The most that the kernel gathers into one run.
const RUN_SIZE: usize = 64 * 1024;

thread_local! {
    /// 2 MiB of address space; memory is used as far as datagrams ever filled it.
    static RUNS: RefCell<Box<[u8]>> = RefCell::new(vec![0; BATCH_SIZE * RUN_SIZE].into());
    static WITH_HEADER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Datagrams of equal size from one sender; only the last may be shorter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Datagrams<'a> {
    pub(super) bytes: &'a [u8],
    /// Of each but the last; 0 if there is one, which is empty.
    pub(super) size: usize,
    pub(super) ecn: Option<EcnCodepoint>,
}

/// Receives what is there, up to a batch. Not to be nested.
pub(super) fn receive(
    socket: &UdpSocket,
    interest: Interest,
    state: &UdpSocketState,
    mut take: impl FnMut(&RecvMeta, Datagrams<'_>),
) -> io::Result<()> {
    RUNS.with_borrow_mut(|runs| {
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        let received = {
            let mut slices = runs.chunks_exact_mut(RUN_SIZE).map(IoSliceMut::new);
            let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
                std::array::from_fn(|_| slices.next().unwrap_or_else(|| IoSliceMut::new(&mut [])));
            socket.try_io(interest, || {
                state.recv(socket.into(), &mut slices, &mut metas)
            })?
        };
        for (meta, run) in metas.iter().zip(runs.chunks_exact(RUN_SIZE)).take(received) {
            take(
                meta,
                Datagrams {
                    bytes: run.get(..meta.len).unwrap_or_default(),
                    size: meta.stride,
                    ecn: meta.ecn,
                },
            );
        }
        Ok(())
    })
}

impl<'a> Datagrams<'a> {
    /// One by one.
    pub(super) fn each(self) -> impl Iterator<Item = Self> {
        // An empty datagram is a datagram.
        let empty = self.bytes.is_empty().then_some(self.bytes);
        let chunks = self.bytes.chunks(self.size.max(1));
        empty.into_iter().chain(chunks).map(move |bytes| Self {
            bytes,
            size: bytes.len(),
            ecn: self.ecn,
        })
    }

    /// How many there are.
    pub(super) fn count(self) -> usize {
        // An empty datagram is a datagram.
        self.bytes.len().div_ceil(self.size.max(1)).max(1)
    }

    /// The first `count`, of which there are as many; at least 1.
    pub(super) fn first(self, count: usize) -> Self {
        let end = (count * self.size).min(self.bytes.len());
        Self {
            bytes: self.bytes.get(..end).unwrap_or_default(),
            ..self
        }
    }

    /// Without the first `bytes`, which are whole datagrams.
    pub(super) fn skip(self, bytes: usize) -> Self {
        Self {
            bytes: self.bytes.get(bytes..).unwrap_or_default(),
            ..self
        }
    }

    /// Sends to where `to` says, in one system call if the kernel splits it.
    ///
    /// # Errors
    /// With the number of bytes that were sent before.
    pub(super) fn send(
        self,
        socket: &UdpSocket,
        state: &UdpSocketState,
        to: &Transmit<'_>,
    ) -> Result<(), (usize, io::Error)> {
        let send = |datagrams: Self, segment_size| {
            let transmit = Transmit {
                contents: datagrams.bytes,
                segment_size,
                ..to.clone()
            };
            // Without asking the runtime, which does not know yet whether a new socket is ready.
            state.try_send(socket.into(), &transmit)
        };
        if self.bytes.len() > self.size && state.max_gso_segments() > 1 {
            match send(self, Some(self.size)) {
                Ok(()) => return Ok(()),
                Err(error) if !is_about_splitting(&error) => return Err((0, error)),
                Err(_one_by_one_then) => {}
            }
        }
        let mut sent = 0;
        for datagram in self.each() {
            send(datagram, None).map_err(|error| (sent, error))?;
            sent += datagram.bytes.len();
        }
        Ok(())
    }

    /// With `header` before its bytes; for a single datagram. Not to be nested.
    pub(super) fn with_header<T>(
        self,
        header: &[u8],
        use_it: impl FnOnce(Datagrams<'_>) -> T,
    ) -> T {
        WITH_HEADER.with_borrow_mut(|bytes| {
            bytes.clear();
            bytes.extend_from_slice(header);
            bytes.extend_from_slice(self.bytes);
            use_it(Datagrams {
                bytes,
                size: bytes.len(),
                ecn: self.ecn,
            })
        })
    }
}

/// Waits until the kernel has room again, after it had none.
pub(super) async fn writable(socket: &UdpSocket) -> io::Result<()> {
    // The runtime may think that there is.
    let _ = socket.try_io(Interest::WRITABLE, || {
        Err::<(), _>(io::ErrorKind::WouldBlock.into())
    });
    socket.writable().await
}

/// A run may be longer than what the path lets the kernel split.
fn is_about_splitting(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINVAL | libc::EIO | libc::EMSGSIZE)
    )
}
