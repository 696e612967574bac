//! Lets the filters carry datagrams of UDP sessions past the proxy: sees to it that they know the ways
//! to the origins, and that they carry nothing when nobody is here.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{
    shield::Shield,
    sysctl::{self, Sysctls},
};
use crate::{
    config::{App, AppId, Config, DataPath, Transport},
    dataplane::{
        forward_ports::{self, Carrier},
        forwards::{self, Forwards},
    },
    proxy::{Carried, Passage, Route, Shortcut},
    status::{AppStatus, DataPathStatus},
};

/// How often what has changed of routes and interfaces is seen. What filters carry lasts three of these
/// without us.
pub(super) const KEEP_INTERVAL: Duration = Duration::from_secs(1);

/// How long an interface is left alone that has refused the program.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// Where the values of changed sysctls are remembered, beside the control socket.
const MEMORY: &str = "sysctl-forward.conf";

/// Without it, the kernel tells no XDP program of a route. It concerns only what comes from the loopback
/// interface to other hosts: a host need not forward for others.
const FORWARDING_V4: &str = "net.ipv4.conf.lo.forwarding";
/// The same, but whoever sets it takes the default routes from this host that routers have advertised
/// (`rt6_purge_dflt_routers`): not for us to do.
const FORWARDING_V6: &str = "net.ipv6.conf.lo.forwarding";

/// Nothing of the host is changed before it is of use.
const NOBODY_YET: &str = "no session has proved itself yet";

/// Where the program may be attached that is missing on the way to an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attach {
    /// Nothing of the host is changed.
    Nowhere,
    /// Where nobody notices. A network card may drop its link for a moment.
    Virtual,
    Anywhere,
}

pub(super) struct Bypass {
    forwards: Forwards,
    sysctls: Sysctls,
    /// At interfaces towards origins that are not shielded.
    carriers: Vec<Carrier>,
    /// The interface whose filter they are part of.
    base: Option<String>,
    /// Why an interface refused one, and when.
    refused: BTreeMap<String, (String, Instant)>,
    /// What was found for each app.
    found: BTreeMap<AppId, Result<(), String>>,
    /// What was said of apps that demand more than can be.
    said: BTreeMap<AppId, String>,
    /// There was nothing to do, and nothing is left of what was done.
    is_idle: bool,
}

/// What the proxy sees of it.
#[derive(Debug)]
struct Ways(Forwards);

impl Shortcut for Ways {
    fn open(&self, route: &Route) -> Option<Box<dyn Passage>> {
        let route = forwards::Route {
            client: route.client,
            edge: route.edge,
            outside: route.outside,
            origin: route.origin,
            // As the kernel would check it for a socket, if it does (`rp_filter`).
            interface: forward_ports::index_towards(route.origin.ip()).ok()?,
        };
        let session = self.0.open(&route)?;
        Some(Box::new(Way(session)))
    }
}

#[derive(Debug)]
struct Way(forwards::Session);

impl Passage for Way {
    fn carried(&self) -> [Carried; 2] {
        self.0.carried().map(carried)
    }

    fn close(self: Box<Self>) -> [Carried; 2] {
        self.0.close().map(carried)
    }
}

fn carried(carried: forwards::Carried) -> Carried {
    Carried {
        datagrams: carried.datagrams,
        bytes: carried.bytes,
        last: carried.last,
    }
}

impl Bypass {
    /// `control_socket`: beside which it remembers what it changes.
    pub(super) fn new(control_socket: &Path) -> Self {
        Self {
            forwards: Forwards::default(),
            sysctls: Sysctls::recall(control_socket.with_file_name(MEMORY)),
            carriers: Vec::new(),
            base: None,
            refused: BTreeMap::new(),
            found: BTreeMap::new(),
            said: BTreeMap::new(),
            is_idle: false,
        }
    }

    /// For the proxy.
    pub(super) fn shortcut(&self) -> Arc<dyn Shortcut> {
        Arc::new(Ways(self.forwards.clone()))
    }

    /// Sessions are carried by the filters that there are now.
    pub(super) fn follow(&self, shield: &Shield) {
        self.forwards.follow(shield.forward_tables());
    }

    /// At the start: refuses what [`ensure`](Self::ensure) does, and leaves nothing behind then.
    pub(super) fn begin(&mut self, config: &Config, shield: &mut Shield) -> Result<()> {
        self.ensure(config, shield).inspect_err(|_| {
            if let Err(error) = self.end(shield) {
                log::error!("cannot restore the settings of the host: {error:#}");
            }
            shield.undo();
        })
    }

    /// Leaves interfaces and settings to the daemon that has taken over.
    pub(super) fn leave(&mut self) {
        self.carriers.clear();
    }

    /// Makes room on interfaces that are to be shielded.
    pub(super) fn release(&mut self, interfaces: &[String]) {
        self.carriers
            .retain(|carrier| !interfaces.iter().any(|name| name == carrier.interface()));
    }

