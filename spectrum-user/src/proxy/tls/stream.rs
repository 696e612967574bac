//! A connection as TLS sees it: bytes in, bytes out.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::{client, server};

use super::{ResetOnDrop, relay::Duplex};

impl Duplex for ResetOnDrop {
    fn poll_cut(&mut self, _cx: &mut Context<'_>) -> Option<Poll<io::Result<()>>> {
        None
    }
}

impl Duplex for server::TlsStream<ResetOnDrop> {
    fn poll_cut(&mut self, cx: &mut Context<'_>) -> Option<Poll<io::Result<()>>> {
        let flushed = Pin::new(&mut *self).poll_flush(cx);
        if let Poll::Ready(Ok(())) = flushed {
            return Some(Pin::new(self.get_mut().0).poll_shutdown(cx));
        }
        Some(flushed)
    }
}

impl Duplex for client::TlsStream<ResetOnDrop> {
    fn poll_cut(&mut self, cx: &mut Context<'_>) -> Option<Poll<io::Result<()>>> {
        let flushed = Pin::new(&mut *self).poll_flush(cx);
        if let Poll::Ready(Ok(())) = flushed {
            return Some(Pin::new(self.get_mut().0).poll_shutdown(cx));
        }
        Some(flushed)
    }
}

impl AsyncRead for ResetOnDrop {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for ResetOnDrop {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
