//! `spectrum check`: is the configuration valid, and what would be served?

use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;

use super::{Check, Global, Output, output};
use crate::{
    config::{
        self, App, AppDocument, Config, Connectivity, EdgeIps, Errors, Finding, Host, HostDocument,
        Lookup, Member, Mitigation, Mode, Protection, ProxyProtocol, Rate, Records, SynChallenge,
        Transport, When,
    },
    dataplane::room,
    tls::Endpoints,
};

/// # Errors
/// What is wrong with the configuration, unless it was printed as JSON.
pub fn run(global: &Global, args: &Check) -> Result<ExitCode> {
    let loaded = config::load(&global.config)
        .and_then(|config| room::ensure(&config, &global.config).map(|()| config));
    let (loaded, warnings) = match loaded.and_then(with_certificates) {
        Ok((config, warnings)) => (Ok(config), warnings),
        Err(errors) => (Err(errors), Vec::new()),
    };
    match args.format.output {
        Output::Text => {
            output::print(&describe(&loaded?, &warnings))?;
            Ok(ExitCode::SUCCESS)
        }
        Output::Json => {
            output::print_json(&Report {
                warnings,
                ..Report::from(&loaded)
            })?;
            Ok(match loaded {
                Ok(_) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            })
        }
    }
}

/// The same, once the certificates that it names could be read; and what is odd about these.
fn with_certificates(config: Config) -> Result<(Config, Vec<String>), Errors> {
    let apps = config.apps.iter().map(|app| &**app);
    let warnings = Endpoints::read(apps, &Endpoints::default())?.warnings();
    Ok((config, warnings))
}

/// The result for programs: the documents with every default written out, or what is wrong.
#[derive(Serialize)]
struct Report<'a> {
    valid: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<HostDocument<'a>>,
    apps: Vec<AppReport<'a>>,
    errors: Vec<Finding>,
    /// What is valid, but should not be.
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct AppReport<'a> {
    /// The file that defines it.
    document: String,
    #[serde(flatten)]
    app: AppDocument<'a>,
}

impl<'a> From<&'a Result<Config, Errors>> for Report<'a> {
    fn from(loaded: &'a Result<Config, Errors>) -> Self {
        match loaded {
            Ok(config) => Self {
                valid: true,
                host: Some(HostDocument::from(&config.host)),
                apps: config
                    .apps
                    .iter()
                    .map(|app| AppReport::from(&**app))
                    .collect(),
                errors: Vec::new(),
                warnings: Vec::new(),
            },
            Err(errors) => Self {
                valid: false,
                host: None,
                apps: Vec::new(),
                errors: errors.findings(),
                warnings: Vec::new(),
            },
        }
    }
}

impl<'a> From<&'a App> for AppReport<'a> {
    fn from(app: &'a App) -> Self {
        Self {
            document: app.document.display().to_string(),
            app: AppDocument::from(app),
        }
    }
}

fn describe(config: &Config, warnings: &[String]) -> String {
    let mut table = output::table(&["APP", "EDGE", "ORIGINS", "LIMITS", "RULES"]);
    for app in &config.apps {
        table.add_row([
            app.name.clone(),
            edge(app),
            origins(app),
            limits(app),
            rules(app),
        ]);
    }
    let apps = match config.apps.len() {
        0 => format!("No app: `{}` is empty.", config.host.apps_dir.display()),
        _ => table.to_string(),
    };
    let warnings = warnings.iter();
    let warnings = warnings.map(|warning| format!("\n\nwarning: {warning}"));
    let warnings = warnings.collect::<String>();
    format!("{}\n\n{apps}{warnings}", host(&config.host))
}

fn host(host: &Host) -> String {
    let closed_ports = host.closed_ports.map_or("automatic", Mode::word);
    format!(
        "The configuration is valid.\n\n\
         Interfaces: {} (xdp_mode {}). Blocked: {}; exempt: {}; \
         malformed packets: {}; closed ports: {closed_ports}{}.",
        host.interfaces.join(", "),
        host.xdp_mode,
        prefixes(host.block.len()),
        prefixes(host.allow.len()),
        host.malformed,
        custom(host.rules.len())
            .map_or_else(String::new, |rules| format!("; {rules} for all apps")),
    )
}

/// The addresses and ports that clients reach, one a line.
fn edge(app: &App) -> String {
    let protocol = format!("{}/{}", app.transport, app.ports);
    match &app.edge_ips {
        EdgeIps::Dynamic(family) => match family {
            Connectivity::All => format!("{protocol}\non every address"),
            Connectivity::Ipv4 => format!("{protocol}\non every IPv4 address"),
            Connectivity::Ipv6 => format!("{protocol}\non every IPv6 address"),
        },
        EdgeIps::Static(ips) => {
            let addresses = ips.iter().map(|ip| format!("\n{ip}"));
            format!("{protocol} on{}", addresses.collect::<String>())
        }
    }
}

