//! Sockets that the service manager holds, so that clients wait while no daemon runs
//! (sd_listen_fds(3)).

use anyhow::{Context as _, Result};
use listenfd::ListenFd;
use socket2::Socket;

use crate::proxy::Proxy;

/// Takes what the service manager hands over; nothing if there is none. Once in the life of the
/// process, before it has other threads: they are named in its environment, and no more afterwards.
pub(super) fn take() -> Result<Vec<Socket>> {
    let mut handed = ListenFd::from_env();
    (0..handed.len())
        .map(|place| socket(&mut handed, place))
        .collect()
}

fn socket(handed: &mut ListenFd, place: usize) -> Result<Socket> {
    // Each kind is refused where the other is asked for, and stays there.
    let stream = handed.take_tcp_listener(place).ok().flatten();
    let socket = match stream {
        Some(listener) => Some(Socket::from(listener)),
        None => handed
            .take_udp_socket(place)
            .with_context(|| refusal(place))?
            .map(Socket::from),
    };
    socket.with_context(|| refusal(place))
}

/// Lets the proxy listen on them.
pub(super) async fn hand_over(sockets: Vec<Socket>, proxy: &Proxy) -> Result<()> {
    let taken = proxy.activate(sockets).await;
    taken.map_err(|(place, error)| anyhow::Error::new(error).context(refusal(place)))
}

fn refusal(place: usize) -> String {
    let number = place + 1;
    format!(
        "socket {number} of the service manager cannot be used\n  help: each has to be a TCP listener \
         (ListenStream=) or a UDP socket (ListenDatagram=) at the address and port of an app"
    )
}
