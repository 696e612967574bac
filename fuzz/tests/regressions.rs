//! What fuzzing once found, and what it begins with, on every compiler.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use fastrand::Rng;
use spectrum_fuzz::ALL;

#[test]
fn no_input_that_was_ever_found_is_a_finding_again() -> io::Result<()> {
    for (name, target) in ALL {
        for file in files(&Path::new("regressions").join(name))? {
            eprintln!("{}", file.display());
            target(&fs::read(file)?);
        }
    }
    Ok(())
}

#[test]
fn every_target_begins_with_something_and_holds() -> io::Result<()> {
    for (name, target) in ALL {
        let seeds = files(&Path::new("seeds").join(name))?;
        assert!(!seeds.is_empty(), "{name} has no seeds");
        for file in seeds {
            eprintln!("{}", file.display());
            target(&fs::read(file)?);
        }
    }
    Ok(())
}

/// A little of what the fuzzers do for hours, so that a target that has come to be wrong is seen at
/// once. Always the same inputs.
#[test]
fn what_nobody_would_think_of_holds() {
    for (name, target) in ALL {
        let mut random = Rng::with_seed(7);
        for number in 0..60 {
            let bytes: Vec<u8> = (0..random.usize(..300)).map(|_| random.u8(..)).collect();
            eprintln!("{name} {number}: {bytes:02x?}");
            target(&bytes);
        }
    }
}

/// A target that is in one list and not in the other is never run, or never tried again.
#[test]
fn every_target_has_a_binary() -> io::Result<()> {
    let stem = |path: PathBuf| Some(path.file_stem()?.to_string_lossy().into_owned());
    let mut binaries: Vec<_> = files(Path::new("src/bin"))?
        .into_iter()
        .filter_map(stem)
        .collect();
    binaries.sort();
    let mut names = ALL.map(|(name, _)| name);
    names.sort_unstable();
    assert_eq!(binaries, names);
    Ok(())
}

/// None if there is no such directory.
fn files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(directory) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
