//! The interfaces through which filters may carry datagrams past the proxy: those on the way to an
//! origin, and those that the kernel lets XDP send to.

use std::{io, net::IpAddr};

use aya::{
    maps::xdp::XdpMapError,
    programs::{Xdp, XdpMode as Flags, xdp::XdpLink},
};
use nix::{
    net::if_::{if_indextoname, if_nametoindex},
    sys::socket::SockProtocol,
};
use spectrum_common::maps as names;

use super::{
    attach::{self, AttachMode},
    error::Error,
    filter::Filter,
    interface,
    netlink::{ask, attribute, bytes_at, find},
    veth,
};

// linux/rtnetlink.h
const ROUTE_INFO: usize = 12;
const NEW_ROUTE: u16 = 24;
const GET_ROUTE: u16 = 26;
const DESTINATION: u16 = 1;
const OUTPUT: u16 = 4;

// linux/genetlink.h and linux/netdev.h
const CONTROLLER: u16 = 0x10;
const GENERIC_HEADER: usize = 4;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
const DEVICE_GET: u8 = 1;
const DEVICE_INDEX: u16 = 1;
const XDP_FEATURES: u16 = 3;
/// `NETDEV_XDP_ACT_NDO_XMIT`: XDP can send there at this moment.
const CAN_SEND: u64 = 1 << 2;

/// The name of the interface by which this host reaches an address.
///
/// # Errors
/// There is no way there.
pub fn towards(ip: IpAddr) -> io::Result<String> {
    let name = if_indextoname(index_towards(ip)?)?;
    name.into_string().map_err(io::Error::other)
}

/// The index of that interface.
///
/// # Errors
/// There is no way there.
pub fn index_towards(ip: IpAddr) -> io::Result<u32> {
    let (family, bytes) = match ip {
        IpAddr::V4(v4) => (libc::AF_INET, v4.octets().to_vec()),
        IpAddr::V6(v6) => (libc::AF_INET6, v6.octets().to_vec()),
    };
    // `struct rtmsg`.
    let mut body = [0; ROUTE_INFO].to_vec();
    body.splice(0..1, [u8::try_from(family).unwrap_or_default()]);
    body.splice(1..2, [u8::try_from(bytes.len() * 8).unwrap_or_default()]);
    body.extend(attribute(DESTINATION, &bytes));
    let route = ask(SockProtocol::NetlinkRoute, GET_ROUTE, &body, NEW_ROUTE)?;
    let output = find(route.get(ROUTE_INFO..).unwrap_or_default(), OUTPUT);
    let index = output.and_then(|value| bytes_at(value, 0));
    index
        .map(u32::from_ne_bytes)
        .ok_or_else(|| io::Error::other("the kernel names no interface"))
}

/// Is there no card behind this interface whose link a program could interrupt?
///
/// # Errors
/// There is no such interface.
pub fn is_virtual(name: &str) -> Result<bool, Error> {
    interface::has_driver(name, interface::VETH)
}

/// Can XDP send to this interface at this moment?
///
/// The kernel says so itself (6.3). An earlier one does not: there it can to those drivers that are known
/// for it, if a program of ours is attached in the driver (`has_program`), and to one end of a virtual
/// pair if a program is at the other.
///
/// # Errors
/// There is no such interface.
pub fn can_send(name: &str, has_program: bool) -> Result<bool, Error> {
    let index = attach::interface_index(name)?;
    if let Ok(features) = xdp_features(index) {
        return Ok(features & CAN_SEND != 0);
    }
    if interface::has_driver(name, interface::VETH)? {
        return Ok(veth::peer_receives(name).unwrap_or(false));
    }
    let mut known = interface::SENDERS.iter();
    Ok(has_program && known.any(|driver| interface::has_driver(name, driver).unwrap_or(false)))
}

fn xdp_features(index: u32) -> io::Result<u64> {
    let family = netdev_family()?;
    let body = [
        vec![DEVICE_GET, 1, 0, 0],
        attribute(DEVICE_INDEX, &index.to_ne_bytes()),
    ];
    let device = ask(SockProtocol::NetlinkGeneric, family, &body.concat(), family)?;
    let features = find(
        device.get(GENERIC_HEADER..).unwrap_or_default(),
        XDP_FEATURES,
    );
    let features = features.and_then(|value| bytes_at(value, 0));
    features
        .map(u64::from_ne_bytes)
        .ok_or_else(|| io::Error::other("the kernel tells no features"))
}

/// The number by which questions about network devices go.
fn netdev_family() -> io::Result<u16> {
    let body = [
        vec![GET_FAMILY, 1, 0, 0],
        attribute(FAMILY_NAME, b"netdev\0"),
    ];
    let family = ask(
        SockProtocol::NetlinkGeneric,
        CONTROLLER,
        &body.concat(),
        CONTROLLER,
    )?;
    let id = find(family.get(GENERIC_HEADER..).unwrap_or_default(), FAMILY_ID);
    id.and_then(|value| bytes_at(value, 0))
        .map(u16::from_ne_bytes)
        .ok_or_else(|| io::Error::other("the kernel names no number"))
}

/// The program that only carries, on an interface that is not shielded. Dropping it detaches it, and so
/// does the end of this process.
pub struct Carrier {
    interface: String,
    _link: XdpLink,
}

impl Carrier {
    pub fn interface(&self) -> &str {
        &self.interface
    }
}

impl Filter {
    /// Lets this filter's flows be carried where they arrive at another interface, in its driver.
    ///
    /// # Errors
    /// The driver knows no XDP, or another program is there.
    pub fn carry_at(&mut self, interface: &str) -> Result<Carrier, Error> {
        let index = attach::interface_index(interface)?;
        let program: &mut Xdp = self.program_named(names::CARRY)?;
        let link = program
            .attach_to_if_index(index, Flags::Driver)
            .and_then(|id| program.take_link(id))
            .map_err(|source| attach::attach_error(interface, AttachMode::Native, source))?;
        Ok(Carrier {
            interface: interface.to_owned(),
            _link: link,
        })
    }

    /// Lets the filter send to these interfaces and no other. Those that are gone have left the map by
    /// themselves.
    ///
    /// # Errors
    /// The kernel refuses a write.
    pub fn send_to(&mut self, interfaces: &[String]) -> Result<(), Error> {
        let ports = &mut self.maps_mut().forward_ports;
        let read = Error::map(names::FORWARD_PORTS, "read");
        let write = |error| match error {
            XdpMapError::MapError(error) => Error::map(names::FORWARD_PORTS, "write")(error),
            error @ XdpMapError::ChainedProgramNotSupported => Error::System {
                action: "cannot note an interface",
                source: io::Error::other(error),
            },
        };
        let indexes = interfaces.iter();
        let mut wanted: Vec<u32> = indexes
            .filter_map(|name| if_nametoindex(name.as_str()).ok())
            .collect();
        let known: Result<Vec<u32>, _> = ports.keys().collect();
        for index in known.map_err(read)? {
            if let Some(at) = wanted.iter().position(|wanted| *wanted == index) {
                wanted.swap_remove(at);
            } else {
                ports
                    .remove(index)
                    .map_err(Error::map(names::FORWARD_PORTS, "write"))?;
            }
        }
        for index in wanted {
            ports.insert(index, index, None, 0).map_err(write)?;
        }
        Ok(())
    }
}
