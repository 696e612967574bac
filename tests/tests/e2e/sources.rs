//! From which address the origin sees connections come.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
};

use anyhow::{Context as _, Result, ensure};
use spectrum_tests::{
    Lab, client,
    daemon::{AppDocument, HostDocument, Site},
    origin::port,
    topology::{
        BACK, ETH0,
        address::{CLIENT, EDGE, EDGE_BACK, ORIGIN},
    },
};

use crate::harness::{Case, PATIENCE, shielded_in};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "sources::an_app_comes_from_a_pool_of_addresses",
        needs: &["ip"],
        run: an_app_comes_from_a_pool_of_addresses,
    },
    Case {
        name: "sources::a_transparent_app_comes_from_the_address_of_its_client",
        needs: &["ip"],
        run: a_transparent_app_comes_from_the_address_of_its_client,
    },
    Case {
        name: "sources::an_address_of_another_host_is_refused_at_the_start",
        needs: &[],
        run: an_address_of_another_host_is_refused_at_the_start,
    },
];

const SECOND: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 7);

/// Both transports of an app, with a table `origins`.
fn apps(tables: &str) -> [AppDocument<'_>; 2] {
    [
        AppDocument {
            tables,
            ..AppDocument::tcp("streams.lab", port::ECHO)
        },
        AppDocument {
            tables,
            ..AppDocument::udp("datagrams.lab", port::ECHO)
        },
    ]
}

/// An origin that knows whom it talks to.
struct Origin {
    streams: TcpListener,
    datagrams: UdpSocket,
}

impl Origin {
    fn open(lab: &Lab) -> Result<Self> {
        let address = (ORIGIN, port::ECHO);
        lab.origin.namespace.run(|| {
            let datagrams = UdpSocket::bind(address)?;
            datagrams.set_read_timeout(Some(PATIENCE))?;
            let streams = TcpListener::bind(address)?;
            Ok(Self { streams, datagrams })
        })?
    }

    /// A connection and a session of a client; the addresses that they come from. Answers get back to
    /// the client.
    fn meet(&self, lab: &Lab) -> Result<[IpAddr; 2]> {
        let edge = SocketAddr::from((EDGE, port::ECHO));
        let client = client::connect(&lab.client, None, edge, PATIENCE)?;
        let (origin, from) = self.streams.accept()?;
        std::io::Write::write_all(&mut &origin, b"welcome")?;
        let mut answer = [0; 7];
        std::io::Read::read_exact(&mut &client, &mut answer).context("over TCP")?;

        let player = client::udp(&lab.client, None, edge)?;
        player.send(b"hello")?;
        let (_, of_session) = self.datagrams.recv_from(&mut answer)?;
        self.datagrams.send_to(b"welcome", of_session)?;
        player.recv(&mut answer).context("over UDP")?;
        Ok([from.ip(), of_session.ip()])
    }
}

fn an_app_comes_from_a_pool_of_addresses() -> Result<()> {
    let lab = Lab::new()?;
    lab.edge.add_address(BACK, SECOND.into())?;
    let origin = Origin::open(&lab)?;
    let tables = format!("[origins]\nsources = [\"{EDGE_BACK}\", \"{SECOND}\"]");
    shielded_in(&lab, HostDocument::default(), &apps(&tables), |scene| {
        let met = (0..4).map(|_| origin.meet(scene.lab));
        let met: Vec<_> = met.collect::<Result<_>>()?;
        let pool = BTreeSet::from([EDGE_BACK, SECOND].map(IpAddr::from));
        for transport in [0, 1] {
            let seen: BTreeSet<_> = met.iter().map(|met| met[transport]).collect();
            ensure!(seen == pool, "{seen:?}");
        }
        Ok(())
    })
}

fn a_transparent_app_comes_from_the_address_of_its_client() -> Result<()> {
    let lab = Lab::new()?;
    // As docs/configuration.md says.
    let gateway = format!("route add default via {EDGE_BACK} dev {ETH0}\n");
    lab.origin.namespace.ip(&gateway)?;
    let takes =
        format!("route add local default dev lo table 100\nrule add iif {BACK} lookup 100\n");
    lab.edge.namespace.ip(&takes)?;
    let origin = Origin::open(&lab)?;
    let apps = apps("[origins]\ntransparent = true");
    shielded_in(&lab, HostDocument::default(), &apps, |scene| {
        for _ in 0..3 {
            let met = origin.meet(scene.lab)?;
            ensure!(met == [IpAddr::from(CLIENT); 2], "{met:?}");
        }
        Ok(())
    })
}

fn an_address_of_another_host_is_refused_at_the_start() -> Result<()> {
    let lab = Lab::new()?;
    let site = Site::new(&lab, HostDocument::default())?;
    let tables = format!("[origins]\nsources = [\"{SECOND}\"]");
    let [app, _] = apps(&tables);
    site.write_app(&app)?;
    let error = site.start().err().context("it runs")?;
    let said = format!("{error:#}");
    let expected = format!("connections cannot come from {SECOND}");
    ensure!(said.contains(&expected), "{said}");
    Ok(())
}
