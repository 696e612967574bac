//! Countries and autonomous systems: who is where an app admits nobody from stays out, and nobody else
//! does, whatever becomes of the databases.

use std::{
    fs::{self, OpenOptions, Permissions},
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use anyhow::{Context as _, Result, ensure};
use nix::{fcntl::OFlag, sys::stat::Mode, unistd::mkfifo};
use spectrum_tests::{
    Lab,
    daemon::{AppDocument, HostDocument, Site},
    mmdb::{self, Known},
    origin::{self, port},
    topology::address::{ATTACKER, ATTACKER_V6, CLIENT, EDGE, EDGE_V6},
    wait,
};

use crate::harness::{Case, PATIENCE, Scene, ensure_silent, get, shielded_in};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "countries::who_may_come_does_and_others_meet_silence",
        needs: &[],
        run: who_may_come_does_and_others_meet_silence,
    },
    Case {
        name: "countries::another_edition_takes_effect_and_a_broken_one_changes_nothing",
        needs: &[],
        run: another_edition_takes_effect_and_a_broken_one_changes_nothing,
    },
    Case {
        name: "countries::a_missing_database_locks_nobody_out",
        needs: &[],
        run: a_missing_database_locks_nobody_out,
    },
    Case {
        name: "countries::one_of_two_databases_that_is_missing_locks_nobody_out",
        needs: &[],
        run: one_of_two_databases_that_is_missing_locks_nobody_out,
    },
    Case {
        name: "countries::a_database_that_may_be_read_at_last_is_read",
        needs: &[],
        run: a_database_that_may_be_read_at_last_is_read,
    },
    Case {
        name: "countries::a_slow_database_keeps_nobody_waiting",
        needs: &[],
        run: a_slow_database_keeps_nobody_waiting,
    },
];

const LOCAL: AppDocument<'_> = AppDocument {
    protection: "countries = { allow = [\"DE\"] }",
    ..AppDocument::tcp("http.lab", port::HTTP)
};

/// `spectrum.toml` with one database.
fn with_database(path: &Path) -> String {
    with_databases(&[path], "1s")
}

fn with_databases(paths: &[&Path], refresh: &str) -> String {
    format!("\n[geo]\ndatabases = {paths:?}\nrefresh = \"{refresh}\"\n")
}

fn host(geo: &str) -> HostDocument<'_> {
    HostDocument {
        protection: geo,
        ..HostDocument::default()
    }
}

/// As package managers do it: a file in the place of another.
fn replace(path: &Path, contents: &str) -> Result<()> {
    let next = path.with_extension("next");
    fs::write(&next, contents)?;
    Ok(fs::rename(next, path)?)
}

/// A database of lines: the client is in DE, the attacker where `attacker` says.
fn lines(attacker: &str) -> String {
    let [client, other] = [CLIENT, ATTACKER].map(u32::from);
    format!("# a database\n{client},{client},DE\n{other},{other},{attacker}\n")
}

