//! What no document shows alone: two apps that want the same, and more than the maps hold.

use std::path::Path;

use spectrum_common::{geo::MAX_QUESTIONS, maps::size};

use super::{
    App, EdgeIps, FeedAction, Host, Transport,
    errors::{Mark, Problem},
    place::all_questions,
    read::{AppDraft, EdgeClaim, Placed, no_database},
};

/// Apps with the same name, the same id, or the same place on the edge.
pub(super) fn between_apps(drafts: &[AppDraft]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (index, later) in drafts.iter().enumerate() {
        for earlier in drafts.iter().take(index) {
            problems.extend(same_name(later, earlier));
            problems.extend(same_id(later, earlier));
            problems.extend(same_edge(later, earlier));
        }
    }
    problems.extend(
        drafts
            .iter()
            .filter_map(|draft| unknown_session(draft, drafts)),
    );
    problems
}

/// Lists that are longer than the maps of the data plane.
pub(super) fn beyond_capacity(host: &Host, apps: &[App], document: &Path) -> Vec<Problem> {
    let prefixes = || {
        let of_apps = apps.iter().map(|app| &app.protection);
        of_apps
            .flat_map(|protection| protection.block.iter().chain(&protection.allow))
            .chain(&host.block)
            .chain(&host.allow)
    };
    let counts = [
        // The first slot is for packets of no app.
        ("apps", apps.len(), size::APPS - 1),
        (
            "entries in `block` and `allow`",
            prefixes().count(),
            size::ACCESS_ENTRIES,
        ),
    ];
    counts
        .into_iter()
        .filter(|(_, count, limit)| count > limit)
        .map(|(what, count, limit)| Problem {
            what: format!(
                "`{}` and its apps have {count} {what}; the data plane holds {limit}",
                document.display()
            ),
            marks: Vec::new(),
            help: Some("merge neighbours into wider prefixes, or use another edge host".to_owned()),
        })
        .collect()
}

/// Fields that ask where a source is, while nobody knows.
pub(super) fn without_databases<'a>(
    asking: impl Iterator<Item = &'a Placed<String>>,
) -> Vec<Problem> {
    let problem = |field: &Placed<String>| Problem {
        what: format!("`{}`: no database knows where addresses are", field.value),
        marks: vec![Mark {
            place: field.place.clone(),
            label: "this asks for it".to_owned(),
        }],
        help: Some(no_database()),
    };
    asking.map(problem).collect()
}

/// More questions about countries and systems than the data plane answers.
pub(super) fn too_many_questions(host: &Host, apps: &[App], document: &Path) -> Option<Problem> {
    let count = all_questions(host, apps.iter()).len();
    (count > MAX_QUESTIONS).then(|| Problem {
        what: format!(
            "`{}` and its apps ask {count} different questions about countries and autonomous \
             systems; the data plane answers {MAX_QUESTIONS}",
            document.display()
        ),
        marks: Vec::new(),
        help: Some(
            "let more apps and rules share the same lists: what is the same is asked once"
                .to_owned(),
        ),
    })
}

/// An app that asks for a TCP connection with an app that is not there, or speaks no TCP.
fn unknown_session(draft: &AppDraft, drafts: &[AppDraft]) -> Option<Problem> {
    let wanted = draft.tcp_session.as_ref()?;
    let name = &wanted.value.app;
    let is_it = |other: &&AppDraft| {
        other
            .name
            .as_ref()
            .is_some_and(|known| known.value == *name)
    };
    let transport = match drafts.iter().find(is_it) {
        // What it speaks is wrong, and said elsewhere.
        Some(AppDraft { edge: None, .. }) => return None,
        Some(AppDraft {
            edge: Some(edge), ..
        }) => Some(edge.value.transport),
        None => None,
    };
    let (what, label) = match transport {
        Some(Transport::Tcp) => return None,
        Some(Transport::Udp) => (format!("`{name}` speaks udp"), "expected a TCP app"),
        None => (
            format!("no app is called `{name}`"),
            "expected the name of an app",
        ),
    };
    Some(Problem {
        what: format!("`protection.require_tcp_session`: {what}"),
        marks: vec![Mark {
            place: wanted.place.clone(),
            label: label.to_owned(),
        }],
        help: Some("write the `dns.name` of a TCP app of this host".to_owned()),
    })
}

