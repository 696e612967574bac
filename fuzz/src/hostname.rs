//! The first bytes of clients, in which the host may be named that they want.

use spectrum_user::proxy::hostname::{MAX_LENGTH, Unread, of_minecraft, of_tls};

pub fn run(bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(MAX_LENGTH)];
    for read in [of_tls, of_minecraft] {
        let all = read(bytes);
        if let Ok(Some(name)) = &all {
            assert!((1..=255).contains(&name.len()), "{name:?}");
            assert!(!name.bytes().any(|byte| byte.is_ascii_uppercase()));
        }
        if bytes.len() == MAX_LENGTH {
            assert_ne!(all, Err(Unread::Incomplete), "waits for ever");
        }
        // What is said of a beginning still holds when more has come.
        for cut in [0, 1, 5, bytes.len() / 2, bytes.len().saturating_sub(1)] {
            let early = read(&bytes[..cut.min(bytes.len())]);
            match early {
                Err(Unread::Incomplete) => {}
                // More bytes may be wrong in more ways.
                Err(Unread::Invalid(_)) => {
                    assert!(
                        matches!(all, Err(Unread::Invalid(_))),
                        "after {cut} bytes: {all:?}"
                    );
                }
                early => assert_eq!(early, all, "after {cut} bytes"),
            }
        }
    }
}
