//! Names of origins: each is asked again when its answer has grown old. The last good answer holds
//! until there is a better one.

mod answer;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use hickory_resolver::{
    Resolver, TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolverConfig},
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::{
        ProtoError,
        rr::{Name, RData, RecordType},
    },
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::Notify,
    task::{AbortHandle, JoinSet},
    time::sleep,
};

use super::{service::Service, tasks::report_panic};
use crate::config::{Lookup, Member, Records};
use answer::Answer;

/// An answer is good for this long at the least, whatever it says itself.
const SHORTEST: Duration = Duration::from_secs(1);

/// How soon a name is asked again that could not be resolved: at first, and after more failures.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// For one question to one server; each is asked twice.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the operator sees of the name that leads to the origins of an app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookupSnapshot {
    pub name: String,
    /// When the answer came that holds.
    pub answered: Option<Timestamp>,
    /// Why there is no newer one.
    pub failure: Option<String>,
}

/// The names that are looked up.
pub(super) struct Names {
    servers: Vec<SocketAddr>,
    /// Told when the origins of a service have changed.
    resolved: Arc<Notify>,
    running: Vec<(Arc<Service>, Lookup, AbortHandle)>,
    tasks: JoinSet<()>,
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0} {1}: {2}")]
    Asking(Name, RecordType, Box<NetError>),
    #[error("no name to ask for: {0}")]
    Name(ProtoError),
    #[error("the system names no DNS servers: {0}; set `dns_servers`")]
    System(Box<NetError>),
    #[error("the name leads nowhere")]
    Nowhere,
}

impl Names {
    pub(super) fn new(servers: Vec<SocketAddr>, resolved: Arc<Notify>) -> Self {
        Self {
            servers,
            resolved,
            running: Vec::new(),
            tasks: JoinSet::new(),
        }
    }

    /// Looks up the names of these apps from now on, and no others.
    pub(super) async fn follow(&mut self, services: &[Arc<Service>]) {
        let wanted = services.iter().filter_map(|service| {
            let lookup = service.serving().app.origins.lookup.clone();
            if lookup.is_none() {
                *service.lookup() = None;
            }
            Some((Arc::clone(service), lookup?))
        });
        let wanted: Vec<(Arc<Service>, Lookup)> = wanted.collect();
        let is_same = |service: &Arc<Service>, lookup: &Lookup, other: &(Arc<Service>, Lookup)| {
            Arc::ptr_eq(service, &other.0) && *lookup == other.1
        };
        self.running.retain(|(service, lookup, task)| {
            let stays = wanted.iter().any(|other| is_same(service, lookup, other));
            if !stays {
                task.abort();
            }
            stays
        });
        for (service, lookup) in wanted {
            let other = (service, lookup);
            let mut running = self.running.iter();
            if running.any(|(service, lookup, _)| is_same(service, lookup, &other)) {
                continue;
            }
            let (service, lookup) = other;
            let task = self.tasks.spawn(keep(
                Arc::clone(&service),
                lookup.clone(),
                self.servers.clone(),
                Arc::clone(&self.resolved),
            ));
            self.running.push((service, lookup, task));
        }
        // None ends by itself: what ends was aborted just now.
        while self.tasks.len() > self.running.len()
            && let Some(end) = self.tasks.join_next().await
        {
            report_panic(end);
        }
    }

    pub(super) async fn end(mut self) {
        self.tasks.shutdown().await;
    }
}

/// Keeps the origins of an app where their name leads, for ever.
async fn keep(
    service: Arc<Service>,
    lookup: Lookup,
    servers: Vec<SocketAddr>,
    resolved: Arc<Notify>,
) {
    *service.lookup() = Some(LookupSnapshot {
        name: lookup.name.clone(),
        answered: None,
        failure: None,
    });
    let mut retry = RETRY.0;
    let mut known: Option<Vec<Member>> = None;
    loop {
        let app = Arc::clone(&service.serving().app);
        let found = match ask(&lookup, &servers).await {
            Ok(answer) => match answer.members(&app) {
                none if none.is_empty() => Err(Failure::Nowhere),
                members => Ok((members, answer.left(Instant::now()))),
            },
            Err(failure) => Err(failure),
        };
        let pause = match found {
            Ok((members, left)) => {
                if known.as_ref() != Some(&members) {
                    let (app, name, count) = (&app.name, &lookup.name, members.len());
                    log::info!("{app}: {name} leads to {count} origins");
                    service.resolved(&lookup, &members);
                    resolved.notify_one();
                    known = Some(members);
                }
                note(&service, Ok(()));
                retry = RETRY.0;
                left.clamp(SHORTEST, lookup.max_age)
            }
            Err(failure) => {
                if note(&service, Err(failure.to_string())) {
                    let (app, name) = (&app.name, &lookup.name);
                    log::warn!("{app}: {name} cannot be resolved: {failure}");
                }
                let pause = retry;
                retry = (retry * 2).min(RETRY.1);
                pause
            }
        };
        sleep(pause).await;
    }
}

