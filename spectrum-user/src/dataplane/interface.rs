//! What the kernel says of an interface.

use std::{ffi::CStr, io, os::fd::AsRawFd as _};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::error::Error;

/// The driver of virtual Ethernet pairs.
pub(super) const VETH: &CStr = c"veth";

/// Drivers to which XDP can send (`ndo_xdp_xmit`) while a program is attached to them, for kernels that do
/// not say it themselves.
pub(super) const SENDERS: &[&CStr] = &[
    c"bnxt_en",
    c"ena",
    c"hv_netvsc",
    c"i40e",
    c"ice",
    c"igb",
    c"igc",
    c"ixgbe",
    c"mlx5_core",
    c"virtio_net",
];

// linux/ethtool.h and linux/sockios.h
const SIOCETHTOOL: libc::Ioctl = 0x8946;
const ETHTOOL_GDRVINFO: u32 = 3;

/// `struct ethtool_drvinfo`.
#[repr(C)]
struct DriverInfo {
    command: u32,
    driver: [u8; 32],
    rest: [u8; 160],
}

/// The largest packet that an interface sends.
///
/// # Errors
/// There is no such interface.
pub(super) fn mtu(interface: &str) -> Result<u32, Error> {
    let mut request = request(interface);
    ask(
        libc::SIOCGIFMTU,
        &mut request,
        "cannot read the MTU of the interface",
    )?;
    // SAFETY: the call has filled in this member.
    let mtu = unsafe { request.ifr_ifru.ifru_mtu };
    Ok(mtu.unsigned_abs())
}

/// Does this driver move the interface's packets?
///
/// # Errors
/// There is no such interface.
pub(super) fn has_driver(interface: &str, driver: &CStr) -> Result<bool, Error> {
    let mut info = DriverInfo {
        command: ETHTOOL_GDRVINFO,
        driver: [0; 32],
        rest: [0; 160],
    };
    let mut request = request(interface);
    request.ifr_ifru.ifru_data = (&raw mut info).cast();
    ask(
        SIOCETHTOOL,
        &mut request,
        "cannot read the driver of the interface",
    )?;
    Ok(CStr::from_bytes_until_nul(&info.driver) == Ok(driver))
}

fn request(interface: &str) -> libc::ifreq {
    // SAFETY: the struct holds only integers, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let name = interface.bytes().take(libc::IFNAMSIZ - 1);
    for (to, from) in request.ifr_name.iter_mut().zip(name) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    request
}

fn ask(what: libc::Ioctl, request: &mut libc::ifreq, action: &'static str) -> Result<(), Error> {
    let socket = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .map_err(Error::system(action))?;
    // SAFETY: the request names an interface, has what this call asks for, and outlives it.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), what, std::ptr::from_mut(request)) };
    if result < 0 {
        return Err(Error::System {
            action,
            source: io::Error::last_os_error(),
        });
    }
    Ok(())
}
