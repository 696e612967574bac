//! What the host must have for the filters to answer SYNs in its place: settings of its TCP, and
//! listeners that take what comes back.

use std::{
    collections::HashSet,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use socket2::{Domain, SockRef, Socket, Type};

use super::{
    shield::Shield,
    sysctl::{self, COOKIES, Sysctls, TIMESTAMPS},
};
use crate::{
    config::{AppId, Config, SynAnswers, When},
    dataplane::Terms,
    proxy,
};

/// How often listeners are marked. A mark lasts two minutes, and the program relies on the first
/// hundred seconds.
pub(super) const MARK_INTERVAL: Duration = Duration::from_secs(30);

/// Where the values of changed sysctls are remembered, beside the control socket.
const MEMORY: &str = "sysctl.conf";

pub(super) struct Handshake {
    sysctls: Sysctls,
    /// What was said last, so that it is said once.
    said: Option<String>,
}

impl Handshake {
    pub(super) fn new(control_socket: &Path) -> Self {
        Self {
            sysctls: Sysctls::recall(control_socket.with_file_name(MEMORY)),
            said: None,
        }
    }

    /// Sees to it that the filters can answer the SYNs of all apps that want it, and that their
    /// listeners take the answers. Where that cannot be, they answer none, and the log says why.
    pub(super) fn keep(&mut self, config: &Config, drained: &HashSet<AppId>, shield: &mut Shield) {
        match self.prepare(config, drained, shield) {
            Ok(said) => self.say(said, log::Level::Info),
            Err(error) => {
                let text = format!(
                    "SYN floods are left to the kernel's cookies and the apps' SYN rates: {error:#}"
                );
                if let Err(error) = shield.end_answers() {
                    log::error!("cannot stop answering SYNs: {error:#}");
                }
                self.say(Some(text), log::Level::Warn);
            }
        }
    }

    /// Answers no more SYNs, and makes the host's settings what they were.
    pub(super) fn end(&mut self, shield: &mut Shield) -> Result<()> {
        shield.end_answers()?;
        self.sysctls.restore()
    }

    /// What there is to say, if all is well.
    fn prepare(
        &mut self,
        config: &Config,
        drained: &HashSet<AppId>,
        shield: &mut Shield,
    ) -> Result<Option<String>> {
        let listeners = listeners(config, drained);
        let answers = config.host.syn_answers;
        if listeners.is_empty() || answers == SynAnswers::Off {
            self.end(shield)?;
            return Ok(None);
        }
        ensure!(
            shield.can_answer(answers)?,
            "no interface is in native mode with a driver known to send answers (a veth pair needs \
             a native XDP program on its other end, and none is seen there: if it has one, set \
             syn_answers = \"on\" in [protection])"
        );
        self.sysctls.set(TIMESTAMPS, 2).context(SYSCTL_HELP)?;
        let terms = measure().context("cannot find out how this host shakes hands")?;
        shield.set_terms(answers, &terms)?;
        self.mark(shield, answers, &listeners)?;
        Ok(Some(format!(
            "SYN floods are answered by the filter ({TIMESTAMPS} is 2 meanwhile)"
        )))
    }

    /// Marks the listeners while the kernel thinks that all connections begin with a cookie: for some
    /// milliseconds.
    fn mark(
        &mut self,
        shield: &mut Shield,
        answers: SynAnswers,
        listeners: &[SocketAddr],
    ) -> Result<()> {
        // Without cookies the kernel takes no answers to ours either.
        let usual = self.sysctls.original(COOKIES)?.max(1);
        self.sysctls.set(COOKIES, 2).context(SYSCTL_HELP)?;
        let marked = shield.mark_listeners(answers, listeners);
        self.sysctls.set(COOKIES, usual)?;
        marked
    }

    fn say(&mut self, text: Option<String>, level: log::Level) {
        if self.said == text {
            return;
        }
        if let Some(text) = &text {
            log::log!(level, "{text}");
        }
        self.said = text;
    }
}

const SYSCTL_HELP: &str = "help: where /proc/sys is read-only (containers), start the container with \
                           net.ipv4.tcp_timestamps=2 and net.ipv4.tcp_syncookies=2";

/// Where the apps listen whose SYNs may be answered.
fn listeners(config: &Config, drained: &HashSet<AppId>) -> Vec<SocketAddr> {
    let listening = config.apps.iter().filter(|app| !drained.contains(&app.id));
    let challenged = listening.filter(|app| app.protection.syn_challenge.when != When::Never);
    challenged
        .flat_map(|app| proxy::tcp_listeners(app))
        .collect()
}

/// How this host shakes hands, seen at a connection with itself.
fn measure() -> Result<Terms> {
    /// Smaller than any: what is received at first is whole segments, and so nearly all there is room
    /// for.
    const SEGMENT: u32 = 256;
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    listener.set_tcp_mss(SEGMENT)?;
    listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    listener.listen(1)?;
    let listener = TcpListener::from(listener);
    let client = TcpStream::connect(listener.local_addr()?)?;
    let (accepted, _) = listener.accept()?;
    let seen = proxy::handshake_of(&accepted)?;
    // Nothing remains of it.
    SockRef::from(&client).set_linger(Some(Duration::ZERO))?;
    let is_on = |name| sysctl::read(name).map(|value| value != 0);
    let hops = sysctl::read("net.ipv4.ip_default_ttl")?;
    Ok(Terms {
        sack: is_on("net.ipv4.tcp_sack")?,
        window_scaling: is_on("net.ipv4.tcp_window_scaling")?,
        ecn: is_on("net.ipv4.tcp_ecn")?,
        window: seen.window,
        window_scale: seen.window_scale,
        hop_limit: u8::try_from(hops).unwrap_or(u8::MAX),
    })
}
