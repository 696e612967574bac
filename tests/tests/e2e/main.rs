//! End to end: real programs, real packets, the real binary, on hosts in network namespaces.
//!
//! Each case is a trial of its own lab. A case that this machine cannot run (no root, a program
//! that is not installed) is reported as ignored, by name and with the reason.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod activation;
mod capture;
mod ceilings;
mod countries;
mod datagrams;
mod drain;
mod endurance;
mod feeds;
mod filter;
mod forward;
mod guide;
mod handshake;
mod harness;
mod lab;
mod life;
mod limits;
mod logs;
mod mitigation;
mod origins;
mod programs;
mod rates;
mod reload;
mod replay;
mod routing;
mod rules;
mod sources;
mod strays;
mod tls;
mod upgrade;

use std::process::ExitCode;

use libtest_mimic::Arguments;
use spectrum_tests::interrupt;

fn main() -> ExitCode {
    if let Some(code) = lab::play_victim() {
        return code;
    }
    let _watch = interrupt::watch(0).unwrap();
    harness::raise_file_limit();
    let groups = [
        lab::CASES,
        programs::CASES,
        tls::CASES,
        routing::CASES,
        filter::CASES,
        forward::CASES,
        guide::CASES,
        handshake::CASES,
        strays::CASES,
        rates::CASES,
        rules::CASES,
        mitigation::CASES,
        ceilings::CASES,
        datagrams::CASES,
        feeds::CASES,
        countries::CASES,
        origins::CASES,
        sources::CASES,
        reload::CASES,
        replay::CASES,
        capture::CASES,
        life::CASES,
        upgrade::CASES,
        activation::CASES,
        drain::CASES,
        limits::CASES,
        endurance::CASES,
        logs::CASES,
    ];
    let trials = groups.concat().into_iter().map(harness::trial).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