    /// Refuses a configuration in which the filters cannot do what an app asks of them. What interfaces can
    /// that are yet to be shielded is seen when they are.
    pub(super) fn ensure(&mut self, config: &Config, shield: &mut Shield) -> Result<()> {
        let names = shield.names();
        let mut wanted = config.host.interfaces.iter();
        if !wanted.all(|interface| names.contains(interface)) {
            return Ok(());
        }
        let clients = towards_clients(config, shield);
        for app in config.apps.iter().filter(|app| is_forced(app)) {
            for ip in configured(app) {
                let way = self.way(ip, &clients, shield, Attach::Anywhere);
                way.with_context(|| {
                    format!(
                        "app {}: data_path = \"kernel\", but datagrams for {ip} have to go through \
                         the proxy\n  help: change what keeps them, or set data_path = \"auto\"",
                        app.name
                    )
                })?;
            }
        }
        Ok(())
    }

    /// Brings interfaces and filters in line with the routes and sessions of now.
    pub(super) fn keep(&mut self, config: &Config, shield: &mut Shield) {
        if let Err(error) = self.try_keep(config, shield) {
            log::error!("cannot carry datagrams past the proxy: {error:#}");
        }
    }

    fn try_keep(&mut self, config: &Config, shield: &mut Shield) -> Result<()> {
        let carried = config.apps.iter().filter(|app| app.may_be_carried());
        let carried: Vec<&App> = carried.map(AsRef::as_ref).collect();
        let live = self.forwards.origins();
        if carried.is_empty() && live.is_empty() {
            return self.rest(shield);
        }
        self.is_idle = false;
        let clients = towards_clients(config, shield);
        let base = shield.names().first().cloned();
        if self.base != base {
            self.carriers.clear();
            self.base = base;
        }
        self.found.clear();
        let mut towards_origins = BTreeSet::new();
        let mut routed = BTreeSet::new();
        for &app in &carried {
            let origins: BTreeSet<IpAddr> = configured(app).collect();
            let mut found = Err("its origins are not known yet".to_owned());
            for ip in origins {
                let attach = match live.contains_key(&ip) {
                    _ if is_forced(app) => Attach::Anywhere,
                    true => Attach::Virtual,
                    false => Attach::Nowhere,
                };
                routed.extend(forward_ports::towards(ip));
                match self.way(ip, &clients, shield, attach) {
                    Ok(interface) => {
                        towards_origins.insert(interface);
                        found = Ok(());
                    }
                    Err(error) if found.is_err() => found = Err(format!("{error:#}")),
                    Err(_) => {}
                }
            }
            if app.origins.lookup.is_none() {
                self.complain(app, &found);
            }
            self.found.insert(app.id, found);
        }
        // Origins that a name leads to, and those of sessions whose app has changed since.
        let attach = if carried.iter().any(|app| is_forced(app)) {
            Attach::Anywhere
        } else {
            Attach::Virtual
        };
        for &ip in live.keys() {
            routed.extend(forward_ports::towards(ip));
            towards_origins.extend(self.way(ip, &clients, shield, attach));
        }
        for app in carried {
            if app.origins.lookup.is_some() && !towards_origins.is_empty() {
                self.found.insert(app.id, Ok(()));
            }
        }
        self.carriers
            .retain(|carrier| routed.contains(carrier.interface()));
        let mut ports = clients;
        ports.extend(towards_origins);
        shield.send_to(&ports.into_iter().collect::<Vec<_>>())?;
        shield.hold_forwards(!live.is_empty())
    }

    /// There is nothing to carry.
    fn rest(&mut self, shield: &mut Shield) -> Result<()> {
        self.found.clear();
        if !self.is_idle {
            self.end(shield)?;
            self.is_idle = true;
        }
        Ok(())
    }

    /// Says once why an app does not get what it demands.
    fn complain(&mut self, app: &App, found: &Result<(), String>) {
        match found {
            Err(why) if is_forced(app) && self.said.get(&app.id) != Some(why) => {
                log::warn!(
                    "{}: data_path is kernel, but datagrams go through the proxy: {why}",
                    app.name
                );
                self.said.insert(app.id, why.clone());
            }
            Err(_) => {}
            Ok(()) => {
                self.said.remove(&app.id);
            }
        }
    }

