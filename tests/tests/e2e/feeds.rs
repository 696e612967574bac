//! Lists that others keep: who is on one stays out, whatever becomes of its source, and nobody else
//! notices.

use std::{
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{IpAddr, Ipv4Addr, TcpListener, TcpStream},
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use spectrum_tests::{
    Lab,
    attack::{self, Flood},
    client::{self, Probe},
    daemon::{AppDocument, HostDocument, Site},
    origin::{self, port},
    topology::{
        FRONT,
        address::{ATTACKER, CLIENT, EDGE},
    },
    wait,
};

use crate::harness::{Case, Scene, Watch, ensure_silent, get, shielded_in};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "feeds::a_million_entries_are_swapped_under_a_flood",
        needs: &[],
        run: a_million_entries_are_swapped_under_a_flood,
    },
    Case {
        name: "feeds::swaps_let_no_listed_packet_through_and_lose_no_client",
        needs: &["nft"],
        run: swaps_let_no_listed_packet_through_and_lose_no_client,
    },
    Case {
        name: "feeds::the_last_good_edition_outlives_its_server",
        needs: &[],
        run: the_last_good_edition_outlives_its_server,
    },
    Case {
        name: "feeds::an_edition_that_does_not_fit_stands_in_nobodys_way",
        needs: &[],
        run: an_edition_that_does_not_fit_stands_in_nobodys_way,
    },
    Case {
        name: "feeds::an_edition_that_could_not_be_used_is_shown_and_tried_again",
        needs: &[],
        run: an_edition_that_could_not_be_used_is_shown_and_tried_again,
    },
    Case {
        name: "feeds::none_blocks_where_the_operator_works_from",
        needs: &[],
        run: none_blocks_where_the_operator_works_from,
    },
];

const ECHO: AppDocument<'_> = AppDocument::tcp("echo.lab", port::ECHO);
const HTTP: AppDocument<'_> = AppDocument::tcp("http.lab", port::HTTP);
/// A million entries are read, and the table built, by a daemon that was not optimized.
const PATIENCE: Duration = Duration::from_secs(60);

/// The first listed address, and how far it is to the next.
const FIRST: u32 = 0x0b00_0000;
const STEP: u32 = 37;

/// `spectrum.toml` with one feed.
fn feed(source: &str, protection: &str) -> String {
    format!("{protection}\n[[feeds]]\nname = \"lab\"\nsource = {source:?}\nrefresh = \"10s\"\n")
}

/// A million addresses and a hundred thousand prefixes that nobody in the lab has.
fn million() -> String {
    let mut text = String::from("# a large list\n");
    for number in 0..1_000_000_u32 {
        let ip = Ipv4Addr::from(FIRST + number * STEP);
        writeln!(text, "{ip}").expect("memory");
    }
    for number in 0..100_000_u32 {
        let ip = Ipv4Addr::from(0x2000_0000 + (number << 10));
        writeln!(text, "{ip}/{}", 22 + number % 3).expect("memory");
    }
    text
}

fn entries(site: &Site<'_>) -> Result<u64> {
    let lists = site.run("lists", &["-o", "json"])?;
    let lists: serde_json::Value = serde_json::from_str(&lists)?;
    lists["feeds"][0]["entries"].as_u64().context("a number")
}

fn wait_for_entries(site: &Site<'_>, expected: u64) -> Result<()> {
    wait::until("the list to be in use", PATIENCE, || {
        let entries = entries(site)?;
        ensure!(entries == expected, "{entries} entries");
        Ok(())
    })
}

/// The daemon may be busy with a million entries.
fn refresh(site: &Site<'_>) -> Result<()> {
    wait::until("the daemon to look at the list", PATIENCE, || {
        site.run("lists", &["refresh", "lab"]).map(drop)
    })
}

