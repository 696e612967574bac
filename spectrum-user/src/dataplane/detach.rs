//! Detaching at once. To remove a link's pin detaches the program too, but only once the kernel
//! gets around to it, and whoever was told that a filter is gone counts on it.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

// Of `enum bpf_cmd`; aya has no function for the second.
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_LINK_DETACH: libc::c_long = 34;

/// Parameters of `BPF_OBJ_GET` (`union bpf_attr`).
#[repr(C)]
struct ObjGet {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// Parameters of `BPF_LINK_DETACH`.
#[repr(C)]
struct LinkDetach {
    link_fd: u32,
}

/// Detaches the program of a pinned link (kernel 5.9). The link stays, and leads nowhere.
///
/// # Errors
/// There is no such pin, it is no link, or `CAP_NET_ADMIN` is missing.
pub(super) fn detach_link(pin: &Path) -> io::Result<()> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let attributes = ObjGet {
        pathname: path.as_ptr() as u64,
        bpf_fd: 0,
        file_flags: 0,
    };
    let link = bpf(BPF_OBJ_GET, &attributes)?;
    // SAFETY: the descriptor is new, and nobody else's.
    let link = unsafe { OwnedFd::from_raw_fd(link) };
    let attributes = LinkDetach {
        link_fd: link.as_raw_fd().cast_unsigned(),
    };
    bpf(BPF_LINK_DETACH, &attributes)?;
    Ok(())
}

/// The system call bpf(2).
fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<libc::c_int> {
    // SAFETY: the attributes are those of the command, and live until it returns.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attributes),
            size_of::<T>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    libc::c_int::try_from(result).map_err(io::Error::other)
}
