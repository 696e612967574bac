//! Certificates as an operator makes them: with openssl(1), in files.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

/// An authority, with everything in one directory.
#[derive(Debug)]
pub struct Authority {
    directory: PathBuf,
    /// Its own certificate.
    pub chain: PathBuf,
    key: PathBuf,
}

/// A certificate and its key.
#[derive(Clone, Debug)]
pub struct Certificate {
    pub chain: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    /// # Errors
    /// openssl is not installed, or fails.
    pub fn new(directory: PathBuf) -> Result<Self> {
        fs::create_dir_all(&directory)?;
        let (chain, key) = (directory.join("ca.pem"), directory.join("ca.key"));
        request(&chain, &key, "authority", &[] as &[&str])?;
        Ok(Self {
            directory,
            chain,
            key,
        })
    }

    /// Signs for a server, or client, of this name; what was there before is replaced.
    ///
    /// # Errors
    /// openssl fails.
    pub fn sign(&self, name: &str) -> Result<Certificate> {
        let path = |ending| self.directory.join(format!("{name}.{ending}"));
        let certificate = Certificate {
            chain: path("pem"),
            key: path("key"),
        };
        let names = format!("subjectAltName=DNS:{name}");
        let [ca, key] = [&self.chain, &self.key].map(|path| path.as_os_str());
        let signing: [&OsStr; 8] = [
            "-CA".as_ref(),
            ca,
            "-CAkey".as_ref(),
            key,
            "-addext".as_ref(),
            names.as_ref(),
            "-addext".as_ref(),
            "basicConstraints=CA:FALSE".as_ref(),
        ];
        request(&certificate.chain, &certificate.key, name, &signing)?;
        Ok(certificate)
    }
}

impl Certificate {
    /// As a document of an app names it.
    pub fn to_toml(&self) -> String {
        let [chain, key] = [&self.chain, &self.key].map(|path| path.display());
        format!("{{ chain = \"{chain}\", key = \"{key}\" }}")
    }
}

fn request(chain: &Path, key: &Path, name: &str, more: &[impl AsRef<OsStr>]) -> Result<()> {
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-noenc", "-days", "30", "-newkey", "ec"]);
    openssl.args(["-pkeyopt", "ec_paramgen_curve:P-256", "-subj"]);
    openssl.arg(format!("/CN={name}"));
    openssl.arg("-keyout").arg(key).arg("-out").arg(chain);
    let output = openssl.args(more).output().context("running openssl")?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "openssl req: {complaint}");
    Ok(())
}
