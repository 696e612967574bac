//! The services of the demonstration, and their clients.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::Result;

use crate::{
    Lab,
    client::{self, Http, Probe, Served},
    daemon::{AppDocument, Site},
    origin::{self, Server, Ssh, port},
    process::Process,
    requirements::find_program,
    topology::address::{EDGE, EDGE_V6},
};

/// Whatever is installed of real servers, and our own for the rest.
pub(super) struct Origins {
    http: HttpOrigin,
    ssh: Option<Ssh>,
    _echo: Server,
}

enum HttpOrigin {
    Nginx(#[expect(dead_code, reason = "held: it ends when dropped")] Process),
    Own(#[expect(dead_code, reason = "held: it ends when dropped")] Server),
}

impl Origins {
    pub(super) fn start(lab: &Lab) -> Result<Self> {
        let http = if find_program("nginx").is_some() {
            let root = lab.dir().join("www");
            std::fs::create_dir_all(&root)?;
            std::fs::write(root.join("index.html"), "served\n")?;
            HttpOrigin::Nginx(origin::nginx(lab, &root)?)
        } else {
            HttpOrigin::Own(origin::http(&lab.origin, port::HTTP)?)
        };
        let has_ssh = ["sshd", "ssh-keygen"]
            .map(find_program)
            .iter()
            .all(Option::is_some);
        Ok(Self {
            http,
            ssh: has_ssh.then(|| origin::ssh(lab)).transpose()?,
            _echo: origin::udp_echo(&lab.origin, port::ECHO)?,
        })
    }

    pub(super) fn describe(&self) -> String {
        let http = match self.http {
            HttpOrigin::Nginx(_) => "nginx",
            HttpOrigin::Own(_) => "HTTP (nginx is not installed: our own)",
        };
        let ssh = match self.ssh {
            Some(_) => "sshd",
            None => "no SSH (sshd is not installed)",
        };
        format!("{http} on tcp/80, {ssh} on tcp/22, UDP echo on udp/7")
    }

    pub(super) fn write_apps(&self, site: &Site<'_>) -> Result<()> {
        // Far above what one client of the demonstration needs, far below what a flood brings.
        let protection = "syn_rate = { mode = \"enforce\", per_second = 10, burst = 20 }";
        let tcp = |name, port| AppDocument {
            protection,
            ..AppDocument::tcp(name, port)
        };
        site.write_app(&tcp("http", port::HTTP))?;
        if self.ssh.is_some() {
            site.write_app(&tcp("ssh", port::SSH))?;
        }
        site.write_app(&AppDocument::udp("echo", port::ECHO))
    }
}

/// Clients of every service, over IPv4 and IPv6 by turns.
pub(super) struct Probes(Vec<(&'static str, Probe)>);

impl Probes {
    pub(super) fn start(lab: &Lab, origins: &Origins) -> Result<Self> {
        const PATIENCE: Duration = Duration::from_secs(3);
        let tcp = |ip: IpAddr, port: u16| {
            let host = lab.client.clone();
            move || client::connect(&host, None, SocketAddr::new(ip, port), PATIENCE)
        };
        let mut probes = Vec::new();
        for ip in [IpAddr::from(EDGE), EDGE_V6.into()] {
            let name = |v4, v6| if ip.is_ipv4() { v4 } else { v6 };
            let connect = tcp(ip, port::HTTP);
            let get = move || Http::new(connect()?).get("/index.html").map(drop);
            probes.push((name("http", "http v6"), Probe::start("http", EVERY, get)?));

            let host = lab.client.clone();
            let ping = move || {
                let socket = client::udp(&host, None, SocketAddr::new(ip, port::ECHO))?;
                client::echo_datagram(&socket, b"ping")
            };
            probes.push((name("echo", "echo v6"), Probe::start("echo", EVERY, ping)?));

            if origins.ssh.is_some() {
                let connect = tcp(ip, port::SSH);
                let greet = move || client::ssh_banner(&connect()?).map(drop);
                probes.push((name("ssh", "ssh v6"), Probe::start("ssh", EVERY, greet)?));
            }
        }
        Ok(Self(probes))
    }

    pub(super) fn served(&self) -> Vec<(&'static str, Served)> {
        let served = |(name, probe): &(&'static str, Probe)| (*name, probe.served());
        self.0.iter().map(served).collect()
    }

    /// Lets the attempts that are under way end, and counts them.
    pub(super) fn stop(self) -> Vec<(&'static str, Served)> {
        self.0.iter().for_each(|(_, probe)| probe.ask_to_stop());
        let stop = |(name, probe): (_, Probe)| (name, probe.stop());
        self.0.into_iter().map(stop).collect()
    }
}

const EVERY: Duration = Duration::from_millis(200);