fn origins(app: &App) -> String {
    let members = app.origins.members.iter();
    let mut lines: Vec<String> = members.map(|member| origin(app, member)).collect();
    if let Some(Lookup { name, records, .. }) = &app.origins.lookup {
        let records = match records {
            Records::Any => "A and AAAA",
            Records::A | Records::Aaaa | Records::Srv => records.word(),
        };
        lines.push(format!("{name} ({records})"));
    }
    if lines.len() > 1 || app.origins.lookup.is_some() {
        lines.push(app.origins.balance.to_string());
    }
    for route in app.routing.iter().flat_map(|routing| &routing.routes) {
        let members = route.origins.members.iter();
        let origins: Vec<String> = members.map(|member| origin(app, member)).collect();
        lines.push(format!(
            "{}: {}",
            route.hosts.join(", "),
            origins.join(", ")
        ));
    }
    if let Some(tls) = &app.tls {
        lines.push(format!("TLS {}", tls.mode()));
    }
    if app.proxy_protocol != ProxyProtocol::Off {
        lines.push(format!("PROXY protocol {}", app.proxy_protocol));
    }
    lines.join("\n")
}

/// Its address, and what sets it apart from the others.
fn origin(app: &App, member: &Member) -> String {
    let notes = [
        (member.weight != 1).then(|| format!("weight {}", member.weight)),
        (member.rank > 0).then(|| "backup".to_owned()),
        member.maintenance.then(|| "maintenance".to_owned()),
    ];
    let notes: Vec<String> = notes.into_iter().flatten().collect();
    let url = app.origin_url(&member.origin);
    if notes.is_empty() {
        url
    } else {
        format!("{url} ({})", notes.join(", "))
    }
}

fn limits(app: &App) -> String {
    let what = match app.transport {
        Transport::Tcp => "connections",
        Transport::Udp => "sessions",
    };
    format!(
        "{} {what}\n{} per source\nidle {}",
        output::count(app.limits.connections.into()),
        output::count(app.limits.connections_per_source.into()),
        output::duration(app.timeouts.idle),
    )
}

/// The rules that are not off, one a line.
fn rules(app: &App) -> String {
    let protection = &app.protection;
    let list = |name: &str, mode: Mode, entries: usize| {
        (mode != Mode::Off).then(|| format!("{name} {mode}: {}", prefixes(entries)))
    };
    let ports = protection.reflector_ports.len();
    let rules = [
        list("blocklist", protection.blocklist, protection.block.len()),
        list("allowlist", protection.allowlist, protection.allow.len()),
        (protection.reflectors != Mode::Off)
            .then(|| format!("reflectors {}: {ports} ports", protection.reflectors)),
        (protection.fragments != Mode::Off).then(|| format!("fragments {}", protection.fragments)),
        rate("packets", protection.packet_rate),
        rate("SYNs", protection.syn_rate),
        challenge(protection.syn_challenge),
        out_of_state(protection),
        protection.mitigation.is_on().then(|| {
            let Mitigation { sensitivity, mode } = protection.mitigation;
            format!("mitigation {mode}: {sensitivity} sensitivity")
        }),
        custom(protection.rules.len()),
    ];
    let lines: Vec<String> = rules.into_iter().flatten().collect();
    lines.join("\n")
}

fn rate(what: &str, rate: Rate) -> Option<String> {
    (rate.mode != Mode::Off).then(|| {
        let per_second = output::count(rate.per_second.into());
        format!("{what} {}: {per_second}/s per source", rate.mode)
    })
}

fn challenge(SynChallenge { when, above }: SynChallenge) -> Option<String> {
    match when {
        When::Never => None,
        When::Auto => {
            let above = output::count(above.into());
            Some(format!("SYN cookies above {above}/s"))
        }
        When::Always => Some("SYN cookies always".to_owned()),
    }
}

fn out_of_state(protection: &Protection) -> Option<String> {
    let mode = protection.out_of_state;
    (mode != Mode::Off).then(|| match protection.out_of_state_above {
        0 => format!("out of state {mode}: always"),
        above => format!(
            "out of state {mode}: above {}/s",
            output::count(above.into())
        ),
    })
}

fn custom(rules: usize) -> Option<String> {
    match rules {
        0 => None,
        1 => Some("1 custom rule".to_owned()),
        more => Some(format!("{more} custom rules")),
    }
}

fn prefixes(count: usize) -> String {
    match count {
        0 => "none".to_owned(),
        1 => "1 prefix".to_owned(),
        more => format!("{more} prefixes"),
    }
}
