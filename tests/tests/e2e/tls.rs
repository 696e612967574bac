//! TLS that ends at the edge, between the programs that people use.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use spectrum_tests::{
    Lab,
    certificates::{Authority, Certificate},
    daemon::{AppDocument, HostDocument, output},
    origin::{self, port},
    topology::address::EDGE,
    wait,
};

use crate::harness::{Case, PATIENCE, Scene, noise, shielded_in};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "tls::curl_and_a_verified_nginx_agree_on_http_2",
        needs: &["curl", "nginx", "openssl"],
        run: curl_and_a_verified_nginx_agree_on_http_2,
    },
    Case {
        name: "tls::nobody_takes_the_place_of_the_origin",
        needs: &["curl", "nginx", "openssl"],
        run: nobody_takes_the_place_of_the_origin,
    },
    Case {
        name: "tls::curl_without_a_certificate_reaches_nobody",
        needs: &["curl", "nginx", "openssl"],
        run: curl_without_a_certificate_reaches_nobody,
    },
    Case {
        name: "tls::a_renewed_certificate_cuts_nobody_and_a_broken_one_changes_nothing",
        needs: &["openssl"],
        run: a_renewed_certificate_cuts_nobody_and_a_broken_one_changes_nothing,
    },
    Case {
        name: "tls::a_key_that_does_not_fit_is_found_before_the_start",
        needs: &["openssl"],
        run: a_key_that_does_not_fit_is_found_before_the_start,
    },
];

pub(crate) const NAME: &str = "www.lab";

pub(crate) fn authority(lab: &Lab) -> Result<Authority> {
    Authority::new(lab.dir().join("authority"))
}

/// `[client_tls]` with these certificates.
pub(crate) fn client_tls(certificates: &[&Certificate]) -> String {
    let listed: Vec<String> = certificates.iter().map(|one| one.to_toml()).collect();
    format!("[client_tls]\ncertificates = [{}]\n", listed.join(", "))
}

/// A file that a web server has; gives its content.
fn large_file(lab: &Lab) -> Result<(std::path::PathBuf, Vec<u8>)> {
    let root = lab.dir().join("www");
    fs::create_dir_all(&root)?;
    let large = noise(20_000_000);
    fs::write(root.join("large"), &large)?;
    Ok((root, large))
}

/// What curl gets from the edge, as a client who trusts the authority.
pub(crate) fn curl(
    lab: &Lab,
    authority: &Authority,
    arguments: &[&str],
) -> Result<std::process::Output> {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--max-time", "20", "--cacert"]);
    curl.arg(&authority.chain);
    curl.args(["--resolve", &format!("{NAME}:{}:{EDGE}", port::HTTPS)]);
    curl.args(arguments)
        .arg(format!("https://{NAME}:{}/large", port::HTTPS));
    output(&lab.client, &mut curl)
}

/// Waits for a line of the event log that has all of `parts`.
fn wait_for_event(scene: &Scene<'_>, parts: &[&str]) -> Result<()> {
    wait::until("an event", PATIENCE, || {
        let events = fs::read_to_string(scene.site.events())?;
        let mut lines = events.lines();
        let found = lines.any(|line| parts.iter().all(|part| line.contains(part)));
        ensure!(found, "no event with {parts:?} in:\n{events}");
        Ok(())
    })
}

fn curl_and_a_verified_nginx_agree_on_http_2() -> Result<()> {
    let lab = Lab::new()?;
    let authority = authority(&lab)?;
    let (root, large) = large_file(&lab)?;
    let _nginx = origin::nginx_tls(&lab, &root, &authority.sign("origin.internal")?)?;
    let tables = format!(
        "{}[origin_tls]\nserver_name = \"origin.internal\"\nca = {:?}\n",
        client_tls(&[&authority.sign(NAME)?]),
        authority.chain
    );
    let app = AppDocument {
        keys: "tls = \"strict\"",
        tables: &tables,
        ..AppDocument::tcp(NAME, port::HTTPS)
    };
    shielded_in(&lab, HostDocument::default(), &[app], |scene| {
        let got = lab.dir().join("got");
        for (wanted, expected) in [("--http2", "2"), ("--http1.1", "1.1")] {
            let file = got.display().to_string();
            let arguments = [wanted, "--write-out", "%{http_version}", "--output", &file];
            let curl = curl(&lab, &authority, &arguments)?;
            let complaint = String::from_utf8_lossy(&curl.stderr);
            ensure!(curl.status.success(), "curl {wanted}: {complaint}");
            ensure!(curl.stdout == expected.as_bytes(), "{:?}", curl.stdout);
            ensure!(fs::read(&got)? == large, "20 MB arrived changed");
        }
        wait_for_event(
            &scene,
            &[
                "\"Event\":\"disconnect\"",
                "\"Status\":200",
                "\"ClientTlsClientHelloServerName\":\"www.lab\"",
                "\"ClientTlsProtocol\":\"TLSv1.3\"",
                "\"ClientTlsStatus\":\"OK\"",
                "\"OriginTlsMode\":\"strict\"",
                "\"OriginTlsStatus\":\"OK\"",
            ],
        )
    })
}