fn same_name(later: &AppDraft, earlier: &AppDraft) -> Option<Problem> {
    let (later, earlier) = (later.name.as_ref()?, earlier.name.as_ref()?);
    (later.value == earlier.value).then(|| {
        problem(
            format!("`dns.name`: two apps are called `{}`", later.value),
            (later, "again here"),
            (earlier, "first here"),
            "give each app a name of its own",
        )
    })
}

fn same_id(later: &AppDraft, earlier: &AppDraft) -> Option<Problem> {
    let (later, earlier) = (later.id.as_ref()?, earlier.id.as_ref()?);
    (later.value == earlier.value).then(|| {
        problem(
            format!("`id`: two apps have the id {}", later.value),
            (later, "again here"),
            (earlier, "first here"),
            "remove one: an id then follows from the name of the file",
        )
    })
}

fn same_edge(later: &AppDraft, earlier: &AppDraft) -> Option<Problem> {
    let (later, earlier) = (later.edge.as_ref()?, earlier.edge.as_ref()?);
    let (a, b) = (&later.value, &earlier.value);
    let same_transport = a.transport == b.transport;
    if !same_transport || !a.ports.overlaps(b.ports) {
        return None;
    }
    let address = shared_address(a, b)?;
    let first = a.ports.first.max(b.ports.first);
    Some(problem(
        format!(
            "`protocol`: two apps listen on {} port {first} of {address}",
            a.transport
        ),
        (later, "wanted here"),
        (earlier, "taken here"),
        "choose another port, or give each app addresses of its own: \
         `edge_ips = { type = \"static\", ips = [...] }`",
    ))
}

/// Feeds for apps that do not exist, or whose allowlist they could not join.
pub(super) fn between_feeds_and_apps(host: &Host, apps: &[App], document: &Path) -> Vec<Problem> {
    let named = host.feeds.iter().flat_map(|feed| {
        let names = feed.apps.iter();
        names.map(move |name| (feed, name))
    });
    let wrong = named.filter_map(|(feed, name)| {
        let app = apps.iter().find(|app| app.name == *name);
        let (what, help) = match app {
            None => (
                format!("`{name}`, and no app has that name"),
                "write the app's `dns.name`",
            ),
            Some(app) if feed.action == FeedAction::Allow && app.protection.allow.is_empty() => (
                format!("`{name}`, which has no allowlist that it could join"),
                "give the app one (`allow = […]` in its [protection]), or leave out `apps` to \
                 exempt the feed's entries from the global blocklist",
            ),
            Some(_) => return None,
        };
        Some(Problem {
            what: format!(
                "`{}`: the feed `{}` is for {what}",
                document.display(),
                feed.name
            ),
            marks: Vec::new(),
            help: Some(help.to_owned()),
        })
    });
    wrong.collect()
}

/// An address that both would have; dynamic addresses are not known here, so that one may be any.
fn shared_address(a: &EdgeClaim, b: &EdgeClaim) -> Option<String> {
    match (&a.ips, &b.ips) {
        (EdgeIps::Static(a), EdgeIps::Static(b)) => {
            let shared = a.iter().find(|ip| b.contains(ip))?;
            Some(shared.to_string())
        }
        (EdgeIps::Static(ips), EdgeIps::Dynamic(family))
        | (EdgeIps::Dynamic(family), EdgeIps::Static(ips)) => {
            let shared = ips.iter().find(|ip| family.includes(**ip))?;
            Some(shared.to_string())
        }
        (EdgeIps::Dynamic(a), EdgeIps::Dynamic(b)) => {
            a.overlaps(*b).then(|| "every edge address".to_owned())
        }
    }
}

fn problem<T>(
    what: String,
    (later, label): (&Placed<T>, &str),
    (earlier, earlier_label): (&Placed<T>, &str),
    help: &str,
) -> Problem {
    let mark = |placed: &Placed<T>, label: &str| Mark {
        place: placed.place.clone(),
        label: label.to_owned(),
    };
    Problem {
        what,
        marks: vec![mark(later, label), mark(earlier, earlier_label)],
        help: Some(help.to_owned()),
    }
}
