//! An XDP program that lets everything pass. A veth sends back what a program at one end answers only
//! if there is a program at the other end too, as a network card would without.

use std::{
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use nix::net::if_::if_nametoindex;

// linux/bpf.h and linux/if_link.h
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_F_XDP_HAS_FRAGS: u32 = 1 << 5;
const BPF_XDP: u32 = 37;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// `r0 = XDP_PASS; exit`.
const PASS: [u64; 2] = [0x0000_0002_0000_00b7, 0x95];

/// The beginning of `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
struct Load {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

/// The same for `BPF_LINK_CREATE`.
#[repr(C)]
struct Link {
    program: u32,
    interface: u32,
    attach_type: u32,
    flags: u32,
}

/// Lets everything pass on `interface`, of the calling thread's namespace, for as long as what is
/// returned lives.
pub(super) fn attach(interface: &str) -> io::Result<OwnedFd> {
    let load = Load {
        kind: BPF_PROG_TYPE_XDP,
        instruction_count: 2,
        instructions: PASS.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        // Large packets go through in one piece.
        flags: BPF_F_XDP_HAS_FRAGS,
    };
    let program = call(BPF_PROG_LOAD, &load)?;
    let link = Link {
        program: program.as_raw_fd().cast_unsigned(),
        interface: if_nametoindex(interface)?,
        attach_type: BPF_XDP,
        flags: XDP_FLAGS_DRV_MODE,
    };
    call(BPF_LINK_CREATE, &link)
}

fn call<T>(command: libc::c_long, attributes: &T) -> io::Result<OwnedFd> {
    let start: *const T = attributes;
    // SAFETY: the attributes are as linux/bpf.h defines them for the command, what they point to is
    // static, and they outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, start, size_of::<T>()) };
    let Ok(descriptor) = i32::try_from(result) else {
        return Err(io::Error::other("no descriptor"));
    };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor, which nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