fn a_million_entries_are_swapped_under_a_flood() -> Result<()> {
    let lab = Lab::new()?;
    let _http = origin::http(&lab.origin, port::HTTP)?;
    let list = lab.dir().join("list.txt");
    let without = million();
    let with = format!("{without}{ATTACKER}\n");
    fs::write(&list, &without)?;
    let path = list.display().to_string();
    let host = HostDocument {
        protection: &feed(&path, ""),
        ..HostDocument::default()
    };
    shielded_in(&lab, host, &[HTTP], |scene| {
        let edge = (EDGE, port::HTTP).into();
        wait_for_entries(&scene.site, 1_100_000)?;
        get(&lab.attacker, None, edge).context("before it is listed")?;

        let listed = (0..256).map(|number| Ipv4Addr::from(FIRST + number * STEP).into());
        let flood = Flood {
            frames: attack::syns(lab.attack_path(), listed, edge)?,
            per_second: 5000,
            count: u64::MAX,
        };
        let flood = flood.start(&lab.attacker)?;
        let stop = AtomicBool::new(false);
        let served = thread::scope(|scope| {
            let client = scope.spawn(|| -> Result<u32> {
                let mut served = 0;
                while !stop.load(Ordering::Relaxed) {
                    get(&lab.client, None, edge).context("a client, under the flood")?;
                    served += 1;
                }
                Ok(served)
            });
            let swapped = swap(
                &scene,
                &list,
                [(&with, true), (&without, false), (&with, true)],
            );
            stop.store(true, Ordering::Relaxed);
            let served = client.join().expect("no panic");
            swapped.and(served)
        })?;
        flood.stop()?;
        ensure!(served > 0, "the client was never served");
        let blocked = scene.filter("http.lab")?.dropped("blocked");
        ensure!(blocked > 1000, "{blocked} packets of listed sources");
        Ok(())
    })
}

/// Writes one edition after the other; the attacker is on some of them.
fn swap(scene: &Scene<'_>, list: &Path, editions: [(&String, bool); 3]) -> Result<()> {
    let edge = (EDGE, port::HTTP).into();
    for (text, listed) in editions {
        fs::write(list, text)?;
        refresh(&scene.site)?;
        wait_for_entries(&scene.site, 1_100_000 + u64::from(listed))?;
        if listed {
            ensure_silent(&scene.lab.attacker, None, edge)?;
        } else {
            get(&scene.lab.attacker, None, edge).context("after it was unlisted")?;
        }
    }
    Ok(())
}

/// Whoever is on every edition stays out at each moment, also while one takes the place of another.
fn swaps_let_no_listed_packet_through_and_lose_no_client() -> Result<()> {
    const SWAPS: u32 = 40;
    let lab = Lab::new()?;
    let _http = origin::http(&lab.origin, port::HTTP)?;
    let _echo = origin::tcp_echo(&lab.origin, port::ECHO)?;
    let list = lab.dir().join("list.txt");
    fs::write(&list, edition(0))?;
    let path = list.display().to_string();
    let host = HostDocument {
        protection: &feed(&path, ""),
        ..HostDocument::default()
    };
    shielded_in(&lab, host, &[HTTP, ECHO], |scene| {
        let edge = |port| (EDGE, port).into();
        wait_for_entries(&scene.site, entries_of(0))?;
        let session = client::connect(&lab.client, None, edge(port::ECHO), PATIENCE)?;
        let watch = Watch::start(&lab, LISTED)?;
        let floods = [
            (0..256).map(listed).collect::<Vec<_>>(),
            attack::sources([198, 51, 100, 1].into(), 254).collect(),
        ];
        let floods = floods.map(|sources| {
            let flood = Flood {
                frames: attack::syns(lab.attack_path(), sources.into_iter(), edge(port::HTTP))?,
                per_second: 4000,
                count: u64::MAX,
            };
            flood.start(&lab.attacker)
        });
        let visitors = {
            let host = lab.client.clone();
            let visit = move || get(&host, None, edge(port::HTTP)).map(drop);
            Probe::start("visitor", Duration::from_millis(20), visit)?
        };
        for number in 1..=SWAPS {
            fs::write(&list, edition(number))?;
            refresh(&scene.site)?;
            wait_for_entries(&scene.site, entries_of(number))?;
            client::echo_bytes(&session, b"still here").context("an open session")?;
        }
        let served = visitors.stop();
        for flood in floods {
            flood?.stop()?;
        }
        let blocked = scene.filter("http.lab")?.dropped("blocked");
        ensure!(blocked > 4000, "{blocked} packets of listed sources");
        let leaked = watch.packets()?;
        ensure!(leaked == 0, "{leaked} packets of listed sources came in");
        ensure!(
            served.attempts == served.successes && served.attempts > u64::from(SWAPS),
            "{served:?}"
        );
        Ok(())
    })
}

/// Where the addresses of the next case lie that are on each edition.
const LISTED: &str = "11.0.0.0/18";

fn listed(number: u32) -> IpAddr {
    Ipv4Addr::from(FIRST + number * STEP).into()
}

fn entries_of(edition: u32) -> u64 {
    // Every other one is so much smaller that its table has another size.
    u64::from(
        if edition.is_multiple_of(2) {
            100_000
        } else {
            30_000
        } + edition,
    )
}

