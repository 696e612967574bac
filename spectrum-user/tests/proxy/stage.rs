//! What every test needs: a proxy, apps, origins, clients, and patience with a deadline.

use std::{
    collections::HashSet,
    fmt::Debug,
    fs,
    future::Future,
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    process,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use socket2::{Domain, SockRef, Socket, Type};
use spectrum_user::{
    config::{
        Admission, Amplification, App, AppId, Ceiling, DataPath, Datagrams, EdgeIps, HeaderOn,
        Limits, Mitigation, Mode, Origin, PortRange, Protection, ProxyProtocol, Rate, SynChallenge,
        Timeouts, Transport, When,
    },
    event::{self, Kind, Record},
    proxy::{AppSnapshot, ApplyError, Changes, Drained, Proofs, Proxy, Settings, Shortcut},
    tls::Endpoints,
};

/// For what should come at once, on a machine that may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The edge port of apps with one port; every test has addresses of its own.
pub(crate) const PORT: u16 = 4000;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

thread_local! {
    /// Held from the first socket of a test to the end of its thread.
    static TURN: MutexGuard<'static, ()> =
        ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
}

/// Tests that open a socket by themselves call it before.
pub(crate) fn take_turn() {
    TURN.with(|_held| {});
}

/// A running proxy, which leaves nothing behind.
pub(crate) struct Stage {
    proxy: Option<Proxy>,
    events: event::Receiver,
    tls: Mutex<Endpoints>,
    files: usize,
}

impl Stage {
    pub(crate) fn new(apps: &[App]) -> Self {
        Self::with_drain(Duration::from_secs(5), apps)
    }

    pub(crate) fn with_drain(drain: Duration, apps: &[App]) -> Self {
        Self::start(2, drain, None, apps)
    }

    /// Where it matters that the kernel does not spread sources over workers.
    pub(crate) fn with_one_worker(apps: &[App]) -> Self {
        Self::start(1, Duration::from_secs(5), None, apps)
    }

    /// With somebody who may carry datagrams past the proxy.
    pub(crate) fn with_shortcut(apps: &[App], shortcut: Arc<dyn Shortcut>) -> Self {
        Self::start(1, Duration::from_secs(5), Some(shortcut), apps)
    }

    fn start(
        workers: usize,
        drain: Duration,
        shortcut: Option<Arc<dyn Shortcut>>,
        apps: &[App],
    ) -> Self {
        take_turn();
        // The first runtime opens what the process keeps for ever.
        block_on(async {});
        let files = open_files().len();
        let (sink, events) = event::channel();
        let proxy = {
            let settings = Settings {
                workers,
                drain,
                dns_servers: Vec::new(),
                shortcut,
            };
            Proxy::start(settings, sink).unwrap()
        };
        let stage = Self {
            proxy: Some(proxy),
            events,
            tls: Mutex::default(),
            files,
        };
        stage.apply(apps).unwrap();
        stage
    }

    pub(crate) fn apply(&self, apps: &[App]) -> Result<Changes, ApplyError> {
        let apps: Vec<_> = apps.iter().cloned().map(Arc::new).collect();
        let tls = Endpoints::read(apps.iter().map(|app| &**app), &Endpoints::default());
        let tls = tls.unwrap_or_else(|errors| panic!("{errors}"));
        *self.tls.lock().unwrap() = tls.clone();
        block_on(self.proxy.as_ref().unwrap().apply(&apps, &tls))
    }

    /// As often as the daemon looks until a change takes effect.
    pub(crate) fn look_at_certificates(&self) {
        let tls = self.tls.lock().unwrap().clone();
        tls.look();
        tls.look();
    }

    pub(crate) fn snapshot(&self, name: &str) -> AppSnapshot {
        let all = self.proxy.as_ref().unwrap().snapshot();
        all.into_iter().find(|app| app.name == name).unwrap()
    }

    pub(crate) fn proofs(&self) -> Proofs {
        self.proxy.as_ref().unwrap().proofs()
    }

    pub(crate) fn connected(&self) -> HashSet<(AppId, IpAddr)> {
        let connected = self.proxy.as_ref().unwrap().connected();
        connected.into_iter().collect()
    }

    pub(crate) fn next_event(&self) -> Record {
        self.events.next(PATIENCE).expect("an event")
    }

    /// The next event has to be of this kind, with this status.
    pub(crate) fn expect_event(&self, kind: Kind, status: u16) -> Record {
        let record = self.next_event();
        assert_eq!(
            (record.event, record.status.0),
            (kind, status),
            "{record:?}"
        );
        record
    }

    pub(crate) fn expect_no_event(&self) {
        assert_eq!(self.events.next(Duration::ZERO), None);
    }

    /// Waits until the app holds `active` connections or sessions.
    pub(crate) fn wait_for_active(&self, name: &str, active: u32) {
        eventually(|| self.snapshot(name).active, |&now| now == active);
    }

    pub(crate) fn shutdown(&mut self, deadline: Duration) -> Drained {
        block_on(self.proxy.take().unwrap().shutdown(deadline))
    }
}

/// The end of every test: nothing is left open.
impl Drop for Stage {
    fn drop(&mut self) {
        if thread::panicking() {
            return;
        }
        if self.proxy.is_some() {
            for app in self.proxy.as_ref().unwrap().snapshot() {
                self.wait_for_active(&app.name, 0);
            }
            let drained = self.shutdown(PATIENCE);
            assert_eq!(drained.cut, 0);
        }
        eventually(open_files, |files| files.len() <= self.files);
    }
}

/// Polls until it is good, and fails with what it was at the deadline.
pub(crate) fn eventually<T: Debug>(
    mut poll: impl FnMut() -> T,
    mut good: impl FnMut(&T) -> bool,
) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let value = poll();
        if good(&value) {
            return value;
        }
        assert!(Instant::now() < deadline, "still {value:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap().block_on(future)
}

/// What the open files of this process are, as far as they can be named.
pub(crate) fn open_files() -> Vec<String> {
    let names = fs::read_dir("/proc/self/fd").unwrap().map(|entry| {
        let target = fs::read_link(entry.unwrap().path());
        target.map_or_else(|error| error.to_string(), |link| link.display().to_string())
    });
    names.collect()
}

/// Loopback addresses of this process alone, so that others may test on the same machine.
pub(crate) fn ip(number: u8) -> IpAddr {
    let [_, _, high, low] = process::id().to_be_bytes();
    Ipv4Addr::new(127, 64 | high >> 1, low ^ (high << 7), number).into()
}

/// The edge address of most apps.
pub(crate) fn edge() -> SocketAddr {
    SocketAddr::new(ip(1), PORT)
}

/// An app with one port, generous limits and no headers.
pub(crate) fn app(
    name: &str,
    transport: Transport,
    edge: SocketAddr,
    origins: &[SocketAddr],
) -> App {
    let mut id = [0; 16];
    id.iter_mut()
        .zip(name.bytes())
        .for_each(|(to, from)| *to = from);
    let off = Rate {
        mode: Mode::Off,
        per_second: 1,
        burst: 1,
    };
    let origin = |address: &SocketAddr| Origin {
        ip: address.ip(),
        first_port: address.port(),
    };
    App {
        id: AppId(id),
        name: name.into(),
        document: format!("{name}.toml").into(),
        transport,
        ports: PortRange {
            first: edge.port(),
            last: edge.port(),
        },
        edge_ips: EdgeIps::Static(vec![edge.ip()]),
        origins: origins.iter().map(origin).collect(),
        health: None,
        proxy_protocol: ProxyProtocol::Off,
        proxy_protocol_on: HeaderOn::First,
        data_path: DataPath::Auto,
        routing: None,
        tls: None,
        timeouts: Timeouts {
            connect: Duration::from_secs(5),
            handshake: Duration::from_secs(5),
            idle: Duration::from_secs(60),
            max_duration: None,
        },
        limits: Limits::NONE,
        ip_firewall: false,
        protection: Protection {
            block: Vec::new(),
            blocklist: Mode::Off,
            allow: Vec::new(),
            allowlist: Mode::Off,
            countries: Admission::ALL,
            asns: Admission::ALL,
            reflectors: Mode::Off,
            reflector_ports: Vec::new(),
            fragments: Mode::Off,
            packet_rate: off,
            syn_rate: off,
            syn_challenge: SynChallenge {
                when: When::Never,
                above: 1,
            },
            out_of_state: Mode::Off,
            out_of_state_above: 0,
            mitigation: Mitigation::OFF,
            rules: Vec::new(),
            ceiling: Ceiling::NONE,
            tcp_session: None,
            datagrams: Datagrams::ANY,
            amplification: Amplification::ANY,
        },
    }
}

pub(crate) fn tcp_app(origins: &[SocketAddr]) -> App {
    app("app", Transport::Tcp, edge(), origins)
}

pub(crate) fn udp_app(origins: &[SocketAddr]) -> App {
    app("app", Transport::Udp, edge(), origins)
}

/// A TCP origin that the test plays by itself.
pub(crate) fn tcp_origin() -> TcpListener {
    tcp_listener(ip(2), 0)
}

pub(crate) fn tcp_listener(ip: IpAddr, port: u16) -> TcpListener {
    take_turn();
    TcpListener::bind((ip, port)).unwrap()
}

/// Waits for a connection of the proxy.
pub(crate) fn accept(origin: &TcpListener) -> TcpStream {
    origin.set_nonblocking(true).unwrap();
    let accepted = eventually(
        || origin.accept(),
        |accepted| !matches!(accepted, Err(error) if error.kind() == io::ErrorKind::WouldBlock),
    );
    let (stream, _) = accepted.unwrap();
    stream.set_nonblocking(false).unwrap();
    patient(stream)
}

/// A client of the proxy.
pub(crate) fn connect(edge: SocketAddr) -> TcpStream {
    patient(TcpStream::connect_timeout(&edge, PATIENCE).unwrap())
}

/// A client with this address.
pub(crate) fn connect_from(source: IpAddr, edge: SocketAddr) -> TcpStream {
    try_connect_from(source, edge).unwrap()
}

/// A client with this address that may be reset, perhaps before it is connected.
pub(crate) fn try_connect_from(source: IpAddr, edge: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(edge), Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(source, 0).into())?;
    socket.connect_timeout(&edge.into(), PATIENCE)?;
    Ok(patient(socket.into()))
}

