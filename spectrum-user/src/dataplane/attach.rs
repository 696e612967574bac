//! From a loaded program to an interface that filters.

use std::io;

use aya::programs::{
    ProgramError, Xdp, XdpMode as Flags,
    links::{FdLink, LinkError},
    xdp::XdpLink,
};
use nix::{errno::Errno, net::if_::if_nametoindex};
use spectrum_common::settings::attach_mode;

use super::{
    error::Error,
    pins::{self, Pins},
};
use crate::config::XdpMode;

/// How the program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachMode {
    /// In the driver.
    Native,
    /// In the network stack.
    Generic,
}

impl AttachMode {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }

    pub(super) const fn number(self) -> u32 {
        match self {
            Self::Native => attach_mode::NATIVE,
            Self::Generic => attach_mode::GENERIC,
        }
    }

    /// What [`Settings::attach_mode`](spectrum_common::settings::Settings::attach_mode) says.
    pub fn from_number(number: u32) -> Option<Self> {
        match number {
            attach_mode::NATIVE => Some(Self::Native),
            attach_mode::GENERIC => Some(Self::Generic),
            _ => None,
        }
    }

    const fn flags(self) -> Flags {
        match self {
            Self::Native => Flags::Driver,
            Self::Generic => Flags::Skb,
        }
    }

    const fn fits(self, wanted: XdpMode) -> bool {
        match wanted {
            XdpMode::Auto => true,
            XdpMode::Native => matches!(self, Self::Native),
            XdpMode::Generic => matches!(self, Self::Generic),
        }
    }
}

/// The index of the interface called `name`.
///
/// # Errors
/// There is none.
pub(super) fn interface_index(name: &str) -> Result<u32, Error> {
    // An errno would only say that no such device exists.
    if_nametoindex(name).map_err(|_errno| Error::NoInterface(name.to_owned()))
}

/// Puts `program` in the place of the one on the pinned link, without a gap; or, where there is
/// none (or it cannot be continued), attaches it and pins the new link.
///
/// `attached` says how the pinned link is attached, if it belongs to this interface.
pub(super) fn switch_or_attach(
    program: &mut Xdp,
    pins: &Pins,
    interface: &str,
    wanted: XdpMode,
    attached: Option<AttachMode>,
) -> Result<AttachMode, Error> {
    let link = pins.open_link()?;
    if let (Some(link), Some(mode)) = (link, attached)
        && mode.fits(wanted)
    {
        let link = XdpLink::try_from(FdLink::from(link))?;
        match program.attach_to_link(link) {
            // The link stays pinned: dropping our handle does not detach.
            Ok(_) => return Ok(mode),
            Err(error) if errno(&error) == Some(Errno::ENOLINK) => {
                log::warn!(
                    "{interface}: the device that was filtered is gone; attaching to the new one"
                );
            }
            Err(source) => return Err(attach_error(interface, mode, source)),
        }
    }
    pins::remove(&pins.link())?;
    attach(program, pins, interface, wanted)
}

fn attach(
    program: &mut Xdp,
    pins: &Pins,
    interface: &str,
    wanted: XdpMode,
) -> Result<AttachMode, Error> {
    match wanted {
        XdpMode::Generic => attach_in(program, pins, interface, AttachMode::Generic),
        XdpMode::Native => attach_in(program, pins, interface, AttachMode::Native)
            .map_err(|error| native_refused(interface, error)),
        XdpMode::Auto => match attach_in(program, pins, interface, AttachMode::Native) {
            Err(Error::Attach { source, .. }) => {
                log::warn!(
                    "{interface}: native XDP refused by driver ({}) → generic mode; expect lower \
                     pps. Set xdp_mode = \"native\" to fail instead.",
                    cause(&source)
                );
                attach_in(program, pins, interface, AttachMode::Generic)
            }
            other => other,
        },
    }
}

fn attach_in(
    program: &mut Xdp,
    pins: &Pins,
    interface: &str,
    mode: AttachMode,
) -> Result<AttachMode, Error> {
    let index = interface_index(interface)?;
    let id = program
        .attach_to_if_index(index, mode.flags())
        .map_err(|source| attach_error(interface, mode, source))?;
    let link = program.take_link(id)?;
    let link = FdLink::try_from(link).map_err(|error: LinkError| {
        // aya fell back to netlink: nothing to pin, so the filter would die with the daemon.
        log::error!("{interface}: the kernel gave no bpf_link (Linux 5.9 or later is needed)");
        Error::from(error)
    })?;
    link.pin(pins.link())
        .map_err(Error::pin(pins.link(), "pin the link"))?;
    Ok(mode)
}

pub(super) fn attach_error(interface: &str, mode: AttachMode, source: ProgramError) -> Error {
    let interface = interface.to_owned();
    if matches!(errno(&source), Some(Errno::EBUSY | Errno::EEXIST)) {
        return Error::Occupied { interface };
    }
    Error::Attach {
        interface,
        mode: mode.name(),
        source: Box::new(source),
    }
}

fn native_refused(interface: &str, error: Error) -> Error {
    if let Error::Attach { source, .. } = &error {
        Error::NativeRefused {
            interface: interface.to_owned(),
            cause: cause(source),
        }
    } else {
        error
    }
}

/// The symbol of the system call's error where there is one: what people search for.
fn cause(error: &ProgramError) -> String {
    errno(error).map_or_else(|| error.to_string(), |errno| format!("{errno:?}"))
}

fn errno(error: &ProgramError) -> Option<Errno> {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(code) = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::raw_os_error)
        {
            return Some(Errno::from_raw(code));
        }
        source = error.source();
    }
    None
}