    /// The interface by which the filters can send to an origin, and by which its answers come.
    /// `clients`: the interfaces through which they can answer.
    fn way(
        &mut self,
        ip: IpAddr,
        clients: &BTreeSet<String>,
        shield: &mut Shield,
        attach: Attach,
    ) -> Result<String> {
        ensure!(
            !clients.is_empty(),
            "no shielded interface is in native mode with a driver that lets XDP send (a veth pair \
             needs a native XDP program or `ethtool -K … gro on` at its other end)"
        );
        let interface = forward_ports::towards(ip).with_context(|| format!("no route to {ip}"))?;
        ensure!(interface != "lo", "{ip} is on this host");
        self.prepare_host(ip, attach)?;
        if !shield.is_native(&interface) {
            self.place_carrier(&interface, shield, attach)?;
        }
        ensure!(
            forward_ports::can_send(&interface, true)?,
            "{interface}: XDP cannot send there (a veth pair needs a native XDP program or `ethtool -K \
             … gro on` at its other end; other drivers need XDP_REDIRECT)"
        );
        Ok(interface)
    }

    fn prepare_host(&mut self, ip: IpAddr, attach: Attach) -> Result<()> {
        if ip.is_ipv4() {
            ensure!(
                attach != Attach::Nowhere || sysctl::read(FORWARDING_V4)? != 0,
                "{NOBODY_YET}"
            );
            self.sysctls.set(FORWARDING_V4, 1).with_context(|| {
                format!("where /proc/sys is read-only (containers), start with {FORWARDING_V4}=1")
            })?;
            return Ok(());
        }
        let is_on = sysctl::read(FORWARDING_V6)? != 0;
        ensure!(
            is_on,
            "for IPv6, {FORWARDING_V6} has to be 1 (whoever sets it loses default routes that were \
             advertised by routers)"
        );
        Ok(())
    }

    fn place_carrier(
        &mut self,
        interface: &str,
        shield: &mut Shield,
        attach: Attach,
    ) -> Result<()> {
        let mut carriers = self.carriers.iter();
        if carriers.any(|carrier| carrier.interface() == interface) {
            return Ok(());
        }
        if shield.names().iter().any(|name| name == interface) {
            bail!("{interface}: its filter is in generic mode");
        }
        if let Some((why, since)) = self.refused.get(interface)
            && since.elapsed() < RETRY_AFTER
        {
            bail!("{why}");
        }
        ensure!(attach != Attach::Nowhere, "{NOBODY_YET}");
        ensure!(
            attach == Attach::Anywhere || forward_ports::is_virtual(interface)?,
            "{interface}: to attach a program may interrupt its link: list it in `interfaces`, or set \
             data_path = \"kernel\""
        );
        match shield.carry_at(interface) {
            Ok(carrier) => {
                log::info!(
                    "{interface}: datagrams of origins are carried here (native XDP program \
                     attached)"
                );
                self.refused.remove(interface);
                self.carriers.push(carrier);
                Ok(())
            }
            Err(error) => {
                let why = format!("{error:#}");
                let now = Instant::now();
                self.refused.insert(interface.to_owned(), (why, now));
                Err(error)
            }
        }
    }

    /// Says of each app which way its datagrams take.
    pub(super) fn describe(&self, config: &Config, apps: &mut [AppStatus]) {
        for status in apps {
            let mut known = config.apps.iter();
            let app = known.find(|app| app.name == status.name);
            status.data_path = app
                .filter(|app| app.transport == Transport::Udp)
                .map(|app| {
                    let why = match (self.found.get(&app.id), app.data_path) {
                        (Some(Ok(())), _) => None,
                        (Some(Err(why)), _) => Some(why.clone()),
                        (None, DataPath::Proxy) => Some("data_path is proxy".to_owned()),
                        (None, _) if !app.limits.bandwidth.is_unlimited() => {
                            Some("limits.bandwidth is set".to_owned())
                        }
                        (None, _) if !app.may_be_carried() => {
                            Some(format!("proxy_protocol is {}", app.proxy_protocol))
                        }
                        (None, _) => Some("not looked at yet".to_owned()),
                    };
                    DataPathStatus {
                        path: if why.is_none() {
                            DataPath::Kernel
                        } else {
                            DataPath::Proxy
                        }
                        .word()
                        .to_owned(),
                        why,
                    }
                });
        }
    }

    /// Carries nothing more, and makes the host's settings what they were.
    pub(super) fn end(&mut self, shield: &mut Shield) -> Result<()> {
        shield.hold_forwards(false)?;
        shield.send_to(&[])?;
        self.carriers.clear();
        self.sysctls.restore()
    }
}

fn is_forced(app: &App) -> bool {
    app.data_path == DataPath::Kernel
}

/// The addresses that documents give.
fn configured(app: &App) -> impl Iterator<Item = IpAddr> {
    app.origins.members.iter().map(|member| member.origin.ip)
}

/// The interfaces that clients come by, and through which the filters can answer.
fn towards_clients(config: &Config, shield: &Shield) -> BTreeSet<String> {
    let native = config.host.interfaces.iter();
    native
        .filter(|name| shield.is_native(name))
        .filter(|name| forward_ports::can_send(name, true).unwrap_or(false))
        .cloned()
        .collect()
}
