//! What the limits of apps have refused.

use crate::{cli::output, proxy::Refusals, status::AppStatus};

/// A line for each app that refused something; nothing if there are none.
pub(super) fn text(apps: &[AppStatus]) -> String {
    let lines = apps
        .iter()
        .flat_map(|app| [queue(app), refusals(app), dropped(app), expired(app)]);
    super::block(lines.flatten().collect())
}

fn dropped(app: &AppStatus) -> Option<String> {
    let dropped = app.proxy.as_ref()?.totals.bandwidth_dropped;
    (dropped > 0).then(|| {
        let dropped = output::count(dropped);
        format!(
            "{}: {dropped} datagrams dropped for want of bandwidth\n",
            app.name
        )
    })
}

fn refusals(app: &AppStatus) -> Option<String> {
    let Refusals {
        connections,
        connections_per_prefix,
        connections_per_source,
        new_connections,
        new_connections_per_source,
        origins,
        queue,
        queue_timeout,
    } = app.proxy.as_ref()?.totals.refusals;
    let counts = [
        (connections, "connections"),
        (connections_per_prefix, "connections_per_prefix"),
        (connections_per_source, "connections_per_source"),
        (new_connections, "new_connections"),
        (new_connections_per_source, "new_connections_per_source"),
        (origins, "origins"),
        (queue, "queue"),
        (queue_timeout, "queue_timeout"),
    ];
    let said: Vec<String> = counts
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, limit)| format!("{limit} {}", output::count(count)))
        .collect();
    let said = said.join(", ");
    (!said.is_empty()).then(|| format!("{}: refused by limits: {said}\n", app.name))
}

fn expired(app: &AppStatus) -> Option<String> {
    let expired = app.proxy.as_ref()?.totals.expired;
    (expired > 0).then(|| {
        let expired = output::count(expired);
        format!("{}: {expired} ended after `max_duration`\n", app.name)
    })
}

fn queue(app: &AppStatus) -> Option<String> {
    let proxy = app.proxy.as_ref()?;
    let (waiting, queued) = (proxy.waiting as u64, proxy.totals.queued);
    (queued > 0).then(|| {
        let [waiting, queued] = [waiting, queued].map(output::count);
        format!(
            "{}: {waiting} wait for an origin; {queued} had to so far\n",
            app.name
        )
    })
}
