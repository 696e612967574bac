//! Whom the proxy believes to be real: in a flood, the filter prefers them.

use std::{collections::HashSet, net::IpAddr, thread, time::Duration};

use spectrum_user::config::AppId;

use crate::stage::*;

/// What is there to take now.
fn proofs(stage: &Stage) -> HashSet<(AppId, IpAddr)> {
    let proofs = stage.proofs();
    block_on(async {
        let taken = tokio::time::timeout(Duration::from_millis(1), proofs.take()).await;
        taken.unwrap_or_default()
    })
}

#[test]
fn who_connects_has_proved_itself_for_as_long_as_it_is_connected() {
    let origin = tcp_origin();
    let app = tcp_app(&[origin.local_addr().unwrap()]);
    let expected = HashSet::from([(app.id, ip(10))]);
    let stage = Stage::new(&[app]);
    let client = connect_from(ip(10), edge());
    let served = accept(&origin);
    assert_eq!(proofs(&stage), expected);
    assert_eq!(proofs(&stage), HashSet::new());
    assert_eq!(stage.connected(), expected);
    drop((client, served));
    eventually(|| stage.connected(), HashSet::is_empty);
}

#[test]
fn who_converses_for_a_while_over_udp_has_proved_itself() {
    let origin = udp_origin();
    let mut app = udp_app(&[origin.local_addr().unwrap()]);
    app.timeouts.idle = Duration::from_secs(3);
    let expected = HashSet::from([(app.id, ip(10))]);
    let stage = Stage::new(&[app]);
    let client = |number| {
        let socket = udp_socket(ip(number), 0);
        socket.connect(edge()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    };
    let (talker, sender) = (client(10), client(11));
    let proved = eventually(
        || {
            // This one goes on whether or not it is answered: nobody is there.
            for _ in 0..5 {
                sender.send(b"flood").unwrap();
                receive_from(&origin);
            }
            talker.send(b"question").unwrap();
            let (_, session) = receive_from(&origin);
            origin.send_to(b"answer", session).unwrap();
            assert_eq!(receive(&talker), b"answer");
            thread::sleep(Duration::from_millis(20));
            proofs(&stage)
        },
        |proofs| !proofs.is_empty(),
    );
    assert_eq!(proved, expected);
    assert_eq!(stage.connected(), HashSet::new());
}