/// For the operator. Returns whether it is another failure than before.
fn note(service: &Service, result: Result<(), String>) -> bool {
    let mut snapshot = service.lookup();
    let Some(snapshot) = snapshot.as_mut() else {
        return false;
    };
    if result.is_ok() {
        snapshot.answered = Some(Timestamp::now());
    }
    let failure = result.err();
    let is_new = failure != snapshot.failure;
    snapshot.failure = failure;
    is_new
}

/// Asks for all that a name leads to. What the system says of its servers is read each time.
async fn ask(lookup: &Lookup, servers: &[SocketAddr]) -> Result<Answer, Failure> {
    let resolver = resolver(servers)?;
    // With a dot at the end, so that no search list is tried.
    let name = Name::from_ascii(format!("{}.", lookup.name)).map_err(Failure::Name)?;
    let mut answer = Answer::default();
    if lookup.records != Records::Srv {
        let ips = addresses(&resolver, &name, lookup.records, &mut answer).await?;
        let port = lookup.first_port.unwrap_or_default();
        answer.add(ips, port, 0, 1);
        return Ok(answer);
    }
    let records = records(&resolver, &name, RecordType::SRV, &mut answer).await?;
    for record in records {
        let RData::SRV(srv) = record else { continue };
        // RFC 2782: no such service.
        if srv.target.is_root() {
            continue;
        }
        let ips = addresses(&resolver, &srv.target, Records::Any, &mut answer).await?;
        answer.add(ips, srv.port, srv.priority, srv.weight);
    }
    Ok(answer)
}

/// The addresses of a host, of the families that are asked for.
async fn addresses(
    resolver: &TokioResolver,
    name: &Name,
    families: Records,
    answer: &mut Answer,
) -> Result<Vec<IpAddr>, Failure> {
    let types: &[RecordType] = match families {
        Records::Any | Records::Srv => &[RecordType::A, RecordType::AAAA],
        Records::A => &[RecordType::A],
        Records::Aaaa => &[RecordType::AAAA],
    };
    let mut ips = Vec::new();
    for &record_type in types {
        for record in records(resolver, name, record_type, answer).await? {
            if let RData::A(ip) = &record {
                ips.push(ip.0.into());
            } else if let RData::AAAA(ip) = &record {
                ips.push(ip.0.into());
            }
        }
    }
    Ok(ips)
}

/// The records of a type, of which there may be none.
async fn records(
    resolver: &TokioResolver,
    name: &Name,
    record_type: RecordType,
    answer: &mut Answer,
) -> Result<Vec<RData>, Failure> {
    match resolver.lookup(name.clone(), record_type).await {
        Ok(found) => {
            answer.expires(found.valid_until());
            let records = found.answers().iter();
            Ok(records.map(|record| record.data.clone()).collect())
        }
        Err(error) if error.is_no_records_found() && !error.is_nx_domain() => Ok(Vec::new()),
        Err(error) => Err(Failure::Asking(name.clone(), record_type, Box::new(error))),
    }
}

fn resolver(servers: &[SocketAddr]) -> Result<TokioResolver, Failure> {
    let mut builder = if servers.is_empty() {
        TokioResolver::builder_tokio().map_err(|error| Failure::System(Box::new(error)))?
    } else {
        let server = |address: &SocketAddr| {
            let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
            for connection in &mut connections {
                connection.port = address.port();
            }
            NameServerConfig::new(address.ip(), true, connections)
        };
        let servers = servers.iter().map(server).collect();
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        Resolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    let options = builder.options_mut();
    options.timeout = PATIENCE;
    options.attempts = 2;
    // What is known is kept here, for as long as it is good.
    options.cache_size = 0;
    builder
        .build()
        .map_err(|error| Failure::System(Box::new(error)))
}
