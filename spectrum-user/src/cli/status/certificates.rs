//! The certificates that apps show their clients; nothing if no app speaks TLS.

use crate::{
    cli::output,
    status::AppStatus,
    tls::{CertificateStatus, EndpointStatus},
};

pub(super) fn text(apps: &[AppStatus]) -> String {
    let endpoints = apps.iter().filter_map(|app| {
        let proxy = app.proxy.as_ref()?;
        Some((&app.name, proxy.totals.tls_errors, proxy.tls.as_ref()?))
    });
    let endpoints: Vec<_> = endpoints.collect();
    if endpoints.is_empty() {
        return String::new();
    }
    let mut table = output::table(&[
        "app",
        "TLS",
        "handshakes failed",
        "certificate",
        "for",
        "expires",
    ]);
    let mut remarks = String::new();
    for (name, failed, endpoint) in endpoints {
        for (index, certificate) in endpoint.certificates.iter().enumerate() {
            let mut row = match index {
                0 => vec![name.clone(), endpoint.mode.clone(), output::count(failed)],
                _ => vec![String::new(); 3],
            };
            row.extend(columns(certificate));
            table.add_row(row);
        }
        remarks += &of_endpoint(name, endpoint);
    }
    format!("\n{table}\n{remarks}")
}

fn columns(certificate: &CertificateStatus) -> [String; 3] {
    let expires = certificate.expires;
    [
        certificate.chain.display().to_string(),
        certificate.names.join(", "),
        expires.map_or_else(|| "–".to_owned(), output::time),
    ]
}

fn of_endpoint(name: &str, endpoint: &EndpointStatus) -> String {
    let warnings = endpoint.warnings.iter();
    let warnings = warnings.map(|warning| format!("{name}: {warning}\n"));
    let error = endpoint.error.iter().map(|error| {
        let since = output::time(endpoint.read);
        format!("{name}: {error}; what was read {since} stays in use\n")
    });
    error.chain(warnings).collect()
}
