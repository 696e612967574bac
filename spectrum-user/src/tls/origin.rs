//! What the edge demands of an origin, and shows to it.

use std::sync::Arc;

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    sign::{CertifiedKey, SingleCertAndKey},
};
use sha2::{Digest as _, Sha256};

use super::{
    OriginTerms,
    files::{self, Flaw},
    provider, versions,
};
use crate::config::{Fingerprint, OriginTls};

/// `None` if there are flaws.
pub(super) fn terms(
    origin: &OriginTls,
    flaws: &mut Vec<Flaw>,
    warnings: &mut Vec<String>,
) -> Option<OriginTerms> {
    let authorities = match (origin.is_verified, &origin.ca) {
        (false, _) => None,
        (true, Some(ca)) => Some(files::roots("origin_tls.ca", ca)),
        (true, None) => Some(system_roots()),
    };
    let authorities = authorities
        .transpose()
        .map_err(|flaw| flaws.push(flaw))
        .ok()?;
    let certificate = origin.certificate.as_ref();
    let certificate = certificate
        .map(|pair| files::identity("origin_tls.certificate", pair, warnings))
        .transpose()
        .map_err(|flaw| flaws.push(flaw))
        .ok()?;
    let config = config(origin, authorities, certificate.map(|one| one.key));
    let server_name = ServerName::try_from(origin.server_name.clone());
    match (config, server_name) {
        (Ok(config), Ok(server_name)) => Some(OriginTerms {
            config: Arc::new(config),
            server_name,
        }),
        (Err(error), _) => {
            let help = "give `ca` a file with the authorities of the origin";
            flaws.push(Flaw::new("origin_tls", error, help));
            None
        }
        (_, Err(_invalid)) => {
            let what = format!("`{}` cannot be asked for", origin.server_name);
            let help = "write a host name or an address";
            flaws.push(Flaw::new("origin_tls.server_name", what, help));
            None
        }
    }
}

fn config(
    origin: &OriginTls,
    authorities: Option<RootCertStore>,
    certificate: Option<Arc<CertifiedKey>>,
) -> Result<ClientConfig, String> {
    let authorities = authorities
        .map(|roots| {
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build()
        })
        .transpose()
        .map_err(|error| error.to_string())?;
    let verifier = Verifier {
        authorities,
        fingerprints: origin.fingerprints.clone(),
        provider: provider(),
    };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions(origin.min_version))
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    Ok(match certificate {
        Some(key) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key))),
        None => builder.with_no_client_auth(),
    })
}

fn system_roots() -> Result<RootCertStore, Flaw> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (usable, _unusable) = roots.add_parsable_certificates(found.certs);
    if usable > 0 {
        return Ok(roots);
    }
    let why = found.errors.first().map(|error| format!(": {error}"));
    let what = format!("this system trusts no authority{}", why.unwrap_or_default());
    let help = "install the package ca-certificates, or give `ca` a file with the authorities";
    Err(Flaw::new("origin_tls.ca", what, help))
}

/// Takes certificates that the authorities vouch for (where there are any) and that are known by
/// fingerprint (where any is given).
#[derive(Debug)]
struct Verifier {
    authorities: Option<Arc<WebPkiServerVerifier>>,
    fingerprints: Vec<Fingerprint>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if !self.fingerprints.is_empty() && !self.fingerprints.contains(&fingerprint(certificate)) {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        match &self.authorities {
            Some(authorities) => authorities.verify_server_cert(
                certificate,
                intermediates,
                server_name,
                ocsp_response,
                now,
            ),
            None => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let known = &self.provider.signature_verification_algorithms;
        known.supported_schemes()
    }
}

/// The SHA-256 of a certificate.
pub fn fingerprint(certificate: &CertificateDer<'_>) -> Fingerprint {
    Fingerprint(Sha256::digest(certificate).into())
}
