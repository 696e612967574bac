//! Connections that are open and do nothing.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{Job, Load, connect};

/// Opens connections, sends one byte there and back on each, prints the line [`Idle::READY`],
/// keeps them until standard input ends, and makes sure that each still works.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Idle {
    /// A [`Server::Echo`](super::Server::Echo).
    pub to: SocketAddr,
    pub connections: usize,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct IdleReport {
    /// That worked at the end.
    pub connections: usize,
}

impl Idle {
    /// Printed once all connections are open.
    pub const READY: &str = "ready";
}

impl From<Idle> for Job {
    fn from(load: Idle) -> Self {
        Self::Idle(load)
    }
}

impl Load for Idle {
    type Report = IdleReport;

    fn run(&self) -> Result<IdleReport> {
        let streams = (1..=self.connections)
            .map(|number| {
                let stream = connect(self.to).with_context(|| format!("connection {number}"))?;
                exchange(&stream).with_context(|| format!("connection {number}"))?;
                Ok(stream)
            })
            .collect::<Result<Vec<_>>>()?;
        writeln!(io::stdout(), "{}", Self::READY)?;
        io::copy(&mut io::stdin(), &mut io::sink())?;
        for stream in &streams {
            exchange(stream).context("a connection did not survive its rest")?;
        }
        Ok(IdleReport {
            connections: streams.len(),
        })
    }
}

fn exchange(mut stream: &TcpStream) -> io::Result<()> {
    stream.write_all(b"?")?;
    stream.read_exact(&mut [0])
}