fn nobody_takes_the_place_of_the_origin() -> Result<()> {
    let lab = Lab::new()?;
    let authority = authority(&lab)?;
    let (root, _) = large_file(&lab)?;
    let stranger = Authority::new(lab.dir().join("stranger"))?;
    let nginx = origin::nginx_tls(&lab, &root, &stranger.sign("origin.internal")?)?;
    let tables = format!(
        "{}[origin_tls]\nserver_name = \"origin.internal\"\nca = {:?}\n",
        client_tls(&[&authority.sign(NAME)?]),
        authority.chain
    );
    let app = AppDocument {
        keys: "tls = \"strict\"",
        tables: &tables,
        ..AppDocument::tcp(NAME, port::HTTPS)
    };
    shielded_in(&lab, HostDocument::default(), &[app], |scene| {
        let curl = curl(&lab, &authority, &[])?;
        ensure!(!curl.status.success(), "curl got what the stranger serves");
        wait_for_event(
            &scene,
            &[
                "\"Event\":\"tlsError\"",
                "\"Status\":540",
                "\"OriginTlsStatus\":\"HANDSHAKE_FAILED\"",
            ],
        )?;
        scene.daemon.wait_for_log("invalid peer certificate")?;
        drop(nginx);
        Ok(())
    })
}

fn curl_without_a_certificate_reaches_nobody() -> Result<()> {
    let lab = Lab::new()?;
    let authority = authority(&lab)?;
    let (root, large) = large_file(&lab)?;
    let _nginx = origin::nginx_tls(&lab, &root, &authority.sign("origin.internal")?)?;
    let tables = format!(
        "{}ca = {:?}\n",
        client_tls(&[&authority.sign(NAME)?]),
        authority.chain
    );
    let app = AppDocument {
        keys: "tls = \"full\"",
        tables: &tables,
        ..AppDocument::tcp(NAME, port::HTTPS)
    };
    shielded_in(&lab, HostDocument::default(), &[app], |scene| {
        // With a choice of protocols, the origin is asked for its own first.
        let refused = curl(&lab, &authority, &["--no-alpn"])?;
        ensure!(!refused.status.success(), "curl without a certificate");
        wait_for_event(
            &scene,
            &[
                "\"Event\":\"tlsError\"",
                "\"Status\":443",
                "\"OriginTlsStatus\":\"UNKNOWN\"",
            ],
        )?;
        let client = authority.sign("client")?;
        let [chain, key] = [&client.chain, &client.key].map(|path| path.display().to_string());
        let served = curl(&lab, &authority, &["--cert", &chain, "--key", &key])?;
        ensure!(served.stdout == large, "20 MB arrived changed");
        Ok(())
    })
}

/// `openssl s_client`, left open.
struct Terminal {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Terminal {
    fn open(lab: &Lab, authority: &Authority) -> Result<Self> {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-quiet", "-no_ign_eof", "-verify_return_error"]);
        command.args(["-servername", NAME, "-connect"]);
        command.arg(format!("{EDGE}:{}", port::ECHO));
        command.arg("-CAfile").arg(&authority.chain);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(Stdio::null());
        let mut child = lab.client.namespace.run(|| command.spawn())??;
        let stdin = child.stdin.take().context("no input")?;
        let stdout = BufReader::new(child.stdout.take().context("no output")?);
        Ok(Self {
            child,
            stdin,
            stdout,
        })
    }

    fn echo(&mut self, text: &str) -> Result<()> {
        writeln!(self.stdin, "{text}")?;
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        ensure!(line.trim_end() == text, "{line:?} instead of {text:?}");
        Ok(())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn a_renewed_certificate_cuts_nobody_and_a_broken_one_changes_nothing() -> Result<()> {
    let lab = Lab::new()?;
    let (old, new) = (authority(&lab)?, Authority::new(lab.dir().join("new"))?);
    let certificate = old.sign(NAME)?;
    let tables = client_tls(&[&certificate]);
    let app = AppDocument {
        keys: "tls = \"flexible\"",
        tables: &tables,
        ..AppDocument::tcp(NAME, port::ECHO)
    };
    let _echo = origin::tcp_echo(&lab.origin, port::ECHO)?;
    shielded_in(&lab, HostDocument::default(), &[app], |scene| {
        let mut session = Terminal::open(&lab, &old)?;
        session.echo("before")?;
        let renewed = new.sign(NAME)?;
        fs::copy(&renewed.chain, &certificate.chain)?;
        fs::copy(&renewed.key, &certificate.key)?;
        wait::until("the new certificate", PATIENCE, || {
            Terminal::open(&lab, &new)?.echo("renewed")
        })?;
        session.echo("through the change")?;

        fs::write(&certificate.key, "broken")?;
        scene.daemon.wait_for_log("has no private key")?;
        let shown = scene.site.run("status", &[] as &[&str])?;
        ensure!(shown.contains("has no private key"), "{shown}");
        Terminal::open(&lab, &new)?.echo("still served")?;
        session.echo("still open")
    })
}

fn a_key_that_does_not_fit_is_found_before_the_start() -> Result<()> {
    let lab = Lab::new()?;
    let authority = authority(&lab)?;
    let (right, wrong) = (authority.sign(NAME)?, authority.sign("other")?);
    let fitting = client_tls(&[&right]);
    let mixed = client_tls(&[&Certificate {
        key: wrong.key,
        ..right
    }]);
    let app = |tables| AppDocument {
        keys: "tls = \"flexible\"",
        tables,
        ..AppDocument::tcp(NAME, port::ECHO)
    };
    shielded_in(&lab, HostDocument::default(), &[app(&fitting)], |scene| {
        scene.site.write_app(&app(&mixed))?;
        scene.daemon.wait_for_log("nothing changed")?;
        let check = scene.site.attempt("check", &[] as &[&str])?;
        let complaint = String::from_utf8(check.stderr)?;
        ensure!(!check.status.success());
        for part in ["www.lab.toml", "client_tls.certificates[0].key", "help: "] {
            ensure!(complaint.contains(part), "no {part:?} in:\n{complaint}");
        }
        Ok(())
    })
}
