//! What is protected: real servers on the origin host, and small ones of our own where a test must
//! see what arrives.
//!
//! Every server listens on both families, and is ready when its function returns.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    Lab, certificates::Certificate, process::Process, requirements::find_program,
    topology::address::ORIGIN,
};

mod own;

pub use own::{Server, http, tcp_echo, tcp_named, udp_echo, udp_named, udp_repeater};

/// The origin's ports; by default those of the protocols.
pub mod port {
    pub const SSH: u16 = 22;
    pub const HTTP: u16 = 80;
    /// nginx again, which here demands a PROXY header.
    pub const HTTP_PROXIED: u16 = 81;
    pub const HTTPS: u16 = 443;
    pub const DNS: u16 = 53;
    pub const ECHO: u16 = 7;
    pub const REDIS: u16 = 6379;
    pub const IPERF: u16 = 5201;
}

const PATIENCE: Duration = Duration::from_secs(10);

/// nginx: the files in `root` on [`port::HTTP`] and [`port::HTTP_PROXIED`], and at `/address` the
/// address that it believes the client has.
///
/// # Errors
/// nginx is not installed, or does not start.
pub fn nginx(lab: &Lab, root: &Path) -> Result<Process> {
    let server = |listen: &str, address: &str| {
        format!(
            "server {{
                listen 0.0.0.0:{listen}; listen [::]:{listen};
                root {};
                location = /address {{ return 200 \"{address}\\n\"; }}
            }}\n",
            root.display()
        )
    };
    let plain = server(&port::HTTP.to_string(), "$remote_addr");
    let proxied = format!("{} proxy_protocol", port::HTTP_PROXIED);
    let proxied = server(&proxied, "$proxy_protocol_addr $proxy_protocol_port");
    start_nginx(lab, &format!("{plain} {proxied}"), port::HTTP)
}

/// nginx with TLS and HTTP/2: the files in `root` on [`port::HTTPS`].
///
/// # Errors
/// nginx is not installed, or does not start.
pub fn nginx_tls(lab: &Lab, root: &Path, certificate: &Certificate) -> Result<Process> {
    let port = port::HTTPS;
    let server = format!(
        "server {{
            listen 0.0.0.0:{port} ssl http2; listen [::]:{port} ssl http2;
            ssl_certificate {}; ssl_certificate_key {};
            root {};
        }}\n",
        certificate.chain.display(),
        certificate.key.display(),
        root.display()
    );
    start_nginx(lab, &server, port)
}

fn start_nginx(lab: &Lab, servers: &str, port: u16) -> Result<Process> {
    let prefix = lab.dir().join("nginx");
    fs::create_dir_all(&prefix)?;
    let scratch: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {name};\n"))
        .concat();
    let configuration = format!(
        "daemon off; user root; worker_processes 1; pid nginx.pid; error_log stderr;
         events {{ worker_connections 4096; }}
         http {{ access_log off; keepalive_requests 100000; {scratch} {servers} }}\n"
    );
    fs::write(prefix.join("nginx.conf"), configuration)?;
    let mut command = Command::new(program("nginx")?);
    command
        .arg("-p")
        .arg(&prefix)
        .args(["-c", "nginx.conf", "-e", "stderr"]);
    start(lab, "nginx", &mut command, port)
}

/// An SSH server with a key of its own, and the key that opens it.
#[derive(Debug)]
pub struct Ssh {
    pub server: Process,
    /// Private key of the user `root`.
    pub identity: PathBuf,
}

/// OpenSSH on [`port::SSH`].
///
/// # Errors
/// sshd or ssh-keygen is not installed, or does not start.
pub fn ssh(lab: &Lab) -> Result<Ssh> {
    let directory = lab.dir().join("ssh");
    fs::create_dir_all(&directory)?;
    let host_key = generate_key(&directory, "host_key")?;
    let identity = generate_key(&directory, "identity")?;
    let configuration = directory.join("sshd_config");
    fs::write(
        &configuration,
        format!(
            "Port {}
             HostKey {}
             AuthorizedKeysFile {}.pub
             PidFile none
             UsePAM no
             StrictModes no
             PasswordAuthentication no
             PermitRootLogin prohibit-password
             MaxStartups 1000
             Subsystem sftp internal-sftp\n",
            port::SSH,
            host_key.display(),
            identity.display(),
        ),
    )?;
    // Where sshd locks its unprivileged half up; systemd makes it when the service starts.
    fs::create_dir_all("/run/sshd")?;
    let mut command = Command::new(program("sshd")?);
    command.args(["-D", "-e", "-f"]).arg(&configuration);
    let server = start(lab, "sshd", &mut command, port::SSH)?;
    Ok(Ssh { server, identity })
}

fn generate_key(directory: &Path, name: &str) -> Result<PathBuf> {
    let path = directory.join(name);
    let mut command = Command::new(program("ssh-keygen")?);
    command
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&path);
    let output = command.output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(path)
}

/// Redis on [`port::REDIS`], without persistence.
///
/// # Errors
/// redis-server is not installed, or does not start.
pub fn redis(lab: &Lab) -> Result<Process> {
    let mut command = Command::new(program("redis-server")?);
    command.args([
        "--bind",
        "0.0.0.0",
        "::",
        "--protected-mode",
        "no",
        "--save",
        "",
    ]);
    command.arg("--dir").arg(lab.dir());
    start(lab, "redis-server", &mut command, port::REDIS)
}

/// dnsmasq with these records alone, each of which is good for a second.
///
/// # Errors
/// dnsmasq is not installed, or does not start.
pub fn dns(lab: &Lab, records: &[String]) -> Result<Process> {
    let mut command = Command::new(program("dnsmasq")?);
    command
        .args(["--keep-in-foreground", "--conf-file=/dev/null"])
        .args(["--no-resolv", "--no-hosts", "--local=/lab/", "--user=root"])
        .args(["--pid-file=", "--log-facility=-", "--local-ttl=1"])
        .args(records);
    start(lab, "dnsmasq", &mut command, port::DNS)
}

/// iperf3 on [`port::IPERF`].
///
/// # Errors
/// iperf3 is not installed, or does not start.
pub fn iperf(lab: &Lab) -> Result<Process> {
    let mut command = Command::new(program("iperf3")?);
    command.arg("-s");
    start(lab, "iperf3", &mut command, port::IPERF)
}

fn program(name: &str) -> Result<PathBuf> {
    find_program(name).with_context(|| format!("{name} is not installed"))
}

fn start(lab: &Lab, name: &str, command: &mut Command, port: u16) -> Result<Process> {
    let mut process = Process::start(lab, &lab.origin, name, command)?;
    let address = SocketAddr::from((ORIGIN, port));
    let connect = || TcpStream::connect_timeout(&address, Duration::from_secs(1));
    process.wait_ready(PATIENCE, || {
        lab.origin.namespace.run(connect)?.context("connecting")?;
        Ok(())
    })?;
    Ok(process)
}
