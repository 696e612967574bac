//! Which certificate a client is shown.

use std::{collections::HashMap, fmt, sync::Arc};

use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::files::Identity;

/// Certificates by the names that they are for.
pub struct Names {
    /// In the order of the document.
    all: Vec<Arc<CertifiedKey>>,
    /// Indexes of `all`.
    by_name: HashMap<String, Vec<usize>>,
}

impl Names {
    pub(super) fn new(identities: Vec<Identity>) -> Self {
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
        let mut all = Vec::new();
        for (index, identity) in identities.into_iter().enumerate() {
            for name in &identity.names {
                by_name.entry(name.clone()).or_default().push(index);
            }
            all.push(identity.key);
        }
        Self { all, by_name }
    }

    /// Whether there is a certificate for the server `name`.
    pub fn has(&self, name: &str) -> bool {
        self.of(name).is_some()
    }

    /// Of several for the same name, the client takes the first with which it can sign.
    fn of(&self, name: &str) -> Option<&[usize]> {
        let name = name.to_ascii_lowercase();
        let exact = self.by_name.get(&name);
        let wildcard = || {
            // It stands for one label (RFC 9525 §6.3).
            let (label, parent) = name.split_once('.')?;
            let wildcard = (!label.is_empty()).then(|| format!("*.{parent}"))?;
            self.by_name.get(&wildcard)
        };
        exact.or_else(wildcard).map(Vec::as_slice)
    }

    fn choose(&self, hello: &ClientHello<'_>) -> Option<&Arc<CertifiedKey>> {
        let fits = |key: &&Arc<CertifiedKey>| {
            let schemes = hello.signature_schemes();
            key.key.choose_scheme(schemes).is_some()
        };
        let named = hello.server_name().and_then(|name| self.of(name));
        let named = named.unwrap_or_default().iter();
        let mut named = named.filter_map(|&index| self.all.get(index));
        named
            .find(fits)
            .or_else(|| self.all.iter().find(fits))
            // Whoever can verify none of them will say so.
            .or_else(|| self.all.first())
    }
}

impl ResolvesServerCert for Names {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(&hello).cloned()
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.by_name.keys()).finish()
    }
}
