//! `[client_tls]` and `[origin_tls]`.

use std::path::Path;

use serde::Serialize;

use crate::config::{ClientTls, KeyPair, OriginTls};

#[derive(Serialize)]
pub(super) struct ClientTlsTable<'a> {
    certificates: Vec<KeyPairTable<'a>>,
    unknown_names: &'static str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    alpn: &'a [String],
    min_version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca: Option<&'a Path>,
}

#[derive(Serialize)]
pub(super) struct OriginTlsTable<'a> {
    server_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca: Option<&'a Path>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fingerprints: Vec<String>,
    min_version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<KeyPairTable<'a>>,
}

#[derive(Serialize)]
struct KeyPairTable<'a> {
    chain: &'a Path,
    key: &'a Path,
}

impl<'a> From<&'a ClientTls> for ClientTlsTable<'a> {
    fn from(tls: &'a ClientTls) -> Self {
        Self {
            certificates: tls.certificates.iter().map(KeyPairTable::from).collect(),
            unknown_names: tls.unknown_names.word(),
            alpn: &tls.alpn,
            min_version: tls.min_version.word(),
            ca: tls.ca.as_deref(),
        }
    }
}

impl<'a> From<&'a OriginTls> for OriginTlsTable<'a> {
    fn from(tls: &'a OriginTls) -> Self {
        let fingerprints = tls.fingerprints.iter().map(ToString::to_string);
        Self {
            server_name: &tls.server_name,
            ca: tls.ca.as_deref(),
            fingerprints: fingerprints.collect(),
            min_version: tls.min_version.word(),
            certificate: tls.certificate.as_ref().map(KeyPairTable::from),
        }
    }
}

impl<'a> From<&'a KeyPair> for KeyPairTable<'a> {
    fn from(pair: &'a KeyPair) -> Self {
        Self {
            chain: &pair.chain,
            key: &pair.key,
        }
    }
}