fn who_may_come_does_and_others_meet_silence() -> Result<()> {
    let lab = Lab::new()?;
    let _http = origin::http(&lab.origin, port::HTTP)?;
    let database = lab.dir().join("places.mmdb");
    let known = |prefix: &str, country, system| Known {
        prefix: prefix.parse().expect(prefix),
        country: Some(country),
        system: Some(system),
    };
    let client = known(&format!("{CLIENT}/32"), "DE", (64500, "Home"));
    let attacker = known(&format!("{ATTACKER}/32"), "KP", (64496, "Rented Machines"));
    let attacker_v6 = known(
        &format!("{ATTACKER_V6}/128"),
        "KP",
        (64496, "Rented Machines"),
    );
    fs::write(&database, mmdb::database(&[client, attacker, attacker_v6]))?;
    let app = AppDocument {
        protection: "countries = { allow = [\"DE\", \"KP\"] }\nasns = { block = [64496] }",
        ..LOCAL
    };
    let geo = with_database(&database);
    shielded_in(&lab, host(&geo), &[app], |scene| {
        let edge = (EDGE, port::HTTP).into();
        get(&lab.client, None, edge).context("a client in DE")?;
        scene.wait_for("an event to say where the client is", |_| {
            let events = fs::read_to_string(scene.site.events())?;
            let place = ["\"ClientCountry\":\"DE\"", "\"ClientAsn\":64500"];
            ensure!(place.iter().all(|said| events.contains(said)), "{events}");
            Ok(())
        })?;
        let status = scene.site.run("status", &[""; 0])?;
        ensure!(status.contains("places.mmdb"), "{status}");
        ensure_silent(&lab.attacker, None, edge).context("a refused system")?;
        ensure_silent(&lab.attacker, None, (EDGE_V6, port::HTTP).into())?;
        ensure!(scene.filter("http.lab")?.dropped("asn") > 0, "no asn");

        scene.site.write_app(&LOCAL)?;
        scene.wait_for("the attacker's country to be refused", |_| {
            let why = scene.site.run("why", &[&ATTACKER.to_string()])?;
            ensure!(why.contains("DROPPED: country"), "{why}");
            ensure!(
                why.contains("is in KP, in AS64496 (Rented Machines)"),
                "{why}"
            );
            Ok(())
        })?;
        ensure_silent(&lab.attacker, None, edge).context("a refused country")?;
        ensure!(
            scene.filter("http.lab")?.dropped("country") > 0,
            "no country"
        );
        get(&lab.client, None, edge).context("a client in DE, after a reload")?;

        scene.site.run("allow", &[&ATTACKER.to_string()])?;
        get(&lab.attacker, None, edge).context("a source that the operator lets in")?;
        Ok(())
    })
}

fn lists(site: &Site<'_>) -> Result<String> {
    site.run("lists", &[] as &[&str])
}

fn another_edition_takes_effect_and_a_broken_one_changes_nothing() -> Result<()> {
    let lab = Lab::new()?;
    let _http = origin::http(&lab.origin, port::HTTP)?;
    let database = lab.dir().join("places.csv");
    fs::write(&database, lines("DE"))?;
    let geo = with_database(&database);
    shielded_in(&lab, host(&geo), &[LOCAL], |scene| {
        let edge = (EDGE, port::HTTP).into();
        get(&lab.attacker, None, edge).context("while it is in DE")?;
        replace(&database, &lines("FR"))?;
        wait_until_refused(&scene)?;
        ensure_silent(&lab.attacker, None, edge).context("when it is in FR")?;

        replace(&database, "this is no database\n")?;
        scene.site.run("lists", &["refresh"])?;
        wait::until("the failure to be shown", PATIENCE, || {
            let lists = lists(&scene.site)?;
            ensure!(
                lists.contains("failed") && lists.contains("line 1"),
                "{lists}"
            );
            Ok(())
        })?;
        ensure_silent(&lab.attacker, None, edge).context("the last edition stays")?;
        get(&lab.client, None, edge).context("a client in DE")?;
        Ok(())
    })
}

fn wait_until_refused(scene: &Scene<'_>) -> Result<()> {
    scene.wait_for("the attacker to be refused", |_| {
        let why = scene.site.run("why", &[&ATTACKER.to_string()])?;
        ensure!(why.contains("DROPPED: country"), "{why}");
        Ok(())
    })
}

fn a_missing_database_locks_nobody_out() -> Result<()> {
    let lab = Lab::new()?;
    let _http = origin::http(&lab.origin, port::HTTP)?;
    let database = lab.dir().join("places.csv");
    let geo = with_database(&database);
    shielded_in(&lab, host(&geo), &[LOCAL], |scene| {
        let edge = (EDGE, port::HTTP).into();
        get(&lab.client, None, edge).context("without a database")?;
        get(&lab.attacker, None, edge).context("without a database")?;
        let log = scene.site.log();
        ensure!(log.contains("no database knows countries"), "{log}");

        replace(&database, &lines("FR"))?;
        wait_until_refused(&scene)?;
        ensure_silent(&lab.attacker, None, edge)?;
        get(&lab.client, None, edge).context("a client in DE")?;
        Ok(())
    })
}

