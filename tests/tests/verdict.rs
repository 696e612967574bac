#[path = "support/filter.rs"]
mod filter;
#[path = "support/policy.rs"]
mod policy;
use policy::*;
fn main() {
    let mut p = Policy {
        malformed: Mode::Enforce,
        closed_ports: Mode::Enforce,
        edges: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
        apps: vec![App::new(Transport::Tcp, 80..=80)],
        entries: vec![],
    };
    p.apps[0].blocklist = Mode::Enforce;
    let t = std::time::Instant::now();
    let mut f = match filter::Filter::load(&p) {
        Ok(f) => f,
        Err(e) => {
            println!("{e:?}");
            return;
        }
    };
    println!("{:?}", t.elapsed());
    println!("{:?}", f.info());
    if std::env::args().nth(1).is_none() {
        return;
    }
    let v4 = |d: [u8; 4]| {
        let b = etherparse::PacketBuilder::ethernet2([1; 6], [2; 6])
            .ipv4([198, 51, 100, 7], d, 20)
            .tcp(1000, 80, 1, 100)
            .syn();
        let mut o = vec![];
        b.write(&mut o, &[0; 10]).unwrap();
        o
    };
    let v6 = {
        let b = etherparse::PacketBuilder::ethernet2([1; 6], [2; 6])
            .ipv6(
                "2001:db8:1::2"
                    .parse::<std::net::Ipv6Addr>()
                    .unwrap()
                    .octets(),
                "2001:db8::1"
                    .parse::<std::net::Ipv6Addr>()
                    .unwrap()
                    .octets(),
                20,
            )
            .tcp(1000, 80, 1, 100)
            .syn();
        let mut o = vec![];
        b.write(&mut o, &[0; 10]).unwrap();
        o
    };
    let mut t = |name: &str, prog: &str, pkt: &[u8]| {
        let mut v: Vec<_> = (0..7)
            .map(|_| f.run_program(prog, pkt, 3_000_000).unwrap())
            .map(|(a, d)| (d.as_nanos(), a))
            .collect();
        v.sort();
        println!("{name:12} {:?} min {:?}", v[3], v[0]);
    };
    t("bare", "bare_drop", &v4([192, 0, 2, 1]));
    t("v4 ours", "spectrum", &v4([192, 0, 2, 1]));
    t("v4 other", "spectrum", &v4([192, 0, 2, 2]));
    t("v6 ours", "spectrum", &v6);
    t("arp", "spectrum", &[0; 64]);
    println!("{:?}", f.counters());
}
