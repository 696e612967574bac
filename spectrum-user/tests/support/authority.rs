//! Certificates for tests, and the files that they are in.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};

/// An authority of its own.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) certificate: rcgen::Certificate,
}

/// A certificate that an authority has signed.
pub(crate) struct Signed {
    pub(crate) certificate: rcgen::Certificate,
    pub(crate) key: KeyPair,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self {
            issuer: Issuer::new(params, key),
            certificate,
        }
    }

    pub(crate) fn sign(&self, names: &[&str]) -> Signed {
        self.sign_until(names, 4000)
    }

    /// Valid to the first day of this year.
    pub(crate) fn sign_until(&self, names: &[&str], year: i32) -> Signed {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_after = date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Signed { certificate, key }
    }

    pub(crate) fn write(&self, path: &Path) -> PathBuf {
        fs::write(path, self.certificate.pem()).unwrap();
        path.to_owned()
    }
}

impl Signed {
    /// `NAME.pem` and `NAME.key`, the latter for the owner only.
    pub(crate) fn write(&self, directory: &Path, name: &str) -> (PathBuf, PathBuf) {
        let path = |ending| directory.join(name).with_extension(ending);
        let (chain, key) = (path("pem"), path("key"));
        fs::write(&chain, self.certificate.pem()).unwrap();
        fs::write(&key, self.key.serialize_pem()).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        (chain, key)
    }
}
