//! Sockets with the options that the proxy wants, before a runtime has them.

use std::{
    io, mem,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, AsRawFd as _},
    time::Duration,
};

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use super::plan::Bind;
use crate::config::Transport;

/// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// A peer that is gone without a word is noticed after about two minutes.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(60))
    .with_interval(Duration::from_secs(15))
    .with_retries(4);

/// Binds one socket of a group that shares `bind`.
///
/// `alone` says that no other socket, of whomever, may be bound there yet: without it, another
/// process of the same user could silently get a part of the clients.
pub(super) fn bind(bind: &Bind, alone: bool) -> io::Result<Socket> {
    let (kind, protocol) = match bind.transport {
        Transport::Tcp => (Type::STREAM, Protocol::TCP),
        Transport::Udp => (Type::DGRAM, Protocol::UDP),
    };
    let domain = Domain::for_address(bind.address);
    let socket = Socket::new(domain, kind.nonblocking().cloexec(), Some(protocol))?;
    if bind.address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if bind.transport == Transport::Tcp {
        // Connections of an earlier listener may still be open.
        socket.set_reuse_address(true)?;
        // Accepted connections inherit these.
        prepare_stream(&socket)?;
    }
    if !alone {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&bind.address.into())?;
    if alone {
        socket.set_reuse_port(true)?;
    }
    Ok(socket)
}

/// Makes a socket that another program has bound like one of ours, and says where it is.
///
/// # Errors
/// It is none for clients: no TCP listener, and no UDP socket.
pub(super) fn prepare(socket: &Socket) -> io::Result<Bind> {
    let kind = socket.r#type()?;
    let transport = match kind {
        Type::STREAM if socket.is_listener()? => Transport::Tcp,
        Type::DGRAM => Transport::Udp,
        _ => {
            return Err(io::Error::other(
                "it is neither a TCP listener nor a UDP socket",
            ));
        }
    };
    let address = socket.local_addr()?;
    let Some(address) = address.as_socket() else {
        return Err(io::Error::other("it has no IP address"));
    };
    socket.set_nonblocking(true)?;
    socket.set_cloexec(true)?;
    if transport == Transport::Tcp {
        prepare_stream(socket)?;
    }
    Ok(Bind { transport, address })
}

/// From which address a socket speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outgoing {
    /// The one that the route to the peer has.
    Route,
    /// This one of the host.
    Own(IpAddr),
    /// This one, which is not of the host; it has to be routed back here (`IP_TRANSPARENT`, needs
    /// `CAP_NET_ADMIN`).
    Foreign(IpAddr),
}

impl Outgoing {
    /// One of these addresses of the host, of the same family as the peer's, in turn.
    pub(super) fn of_pool(pool: &[IpAddr], peer: IpAddr, turn: usize) -> Self {
        let usable = || pool.iter().filter(|ip| ip.is_ipv4() == peer.is_ipv4());
        let turn = turn.checked_rem(usable().count());
        let ip = turn.and_then(|turn| usable().nth(turn));
        ip.map_or(Self::Route, |ip| Self::Own(*ip))
    }

    /// Before the socket is connected.
    pub(super) fn bind<'s>(self, socket: impl Into<SockRef<'s>>) -> io::Result<()> {
        let socket = socket.into();
        let ip = match self {
            Self::Route => return Ok(()),
            Self::Own(ip) | Self::Foreign(ip) => ip,
        };
        if matches!(self, Self::Foreign(_)) {
            let (level, name) = match ip {
                IpAddr::V4(_) => (libc::SOL_IP, libc::IP_TRANSPARENT),
                IpAddr::V6(_) => (libc::SOL_IPV6, libc::IPV6_TRANSPARENT),
            };
            set_option(&*socket, level, name, 1)?;
        }
        // So that a port is taken for one peer, not for all (Linux 4.2).
        set_option(&*socket, libc::SOL_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
        socket.bind(&SocketAddr::new(ip, 0).into())
    }
}

/// Clients can connect from now on.
pub(super) fn listen(socket: &Socket) -> io::Result<()> {
    socket.listen(BACKLOG)
}

/// What holds for connections on both sides.
pub(super) fn prepare_stream<'s>(socket: impl Into<SockRef<'s>>) -> io::Result<()> {
    let socket = socket.into();
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&KEEPALIVE)
}

