//! What the limits of apps have refused.

use crate::{cli::output, proxy::Refusals, status::AppStatus};

/// A line for each app that refused something; nothing if there are none.
pub(super) fn text(apps: &[AppStatus]) -> String {
    super::block(apps.iter().filter_map(refusals).collect())
}

fn refusals(app: &AppStatus) -> Option<String> {
    let Refusals {
        connections,
        connections_per_prefix,
        connections_per_source,
        new_connections,
        new_connections_per_source,
    } = app.proxy.as_ref()?.totals.refusals;
    let counts = [
        (connections, "connections"),
        (connections_per_prefix, "connections_per_prefix"),
        (connections_per_source, "connections_per_source"),
        (new_connections, "new_connections"),
        (new_connections_per_source, "new_connections_per_source"),
    ];
    let said: Vec<String> = counts
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, limit)| format!("{limit} {}", output::count(count)))
        .collect();
    let said = said.join(", ");
    (!said.is_empty()).then(|| format!("{}: refused by limits: {said}\n", app.name))
}