/// A list that has little in common with the one before, but for those who are on each.
fn edition(number: u32) -> String {
    let mut text = String::new();
    for always in 0..256 {
        writeln!(text, "{}", listed(always)).expect("memory");
    }
    for other in 256..entries_of(number) {
        let other = u32::try_from(other).expect("small");
        let ip = Ipv4Addr::from(0x2000_0000 + (number << 18) + other);
        writeln!(text, "{ip}").expect("memory");
    }
    text
}

fn the_last_good_edition_outlives_its_server() -> Result<()> {
    let lab = Lab::new()?;
    let _http = origin::http(&lab.origin, port::HTTP)?;
    let server = lab
        .edge
        .namespace
        .run(|| TcpListener::bind("127.0.0.1:0"))??;
    let url = format!("http://{}/list", server.local_addr()?);
    let host = HostDocument {
        protection: &feed(&url, ""),
        ..HostDocument::default()
    };
    let edge = (EDGE, port::HTTP).into();
    let answers = Mutex::new(Vec::new());
    thread::scope(|scope| {
        let serve = || serve(&server, &answers);
        scope.spawn(serve);
        let played = shielded_in(&lab, host, &[HTTP], |scene| {
            wait_for_entries(&scene.site, 2)?;
            ensure_silent(&lab.attacker, None, edge)?;
            refresh(&scene.site)?;
            wait::until("the server to be asked for what is new", PATIENCE, || {
                ensure!(answers.lock().expect("no panic").contains(&304));
                Ok(())
            })?;
            // From now on the server is broken.
            answers.lock().expect("no panic").push(503);
            scene.daemon.stop()?;
            let daemon = scene.site.start()?;
            wait_for_entries(&scene.site, 2)?;
            ensure_silent(&lab.attacker, None, edge)?;
            get(&lab.client, None, edge).context("a client that is on no list")?;
            wait::until("the failure to be shown", PATIENCE, || {
                let lists = scene.site.run("lists", &[] as &[&str])?;
                ensure!(lists.contains("503"), "{lists}");
                Ok(())
            })?;
            daemon.stop().map(drop)
        });
        // The last connection ends the server.
        answers.lock().expect("no panic").push(0);
        let address = server.local_addr()?;
        lab.edge.namespace.run(|| TcpStream::connect(address))??;
        played
    })
}

/// Four lists of 1,100,000 entries are more than there is room for.
fn an_edition_that_does_not_fit_stands_in_nobodys_way() -> Result<()> {
    let lab = Lab::new()?;
    let _http = origin::http(&lab.origin, port::HTTP)?;
    let list = lab.dir().join("list.txt");
    fs::write(&list, format!("{ATTACKER}\n"))?;
    let names = ["http.lab", "b.lab", "c.lab", "d.lab"];
    let apps: Vec<_> = names
        .into_iter()
        .zip([port::HTTP, 9001, 9002, 9003])
        .map(|(name, port)| AppDocument::tcp(name, port))
        .collect();
    let path = list.display().to_string();
    let host = HostDocument {
        protection: &format!("{}apps = {names:?}\n", feed(&path, "")),
        ..HostDocument::default()
    };
    let edge = (EDGE, port::HTTP).into();
    shielded_in(&lab, host, &apps, |scene| {
        let site = &scene.site;
        let ensure_first_edition = || {
            ensure!(entries(site)? == 1);
            ensure_silent(&lab.attacker, None, edge)?;
            get(&lab.client, None, edge).map(drop)
        };
        wait_for_entries(site, 1)?;
        ensure_first_edition()?;

        fs::write(&list, million())?;
        refresh(site)?;
        wait::until("the edition to be refused", PATIENCE, || {
            let lists = site.run("lists", &["-o", "json"])?;
            ensure!(
                lists.contains("1100000 entries on 4 lists are 4400000"),
                "{lists}"
            );
            Ok(())
        })?;
        ensure_first_edition()?;

        // The operator goes on, and so does the next daemon.
        site.write_app(&AppDocument::tcp("b.lab", 9009))?;
        scene
            .daemon
            .wait_for_log("reloaded: 0 apps added, 1 updated")?;
        site.run("block", &["198.51.100.77"])?;
        scene.daemon.stop()?;
        let daemon = site.start()?;
        ensure_first_edition()?;
        daemon.stop().map(drop)
    })
}