/// A connection from end to end.
pub(crate) fn connect_through(edge: SocketAddr, origin: &TcpListener) -> (TcpStream, TcpStream) {
    let client = connect(edge);
    (client, accept(origin))
}

/// A test that waits in vain fails instead of hanging.
fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// An origin that sends back what it gets, until the stage's proxy has closed its connections.
pub(crate) fn tcp_echo() -> SocketAddr {
    let listener = tcp_origin();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        // Ends with the first connection, so that no file stays open.
        let (mut stream, _) = listener.accept().unwrap();
        let mut buffer = vec![0; 100_000];
        loop {
            let read = stream.read(&mut buffer).unwrap_or(0);
            if read == 0 || stream.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        let _ = stream.shutdown(Shutdown::Write);
    });
    address
}

/// Closes with RST.
pub(crate) fn reset(stream: TcpStream) {
    SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
}

/// What ends a stream that has nothing more to give: 0 for FIN, or an errno.
pub(crate) fn end_of(stream: &mut TcpStream) -> i32 {
    match stream.read(&mut [0; 1]) {
        Ok(0) => 0,
        Ok(_) => panic!("a byte came instead of the end"),
        Err(error) => error.raw_os_error().unwrap(),
    }
}

/// Connects, and waits for the reset that has to come, perhaps before it is connected.
pub(crate) fn expect_reset(source: IpAddr, edge: SocketAddr) {
    let end = match try_connect_from(source, edge) {
        Ok(mut client) => end_of(&mut client),
        Err(error) => error.raw_os_error().unwrap_or_default(),
    };
    assert_eq!(end, libc::ECONNRESET);
}

/// A client of a UDP app: gets only what comes from the address it talks to.
pub(crate) fn udp_client(edge: SocketAddr) -> UdpSocket {
    let any = match edge {
        SocketAddr::V4(_) => "0.0.0.0:0",
        SocketAddr::V6(_) => "[::]:0",
    };
    let socket = UdpSocket::bind(any).unwrap();
    socket.connect(edge).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// A UDP origin that the test plays by itself.
pub(crate) fn udp_origin() -> UdpSocket {
    udp_socket(ip(2), 0)
}

pub(crate) fn udp_socket(ip: IpAddr, port: u16) -> UdpSocket {
    take_turn();
    let socket = UdpSocket::bind((ip, port)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

pub(crate) fn receive(socket: &UdpSocket) -> Vec<u8> {
    receive_from(socket).0
}

pub(crate) fn receive_from(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 65_536];
    let (length, from) = socket.recv_from(&mut buffer).unwrap();
    buffer.truncate(length);
    (buffer, from)
}

/// The same bytes for the same seed: xorshift64* (Vigna 2016).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}
