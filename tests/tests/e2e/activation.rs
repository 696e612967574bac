//! A service manager holds the sockets, as systemd does for its socket units.

use std::{
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use command_fds::{CommandFdExt as _, FdMapping};
use nix::sys::signal::Signal;
use socket2::{Domain, Socket, Type};
use spectrum_tests::{
    Lab, client,
    daemon::{AppDocument, Daemon, HostDocument, Site},
    origin::{self, port},
    topology::address::EDGE,
};

use crate::harness::{Case, PATIENCE};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "activation::clients_wait_while_no_daemon_runs",
        needs: &["sh"],
        run: clients_wait_while_no_daemon_runs,
    },
    Case {
        name: "activation::a_socket_that_is_of_no_use_is_named",
        needs: &["sh"],
        run: a_socket_that_is_of_no_use_is_named,
    },
];

const STREAMS: AppDocument<'_> = AppDocument {
    keys: AT_EDGE,
    ..AppDocument::tcp("streams.lab", port::ECHO)
};
const DATAGRAMS: AppDocument<'_> = AppDocument {
    keys: AT_EDGE,
    ..AppDocument::udp("datagrams.lab", port::ECHO)
};

/// Where the sockets are.
const AT_EDGE: &str = "edge_ips = { type = \"static\", ips = [\"203.0.113.1\"] }";

/// The first descriptor that a service manager hands over.
const FIRST: i32 = 3;

/// Runs the daemon as systemd would: with the sockets from the third descriptor on.
fn activate(command: &mut Command, sockets: &[Socket]) -> Result<()> {
    // The process has to be named, and is not known before it is there.
    let mut wrapped = Command::new("sh");
    wrapped.args(["-c", "LISTEN_PID=$$ exec \"$0\" \"$@\""]);
    wrapped.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        wrapped.env(name, value.unwrap_or_default());
    }
    wrapped.env("LISTEN_FDS", sockets.len().to_string());
    let mapping = |(socket, child_fd): (&Socket, i32)| {
        let parent_fd = OwnedFd::from(socket.try_clone()?);
        anyhow::Ok(FdMapping {
            parent_fd,
            child_fd,
        })
    };
    let mappings = sockets.iter().zip(FIRST..).map(mapping);
    wrapped.fd_mappings(mappings.collect::<Result<_>>()?)?;
    *command = wrapped;
    Ok(())
}

fn start<'lab>(site: &Site<'lab>, sockets: &[Socket]) -> Result<Daemon<'lab>> {
    let mut activated = Ok(());
    let daemon = site.start_with(|command| activated = activate(command, sockets));
    activated?;
    daemon
}

fn clients_wait_while_no_daemon_runs() -> Result<()> {
    let lab = Lab::new()?;
    let _streams = origin::tcp_echo(&lab.origin, port::ECHO)?;
    let _datagrams = origin::udp_echo(&lab.origin, port::ECHO)?;
    let edge = SocketAddr::from((EDGE, port::ECHO));
    let sockets = lab.edge.namespace.run(|| -> Result<_> {
        let datagrams = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
        datagrams.bind(&edge.into())?;
        Ok([Socket::from(TcpListener::bind(edge)?), datagrams])
    })??;
    let site = Site::new(&lab, HostDocument::default())?;
    site.write_app(&STREAMS)?;
    site.write_app(&DATAGRAMS)?;

    let echo = |when: &'static str| {
        let stream = client::connect(&lab.client, None, edge, PATIENCE).context(when)?;
        client::echo_bytes(&stream, when.as_bytes()).context(when)?;
        let datagram = client::udp(&lab.client, None, edge)?;
        client::echo_datagram(&datagram, when.as_bytes()).context(when)
    };
    let mut daemon = start(&site, &sockets)?;
    // Both workers serve what comes to the one socket.
    (0..20).try_for_each(|_| echo("activated"))?;
    daemon.signal(Signal::SIGTERM)?;
    daemon.signal(Signal::SIGINT)?;
    daemon.wait()?;

    // Nobody is there, and nobody is refused.
    let stream = client::connect(&lab.client, None, edge, PATIENCE)?;
    let datagram = client::udp(&lab.client, None, edge)?;
    datagram.send(b"early")?;
    let daemon = start(&site, &sockets)?;
    client::echo_bytes(&stream, b"early").context("a client that waited")?;
    let mut answer = [0; 6];
    let length = datagram
        .recv(&mut answer)
        .context("a datagram that waited")?;
    ensure!(answer.get(..length) == Some(b"early".as_slice()));
    echo("again")?;
    drop(daemon);
    Ok(())
}

fn a_socket_that_is_of_no_use_is_named() -> Result<()> {
    let lab = Lab::new()?;
    let site = Site::new(&lab, HostDocument::default())?;
    site.write_app(&STREAMS)?;
    let elsewhere = lab.edge.namespace.run(|| TcpListener::bind((EDGE, 99)))??;
    let daemon = start(&site, &[elsewhere.into()])?;
    daemon.wait_for_log(&format!("tcp {EDGE}:99, where no app listens"))?;
    drop(daemon);

    let unbound = lab
        .edge
        .namespace
        .run(|| Socket::new(Domain::IPV4, Type::STREAM, None))??;
    let error = start(&site, &[unbound]).err().context("it runs")?;
    let said = format!("{error:#}");
    ensure!(
        said.contains("socket 1 of the service manager cannot be used"),
        "{said}"
    );
    Ok(())
}