/// Whether this host, not its peer, is to blame that there is no connection.
pub(super) fn is_short_of_something(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::EMFILE
                | libc::ENFILE
                | libc::ENOBUFS
                | libc::ENOMEM
                | libc::EADDRNOTAVAIL
                | libc::EAGAIN
        )
    )
}

/// A UDP socket that is connected to an origin.
pub(super) fn connect_udp(origin: SocketAddr, from: Outgoing) -> io::Result<std::net::UdpSocket> {
    let domain = Domain::for_address(origin);
    let kind = Type::DGRAM.nonblocking().cloexec();
    let socket = Socket::new(domain, kind, Some(Protocol::UDP))?;
    from.bind(&socket)?;
    socket.connect(&origin.into())?;
    Ok(socket.into())
}

/// Sets a socket up as `quinn-udp` needs it to receive.
pub(super) fn prepare_to_gather(
    socket: std::net::UdpSocket,
    peer: IpAddr,
) -> io::Result<std::net::UdpSocket> {
    set_option(&socket, libc::SOL_UDP, libc::UDP_GRO, 1)?;
    let options = SockRef::from(&socket);
    match peer {
        IpAddr::V4(_) => options.set_recv_tos_v4(true)?,
        IpAddr::V6(_) => options.set_recv_tclass_v6(true)?,
    }
    Ok(socket)
}

/// Lets the kernel fragment datagrams that are too big for the path, as it does by default.
/// `quinn-udp` forbids it, because QUIC wants to know; other protocols would lose them.
pub(super) fn allow_fragments(socket: &impl AsFd, family: IpAddr) -> io::Result<()> {
    let ip = (
        libc::IPPROTO_IP,
        libc::IP_MTU_DISCOVER,
        libc::IP_PMTUDISC_WANT,
    );
    set_option(socket, ip.0, ip.1, ip.2)?;
    if family.is_ipv6() {
        let level = libc::IPPROTO_IPV6;
        set_option(
            socket,
            level,
            libc::IPV6_MTU_DISCOVER,
            libc::IPV6_PMTUDISC_WANT,
        )?;
        set_option(socket, level, libc::IPV6_DONTFRAG, 0)?;
    }
    Ok(())
}

/// TCP's smoothed round-trip time; zero if the kernel does not tell.
pub(super) fn round_trip(socket: &impl AsFd) -> Duration {
    let round_trip = tcp_info(socket).map_or(0, |info| info.tcpi_rtt);
    Duration::from_micros(round_trip.into())
}

/// What this host said of itself when it accepted a connection.
#[derive(Clone, Copy, Debug)]
pub struct Handshake {
    /// Bytes that it can receive.
    pub window: u32,
    /// By how many bits its windows are shifted.
    pub window_scale: u8,
}

/// The handshake of a connection on which nothing has been received yet.
///
/// # Errors
/// It is none, or broken.
pub fn handshake_of(accepted: &impl AsFd) -> io::Result<Handshake> {
    let info = tcp_info(accepted)?;
    // A bit field of two: what the peer shifts by, and what we do.
    let scales = info.tcpi_snd_rcv_wscale;
    Ok(Handshake {
        window: info.tcpi_rcv_ssthresh,
        window_scale: if cfg!(target_endian = "little") {
            scales >> 4
        } else {
            scales & 0xf
        },
    })
}

fn tcp_info(socket: &impl AsFd) -> io::Result<libc::tcp_info> {
    // SAFETY: the struct holds only integers, for which zero is a value.
    let mut info: libc::tcp_info = unsafe { mem::zeroed() };
    let mut length = length_of(&info);
    // SAFETY: the kernel writes at most `length` bytes to `info`, and the new length to `length`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    if result == 0 {
        Ok(info)
    } else {
        Err(io::Error::last_os_error())
    }
}

fn set_option(socket: &impl AsFd, level: i32, name: i32, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the kernel reads `size_of(value)` bytes from `value`.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            length_of(&value),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[expect(clippy::cast_possible_truncation, reason = "an option is small")]
fn length_of<T>(option: &T) -> libc::socklen_t {
    size_of_val(option) as libc::socklen_t
}
