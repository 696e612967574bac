//! What `ethtool -K` does, for offloads that the lab cannot have.

use std::{io, os::fd::AsRawFd as _};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

// linux/ethtool.h and linux/sockios.h
const SIOCETHTOOL: libc::Ioctl = 0x8946;
const ETHTOOL_GFLAGS: u32 = 0x25;
const ETHTOOL_SFLAGS: u32 = 0x26;
const ETHTOOL_STXCSUM: u32 = 0x17;
const ETH_FLAG_TXVLAN: u32 = 1 << 7;

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// Makes `interface`, of the calling thread's namespace, send VLAN tags within the frame.
pub(super) fn disable_vlan(interface: &str) -> io::Result<()> {
    let flags = call(interface, ETHTOOL_GFLAGS, 0)?;
    call(interface, ETHTOOL_SFLAGS, flags & !ETH_FLAG_TXVLAN)?;
    Ok(())
}

/// Whether `interface`, of the calling thread's namespace, leaves the checksums of what it sends to others;
/// from a network card they come with them.
pub(super) fn set_checksums(interface: &str, leave: bool) -> io::Result<()> {
    call(interface, ETHTOOL_STXCSUM, leave.into()).map(drop)
}

fn call(interface: &str, command: u32, data: u32) -> io::Result<u32> {
    let socket = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    let mut value = Value { command, data };
    let mut name = [0; libc::IFNAMSIZ];
    for (to, from) in name
        .iter_mut()
        .zip(interface.bytes().take(libc::IFNAMSIZ - 1))
    {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    let mut request = libc::ifreq {
        ifr_name: name,
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            ifru_data: (&raw mut value).cast(),
        },
    };
    // SAFETY: both structs are as linux/ethtool.h and linux/if.h define them, and outlive the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(value.data)
}
