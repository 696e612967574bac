//! Segments that belong to a connection of the host, and those that belong to nothing.

use super::*;

/// Flags of segments that floods are made of.
const FLOODS: [u8; 6] = [ACK, ACK | PSH, ACK | FIN, RST, RST | ACK, SYN | ACK];

pub(super) fn belongs_to_nothing(Host { fixture, .. }: &mut Host) -> Result<()> {
    for (client, edge) in WAYS {
        for flags in FLOODS {
            let frame = tcp(client, edge, GUARDED, flags);
            fixture.check(&frame, Some("guarded"), Dropped(OutOfState))?;
            fixture.check(&tcp(client, edge, 9, flags), None, Dropped(OutOfState))?;
            // The host's rule spares who listens, the app's is off.
            fixture.check(&tcp(client, edge, 80, flags), Some("web"), Passed)?;
        }
    }
    Ok(())
}

pub(super) fn a_connection_passes(Host { fixture, .. }: &mut Host) -> Result<()> {
    for (client, edge) in WAYS {
        let connection = connect(client, edge, GUARDED)?;
        let data = tcp(client, edge, GUARDED, ACK | PSH);
        for flags in [ACK, ACK | PSH, ACK | FIN, RST] {
            let frame = tcp(client, edge, GUARDED, flags);
            fixture.check(&frame, Some("guarded"), Passed)?;
        }
        // Its proof is good for a while, whatever becomes of the socket meanwhile.
        reset(connection)?;
        fixture.check(&data, Some("guarded"), Passed)?;
        // A SYN proves nothing by that.
        let frame = syn(client, edge, GUARDED);
        fixture.check(&frame, Some("guarded"), Challenged)?;
    }
    Ok(())
}

/// Who has not answered yet proves nothing, but may answer.
pub(super) fn a_handshake_passes(Host { fixture, listener }: &mut Host) -> Result<()> {
    host::set_sysctl("tcp_syncookies", "1")?;
    wait_for_data(listener)?;
    let connection = connect(CLIENT, EDGE, GUARDED)?;
    let frame = tcp(CLIENT, EDGE, GUARDED, ACK);
    fixture.check(&frame, Some("guarded"), Passed)?;
    reset(connection)?;
    fixture.check(&frame, Some("guarded"), Dropped(OutOfState))
}

/// Has the kernel keep a request after the client's first ACK, until there is data.
fn wait_for_data(listener: &TcpListener) -> Result<()> {
    let seconds: libc::c_int = 5;
    // SAFETY: the kernel reads an integer of this length.
    let result = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            (&raw const seconds).cast(),
            size_of_val(&seconds) as libc::socklen_t,
        )
    };
    ensure!(result == 0, "{}", std::io::Error::last_os_error());
    Ok(())
}

pub(super) fn a_block_cuts(Host { fixture, .. }: &mut Host) -> Result<()> {
    let _connection = connect(CLIENT, EDGE, GUARDED)?;
    let frame = tcp(CLIENT, EDGE, GUARDED, ACK | PSH);
    let owner = Some("guarded");
    for _ in 0..3 {
        fixture.check(&frame, owner, Passed)?;
    }
    let key = (0, format!("{CLIENT}/32").parse()?);
    lists::put(fixture.filter().maps_mut(), key, Action::Block, None)?;
    fixture.check(&frame, owner, Dropped(Blocked))?;
    lists::remove(fixture.filter().maps_mut(), key)?;
    fixture.check(&frame, owner, Passed)
}

/// Nothing changes but that a database finds the client in a country that was refused all the time.
pub(super) fn a_country_cuts(Host { fixture, .. }: &mut Host) -> Result<()> {
    let _connection = connect(CLIENT, EDGE, GUARDED)?;
    let frame = tcp(CLIENT, EDGE, GUARDED, ACK | PSH);
    let owner = Some("guarded");
    for _ in 0..3 {
        fixture.check(&frame, owner, Passed)?;
    }
    let client = format!("{CLIENT}/32");
    fixture.learn(&[(client.as_str(), "KP", 64496)])?;
    fixture.check(&frame, owner, Dropped(Country))?;
    fixture.learn(&[(client.as_str(), "DE", 64496)])?;
    fixture.check(&frame, owner, Passed)
}

pub(super) fn out_of_state_monitored(Host { fixture, .. }: &mut Host) -> Result<()> {
    for flags in FLOODS {
        let frame = tcp(CLIENT, EDGE, LENIENT, flags);
        fixture.check(&frame, Some("lenient"), Monitored(OutOfState))?;
    }
    Ok(())
}

/// Of a second: in one that goes over, more pass.
pub(super) fn a_few_may_pass(Host { fixture, .. }: &mut Host) -> Result<()> {
    let owner = Some("patient");
    let mut few = FLOODS.iter().cycle().take(PATIENT_ABOVE as usize);
    few.try_for_each(|&flags| fixture.check(&tcp(CLIENT, EDGE, PATIENT, flags), owner, Passed))?;
    for (client, edge) in WAYS {
        fixture.check(&tcp(client, edge, PATIENT, ACK), owner, Dropped(OutOfState))?;
    }
    Ok(())
}

/// From the client's host to the edge's own port: what the edge has asked for.
pub(super) fn replies(Host { fixture, .. }: &mut Host) -> Result<()> {
    let server = TcpListener::bind((CLIENT, CLIENT_PORT))?;
    let asked = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    asked.bind(&SocketAddr::new(EDGE.parse()?, 0).into())?;
    asked.connect(&server.local_addr()?.into())?;
    let port = asked.local_addr()?.as_socket().context("no port")?.port();
    for flags in [SYN | ACK, ACK | PSH, ACK | FIN, RST | ACK] {
        fixture.check(&tcp(CLIENT, EDGE, port, flags), None, Passed)?;
    }
    Ok(())
}