/// As Debian has them, one for each family.
fn one_of_two_databases_that_is_missing_locks_nobody_out() -> Result<()> {
    let lab = Lab::new()?;
    let _http = origin::http(&lab.origin, port::HTTP)?;
    let [v4, v6] = ["geoip", "geoip6"].map(|name| lab.dir().join(name));
    fs::write(&v6, format!("{ATTACKER_V6},{ATTACKER_V6},KP\n"))?;
    let geo = with_databases(&[&v4, &v6], "1s");
    shielded_in(&lab, host(&geo), &[LOCAL], |scene| {
        let edge = (EDGE, port::HTTP).into();
        let edge_v6 = (EDGE_V6, port::HTTP).into();
        get(&lab.client, None, edge).context("whom only the missing database knows")?;
        ensure_silent(&lab.attacker, None, edge_v6).context("whom the other one finds in KP")?;
        let log = scene.site.log();
        ensure!(log.contains("a database is missing"), "{log}");

        replace(&v4, &lines("FR"))?;
        wait_until_refused(&scene)?;
        ensure_silent(&lab.attacker, None, edge).context("once both are there")?;
        ensure_silent(&lab.attacker, None, edge_v6).context("in KP, as before")?;
        get(&lab.client, None, edge).context("a client in DE")?;
        Ok(())
    })
}

/// Nothing of it changes but who may read it.
fn a_database_that_may_be_read_at_last_is_read() -> Result<()> {
    let lab = Lab::new()?;
    let _http = origin::http(&lab.origin, port::HTTP)?;
    let database = lab.dir().join("places.csv");
    fs::write(&database, lines("FR"))?;
    let allow = |mode| fs::set_permissions(&database, Permissions::from_mode(mode));
    allow(0)?;
    let geo = with_database(&database);
    shielded_in(&lab, host(&geo), &[LOCAL], |scene| {
        let shown = lists(&scene.site)?;
        ensure!(shown.contains("Permission denied"), "{shown}");
        get(&lab.attacker, None, (EDGE, port::HTTP).into()).context("while nobody knows")?;
        allow(0o644)?;
        wait_until_refused(&scene)?;
        get(&lab.client, None, (EDGE, port::HTTP).into()).context("a client in DE")?;
        Ok(())
    })
}

/// A pipe is a database that has not come to its end.
fn a_slow_database_keeps_nobody_waiting() -> Result<()> {
    let lab = Lab::new()?;
    let _http = origin::http(&lab.origin, port::HTTP)?;
    let database = lab.dir().join("places.csv");
    mkfifo(&database, Mode::S_IRUSR | Mode::S_IWUSR)?;
    let open = AppDocument {
        protection: "",
        ..LOCAL
    };
    shielded_in(&lab, HostDocument::default(), &[open], |scene| {
        let geo = with_databases(&[&database], "1h");
        scene.site.write_host(host(&geo))?;
        let mut writer = wait::until("the daemon to read the database", PATIENCE, || {
            let mut options = OpenOptions::new();
            let options = options.write(true).custom_flags(OFlag::O_NONBLOCK.bits());
            Ok(options.open(&database)?)
        })?;
        // The daemon answers meanwhile, and documents that are not read yet are not in force.
        scene.site.status()?;
        let shown = lists(&scene.site)?;
        ensure!(!shown.contains("places.csv"), "{shown}");

        // Whoever looks again finds a file.
        replace(&database, &lines("FR"))?;
        writer.write_all(lines("FR").as_bytes())?;
        drop(writer);
        scene.site.write_app(&LOCAL)?;
        wait_until_refused(&scene)?;
        get(&lab.client, None, (EDGE, port::HTTP).into()).context("a client in DE")?;
        Ok(())
    })
}
