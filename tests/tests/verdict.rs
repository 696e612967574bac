#[path = "support/filter.rs"]
mod filter;
#[path = "support/policy.rs"]
mod policy;
use policy::*;
fn main() {
    let p = Policy { malformed: Mode::Enforce, closed_ports: Mode::Enforce, edges: vec!["192.0.2.1".parse().unwrap()], apps: vec![App::new(Transport::Tcp, 80..=80)], entries: vec![] };
    let t = std::time::Instant::now();
    let mut f = match filter::Filter::load(&p) { Ok(f) => f, Err(e) => { println!("{e:?}"); return; } };
    println!("{:?}", t.elapsed());
    println!("{:?}", f.run(&[0;64], 1));
    println!("{:?}", f.counters());
}
