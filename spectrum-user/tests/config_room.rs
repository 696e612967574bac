//! More than there is room for: `spectrum check` says so, by name and with what to do, and so the
//! daemon neither starts with it nor changes anything.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fmt::Write as _,
    fs,
    path::Path,
    process::{Command, Output},
};

/// Documents with so much of something, and with one more.
struct Case {
    what: &'static str,
    /// Writes documents for `count` of it.
    write: fn(directory: &Path, count: u16),
    /// As much as fits.
    most: u16,
    complaint: &'static str,
}

const CASES: &[Case] = &[
    Case {
        what: "apps",
        write: apps,
        most: 1023,
        complaint: "have 1024 apps; the data plane holds 1023",
    },
    Case {
        what: "edge addresses",
        write: edge_addresses,
        most: 1022,
        complaint: "the table `edges` has room for 1024",
    },
    Case {
        what: "apps with all ports on an address of their own",
        write: all_ports,
        most: 31,
        complaint: "the table `ports` has room for 8192",
    },
    Case {
        what: "sets of reflector ports",
        write: reflector_sets,
        most: 31,
        complaint: "the table `reflectors` has room for 32",
    },
    Case {
        what: "custom rules",
        write: rules,
        most: 512,
        complaint: "the table `sig_rules` has room for 512",
    },
    Case {
        what: "rules of one app that look at different fields",
        write: masks_of_one_app,
        most: 16,
        complaint: "the table `sig_masks` has room for 16",
    },
    Case {
        what: "rules of all apps that look at different fields",
        write: masks_of_all_apps,
        most: 64,
        complaint: "the table `sig_masks` has room for 64",
    },
    Case {
        what: "rules that differ in nothing but ranges",
        write: ranges,
        most: 4,
        complaint: "the table `signatures` has room for 4",
    },
    Case {
        what: "questions about autonomous systems",
        write: questions,
        most: 63,
        complaint: "ask 64 different questions about countries and autonomous systems",
    },
];

#[test]
fn more_than_there_is_room_for_is_refused_by_name_and_with_a_remedy() {
    for case in CASES {
        let Case {
            what,
            most,
            complaint,
            ..
        } = case;
        let fits = check(case, *most);
        let said = String::from_utf8(fits.stderr).unwrap();
        assert!(fits.status.success(), "{most} {what} fit: {said}");

        let refused = check(case, *most + 1);
        let said = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(1), "{what}: {said}");
        let is_explained = said.contains(complaint) && said.contains("help: ");
        assert!(is_explained, "{what}: {said}");
    }
}

fn check(case: &Case, count: u16) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    fs::create_dir(path.join("apps.d")).unwrap();
    host(path, "");
    (case.write)(path, count);
    let mut check = Command::new(env!("CARGO_BIN_EXE_spectrum"));
    check
        .arg("check")
        .arg("--config")
        .arg(path.join("spectrum.toml"));
    check.output().unwrap()
}

fn host(directory: &Path, more: &str) {
    let text = format!("interfaces = [\"eth0\"]\napps_dir = \"apps.d\"\n{more}");
    fs::write(directory.join("spectrum.toml"), text).unwrap();
}

/// An app on these ports, with further lines and tables.
fn app(directory: &Path, number: u16, protocol: &str, more: &str) {
    let (transport, ports) = protocol.split_once('/').unwrap();
    let text = format!(
        "protocol = \"{protocol}\"\norigin_direct = [\"{transport}://10.9.9.9:{ports}\"]\n\
         dns = {{ name = \"app-{number}.example.com\", type = \"CNAME\" }}\n{more}\n"
    );
    fs::write(directory.join(format!("apps.d/{number}.toml")), text).unwrap();
}

fn apps(directory: &Path, count: u16) {
    for number in 0..count {
        app(directory, number, &format!("tcp/{}", 1000 + number), "");
    }
}

/// Beside those of the host.
fn edge_addresses(directory: &Path, count: u16) {
    let ips = (0..count).map(|number| format!("\"10.0.{}.{}\"", number >> 8, number & 0xff));
    let ips: Vec<String> = ips.collect();
    let ips = format!(
        "edge_ips = {{ type = \"static\", ips = [{}] }}",
        ips.join(", ")
    );
    app(directory, 1, "tcp/1000", &ips);
}

fn all_ports(directory: &Path, count: u16) {
    for number in 0..count {
        let ips = format!("edge_ips = {{ type = \"static\", ips = [\"10.0.0.{number}\"] }}");
        app(directory, number, "tcp/1-65535", &ips);
    }
}

/// Beside the one of the apps that have none.
fn reflector_sets(directory: &Path, count: u16) {
    app(directory, 999, "tcp/999", "");
    for number in 0..count {
        let ports = format!("[protection]\nreflector_ports = [{}]", 100 + number);
        app(directory, number, &format!("udp/{}", 1000 + number), &ports);
    }
}

/// A rule for each line of conditions.
fn rules_that(conditions: impl Iterator<Item = String>) -> String {
    let mut text = String::new();
    for (conditions, id) in conditions.zip(1..) {
        let header = "[[protection.rules]]\naction = \"drop\"";
        writeln!(text, "{header}\nid = {id}\n{conditions}").unwrap();
    }
    text
}

fn rules(directory: &Path, count: u16) {
    host(
        directory,
        &rules_that((0..count).map(|n| format!("source_port = {}", 1 + n))),
    );
    app(directory, 1, "udp/1000", "");
}

/// The beginning of the payload from `first` on, each time one byte further in.
fn payloads(first: u16, count: u16) -> impl Iterator<Item = String> {
    let payload = |offset| format!("payload = {{ offset = {offset}, text = \"x\" }}");
    (first..first + count).map(payload)
}

fn masks_of_one_app(directory: &Path, count: u16) {
    app(directory, 1, "udp/1000", &rules_that(payloads(0, count)));
}

fn masks_of_all_apps(directory: &Path, count: u16) {
    for number in 0..count.div_ceil(13) {
        let first = number * 13;
        let rules = rules_that(payloads(first, 13.min(count - first)));
        app(directory, number, &format!("udp/{}", 1000 + number), &rules);
    }
}

fn ranges(directory: &Path, count: u16) {
    let range = |number| format!("length = \"{}-{}\"", 100 + number, 200 + number);
    host(directory, &rules_that((0..count).map(range)));
    app(directory, 1, "udp/1000", "");
}

/// Each asked twice; what an app asks whose `ip_firewall` is off is not asked at all.
fn questions(directory: &Path, count: u16) {
    let database = "[geo]\ndatabases = [\"places.mmdb\"]\n".to_owned();
    let rules =
        rules_that((0..count).map(|n| format!("asns = [{}]\nsource_port = {}", 64_500 + n, 1 + n)));
    host(directory, &(database + &rules));
    for number in 0..count {
        let asns = |asn| format!("[protection]\nasns = {{ block = [{asn}] }}");
        let asked = asns(64_500 + number);
        app(directory, number, &format!("udp/{}", 1000 + number), &asked);
        let open = format!("ip_firewall = false\n{}", asns(1 + number));
        app(
            directory,
            1000 + number,
            &format!("tcp/{}", 1000 + number),
            &open,
        );
    }
}
