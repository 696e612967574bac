//! Several servers behind one port.

use std::{fs, io::Write as _, process::Command};

use anyhow::{Result, ensure};
use spectrum_tests::{
    Lab,
    certificates::{Authority, Certificate},
    client,
    daemon::{AppDocument, HostDocument, output},
    origin::{self, port},
    process::Process,
    topology::address::{EDGE, ORIGIN},
    wait,
};

use crate::harness::{Case, PATIENCE, shielded_in};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "routing::curl_reaches_the_server_that_it_names",
        needs: &["curl", "openssl"],
        run: curl_reaches_the_server_that_it_names,
    },
    Case {
        name: "routing::players_reach_the_server_that_they_name",
        needs: &[],
        run: players_reach_the_server_that_they_name,
    },
];

/// `openssl s_server`, which shows whoever comes its certificate.
fn tls_server(lab: &Lab, port: u16, certificate: &Certificate) -> Result<Process> {
    let mut openssl = Command::new("openssl");
    openssl.args(["s_server", "-quiet", "-www", "-accept", &port.to_string()]);
    openssl.arg("-cert").arg(&certificate.chain);
    openssl.arg("-key").arg(&certificate.key);
    let name = format!("openssl-{port}");
    let mut process = Process::start(lab, &lab.origin, &name, &mut openssl)?;
    process.wait_ready(PATIENCE, || {
        client::connect(&lab.origin, None, (ORIGIN, port).into(), PATIENCE)?;
        Ok(())
    })?;
    Ok(process)
}

/// Each server has a certificate for its own name, so that curl is content with no other.
fn curl_reaches_the_server_that_it_names() -> Result<()> {
    let lab = Lab::new()?;
    let authority = Authority::new(lab.dir().join("authority"))?;
    let _www = tls_server(&lab, port::HTTPS, &authority.sign("www.lab")?)?;
    let _git = tls_server(&lab, 8443, &authority.sign("git.lab")?)?;
    let tables = format!(
        "[routing]\nby = \"tls\"\n[[routing.routes]]\nhosts = [\"git.lab\"]\n\
         origin_direct = [\"tcp://{ORIGIN}:8443\"]\n"
    );
    let app = AppDocument {
        tables: &tables,
        ..AppDocument::tcp("www.lab", port::HTTPS)
    };
    shielded_in(&lab, HostDocument::default(), &[app], |_| {
        for name in ["www.lab", "git.lab"] {
            let mut curl = Command::new("curl");
            curl.args(["--silent", "--show-error", "--max-time", "20", "--cacert"]);
            curl.arg(&authority.chain);
            curl.args(["--resolve", &format!("{name}:{}:{EDGE}", port::HTTPS)]);
            curl.arg(format!("https://{name}/"));
            let curl = output(&lab.client, &mut curl)?;
            let complaint = String::from_utf8_lossy(&curl.stderr);
            ensure!(curl.status.success(), "curl {name}: {complaint}");
        }
        Ok(())
    })
}

fn players_reach_the_server_that_they_name() -> Result<()> {
    const SURVIVAL: u16 = 25566;
    let lab = Lab::new()?;
    let _servers = [25565, SURVIVAL].map(|port| origin::tcp_echo(&lab.origin, port));
    let tables = format!(
        "[routing]\nby = \"minecraft\"\nunknown = \"refuse\"\n[[routing.routes]]\n\
         hosts = [\"*.survival.lab\"]\norigin_direct = [\"tcp://{ORIGIN}:{SURVIVAL}\"]\n"
    );
    let app = AppDocument {
        tables: &tables,
        ..AppDocument::tcp("play.lab", 25565)
    };
    shielded_in(&lab, HostDocument::default(), &[app], |scene| {
        let edge = (EDGE, 25565).into();
        // Length, packet, protocol 767, address, port, "status".
        let handshake = |host: &str| {
            let length = u8::try_from(host.len()).unwrap();
            let packet = [&[0, 0xff, 5, length], host.as_bytes(), &[0x63, 0xdd, 1]].concat();
            [&[u8::try_from(packet.len()).unwrap()], &packet[..]].concat()
        };
        let player = client::connect(&lab.client, None, edge, PATIENCE)?;
        client::echo_bytes(&player, &handshake("eu.survival.lab"))?;
        drop(player);
        let mut stranger = client::connect(&lab.client, None, edge, PATIENCE)?;
        stranger.write_all(&handshake("creative.lab"))?;
        let reached = format!("\"OriginPort\":{SURVIVAL},");
        wait::until("the events", PATIENCE, || {
            let events = fs::read_to_string(scene.site.events())?;
            let has = |parts: [&str; 2]| {
                let mut lines = events.lines();
                lines.any(|line| parts.iter().all(|part| line.contains(part)))
            };
            ensure!(has(["\"Event\":\"connect\"", &reached]), "{events}");
            let refused = ["\"Event\":\"clientFiltered\"", "\"Status\":400"];
            ensure!(has(refused), "{events}");
            Ok(())
        })
    })
}
