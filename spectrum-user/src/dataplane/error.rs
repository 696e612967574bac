//! What can go wrong between the daemon and the kernel.

use std::{io, path::PathBuf};

use aya::{
    EbpfError,
    maps::MapError,
    programs::{ProgramError, links::LinkError},
};

/// An error of the data plane; `Display` says what was tried, the sources say why it failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot load the XDP program")]
    Load(#[source] Box<EbpfError>),
    #[error("the object holds no {0}")]
    Missing(&'static str),
    #[error("the kernel refused the XDP program")]
    Program(#[source] Box<ProgramError>),
    #[error("cannot use the link between program and interface")]
    Link(#[from] LinkError),
    #[error("cannot read the log of packets")]
    PacketLog(#[from] aya_log::Error),
    #[error("map {map}: cannot {action}")]
    Map {
        map: &'static str,
        action: &'static str,
        source: Box<MapError>,
    },
    #[error("map {map}: full ({capacity} entries)\n  help: {remedy}")]
    Full {
        map: &'static str,
        capacity: usize,
        remedy: &'static str,
    },
    #[error("{path}: cannot {action}")]
    Pin {
        path: PathBuf,
        action: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("{path} does not lie on a BPF file system\n  help: mount -t bpf bpf /sys/fs/bpf")]
    NoBpffs { path: PathBuf },
    #[error(
        "nothing is pinned in {path}: no filter runs there\n  help: `spectrum run` attaches one"
    )]
    NothingPinned { path: PathBuf },
    #[error(
        "{path} was pinned by another version of Spectrum ({why})\n  help: use that version's \
         command, or start this version's daemon, which replaces the filter"
    )]
    OtherVersion { path: PathBuf, why: String },
    #[error("no network interface is called {0}")]
    NoInterface(String),
    #[error(
        "{interface}: native XDP refused by driver ({cause})\n  help: set xdp_mode = \"auto\" or \
         \"generic\""
    )]
    NativeRefused { interface: String, cause: String },
    #[error("{interface}: cannot attach the XDP program in {mode} mode")]
    Attach {
        interface: String,
        mode: &'static str,
        #[source]
        source: Box<ProgramError>,
    },
    #[error(
        "{interface}: another XDP program is attached\n  help: look with `ip link show \
         {interface}`; remove it with `ip link set {interface} xdp off`, or with the program that \
         owns it"
    )]
    Occupied { interface: String },
    #[error("{action}")]
    System {
        action: &'static str,
        #[source]
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn map(map: &'static str, action: &'static str) -> impl FnOnce(MapError) -> Self {
        move |source| Self::Map {
            map,
            action,
            source: Box::new(source),
        }
    }

    pub(crate) fn pin<E>(path: impl Into<PathBuf>, action: &'static str) -> impl FnOnce(E) -> Self
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let path = path.into();
        move |source| Self::Pin {
            path,
            action,
            source: Box::new(source),
        }
    }

    pub(crate) fn system<E: Into<io::Error>>(action: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::System {
            action,
            source: source.into(),
        }
    }
}

impl From<EbpfError> for Error {
    fn from(error: EbpfError) -> Self {
        Self::Load(Box::new(error))
    }
}

impl From<ProgramError> for Error {
    fn from(error: ProgramError) -> Self {
        Self::Program(Box::new(error))
    }
}