/// For a while the daemon cannot write to its filter, as its pins are not where it left them.
fn an_edition_that_could_not_be_used_is_shown_and_tried_again() -> Result<()> {
    let lab = Lab::new()?;
    let _http = origin::http(&lab.origin, port::HTTP)?;
    let list = lab.dir().join("list.txt");
    fs::write(&list, "198.51.100.0/24\n")?;
    let path = list.display().to_string();
    let host = HostDocument {
        protection: &feed(&path, ""),
        ..HostDocument::default()
    };
    let edge = (EDGE, port::HTTP).into();
    shielded_in(&lab, host, &[HTTP], |scene| {
        wait_for_entries(&scene.site, 1)?;
        let pins = lab.pin_dir().join(FRONT);
        let elsewhere = lab.pin_dir().join("elsewhere");
        fs::rename(&pins, &elsewhere)?;
        fs::write(&list, format!("198.51.100.0/24\n{ATTACKER}\n"))?;
        refresh(&scene.site)?;
        wait::until("the failure to be shown", PATIENCE, || {
            let lists = scene.site.run("lists", &["-o", "json"])?;
            ensure!(lists.contains("nothing is pinned"), "{lists}");
            Ok(())
        })?;
        ensure!(entries(&scene.site)? == 1);
        get(&lab.attacker, None, edge).context("before its entry is in force")?;

        fs::rename(&elsewhere, &pins)?;
        wait_for_entries(&scene.site, 2)?;
        ensure_silent(&lab.attacker, None, edge)
    })
}

/// A list with one line that makes no sense, until 503 is among the answers; then nothing but that.
/// Ends at 0.
fn serve(server: &TcpListener, answers: &Mutex<Vec<u16>>) {
    for stream in server.incoming() {
        let Ok(mut stream) = stream else { continue };
        let mut answers = answers.lock().expect("no panic");
        if answers.contains(&0) {
            return;
        }
        let lines = BufReader::new(&stream).lines().map_while(Result::ok);
        let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
        let asks_for_new = head
            .iter()
            .any(|line| line.to_lowercase() == "if-none-match: \"1\"");
        let body = format!("; a list\n{ATTACKER} ; the attacker\n198.51.100.0/24\nnonsense\n");
        let status = match (answers.contains(&503), asks_for_new) {
            (true, _) => 503,
            (false, true) => 304,
            (false, false) => 200,
        };
        answers.push(status);
        let body = if status == 200 { body } else { String::new() };
        let answer = format!(
            "HTTP/1.1 {status} .\r\nETag: \"1\"\r\nContent-Length: {}\r\nConnection: \
             close\r\n\r\n{body}",
            body.len()
        );
        let _gone = stream.write_all(answer.as_bytes());
    }
}

fn none_blocks_where_the_operator_works_from() -> Result<()> {
    let lab = Lab::new()?;
    let _http = origin::http(&lab.origin, port::HTTP)?;
    let list = lab.dir().join("list.txt");
    let [a, b, _, _] = CLIENT.octets();
    fs::write(&list, format!("{a}.{b}.0.0/16\n{CLIENT}\n{ATTACKER}\n"))?;
    let protection = format!("allow = [\"{CLIENT}\"]");
    let path = list.display().to_string();
    let host = HostDocument {
        protection: &feed(&path, &protection),
        ..HostDocument::default()
    };
    let edge = (EDGE, port::HTTP).into();
    shielded_in(&lab, host, &[HTTP], |scene| {
        wait::until("the list to be read", PATIENCE, || {
            ensure!(entries(&scene.site)? > 0);
            Ok(())
        })?;
        ensure_silent(&lab.attacker, None, edge)?;
        get(&lab.client, None, edge).context("the operator")?;
        let why = scene.site.run("why", &[&CLIENT.to_string()])?;
        ensure!(why.contains("passes"), "{why}");
        let document = scene.site.config().display().to_string();
        ensure!(
            why.contains(&format!("allow {CLIENT}/32 for all apps")) && why.contains(&document),
            "{why}"
        );
        // Of the prefix that is left around the operator.
        let neighbour = Ipv4Addr::from(u32::from(CLIENT) ^ 1);
        for listed in [ATTACKER, neighbour] {
            let why = scene.site.run("why", &[&listed.to_string()])?;
            ensure!(why.contains("(from feed lab, since "), "{why}");
        }
        scene.site.run("allow", &[&ATTACKER.to_string()])?;
        let why = scene.site.run("why", &[&ATTACKER.to_string()])?;
        for lister in ["(from the command line, since ", "(from feed lab, since "] {
            ensure!(why.contains(lister), "{why}");
        }
        scene.daemon.stop()?;
        let why = scene.site.run("why", &[&ATTACKER.to_string()])?;
        ensure!(why.contains("(from feed lab, since "), "{why}");
        Ok(())
    })
}
