use super::*;

fn size_of_future<A, B, C, F: Future>(_: fn(A, B, C) -> F) -> usize {
    size_of::<F>()
}

/// A hundred thousand idle players should not cost more than their sockets.
#[test]
fn a_connection_is_small() {
    let size = size_of_future(bounded);
    assert!(size <= 1536, "{size} bytes");
}

/// The statuses that operators alert on.
#[test]
fn errors_become_the_documented_statuses() {
    let connect = [
        (libc::ECONNREFUSED, 521),
        (libc::ETIMEDOUT, 522),
        (libc::ENETUNREACH, 523),
        (libc::EHOSTUNREACH, 524),
        (libc::EMFILE, 500),
    ];
    for (errno, expected) in connect {
        let error = io::Error::from_raw_os_error(errno);
        assert_eq!(connect_status(&error).0, expected, "{error}");
    }
    let table = [
        (libc::ECONNRESET, 499, 444),
        (libc::ETIMEDOUT, 497, 445),
        (libc::EHOSTUNREACH, 496, 446),
        (libc::ECONNREFUSED, 495, 447),
        (libc::EPIPE, 498, 448),
        (libc::EIO, 999, 520),
    ];
    for (errno, client, origin) in table {
        for (side, expected) in [(Side::Client, client), (Side::Origin, origin)] {
            let error = io::Error::from_raw_os_error(errno);
            assert_eq!(
                status(&End::Failed { side, error }).0,
                expected,
                "{errno} {side:?}"
            );
        }
    }
}
