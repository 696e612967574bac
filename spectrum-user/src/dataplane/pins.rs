//! What is pinned for an interface: `<pin_dir>/<interface>/{program,link,<map>…}`.
//!
//! The pins outlive the daemon, so that filtering goes on without it. A successor reuses the maps
//! if they are of its own version and shape; otherwise it makes new ones beside them
//! (`<map>-next`), switches the link over, and only then renames them into place.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use aya::maps::{Map, MapData, MapInfo, MapType};
use aya::programs::links::PinnedLink;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use spectrum_common::{ABI_VERSION, maps as names, settings::Settings};

use super::{
    detach::detach_link,
    error::Error,
    maps::Maps,
    table_map::{Names, TableMap},
};

pub(super) const PROGRAM: &str = "program";
const LINK: &str = "link";

/// The pins of one interface.
#[derive(Clone, Debug)]
pub struct Pins {
    dir: PathBuf,
}

/// What an earlier daemon left.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    /// Maps of this version.
    Compatible,
    /// Maps that cannot be used, and why.
    Incompatible(String),
}

/// Type, key size, value size, maximum of entries, flags: what two maps must share to be
/// interchangeable.
#[derive(Debug, PartialEq)]
pub(super) struct Shape(MapType, u32, u32, u32, u32);

impl Shape {
    pub(super) fn of(name: &'static str, info: &MapInfo) -> Result<Self, Error> {
        let kind = info.map_type().map_err(Error::map(name, "look at it"))?;
        Ok(Self(
            kind,
            info.key_size(),
            info.value_size(),
            info.max_entries(),
            info.map_flags(),
        ))
    }
}

impl Pins {
    pub fn new(pin_dir: &Path, interface: &str) -> Self {
        Self {
            dir: pin_dir.join(encode(interface)),
        }
    }

    /// The interfaces that have pins below `pin_dir`, sorted.
    pub fn interfaces(pin_dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(pin_dir).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries
            .filter(|entry| entry.path().join(LINK).exists())
            .filter_map(|entry| entry.file_name().into_string().ok())
            .map(|name| decode(&name))
            .collect();
        names.sort();
        names
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn link(&self) -> PathBuf {
        self.dir.join(LINK)
    }

    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(super) fn next(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}-next"))
    }

    /// Makes the directory, for root only.
    pub(super) fn create_dir(&self) -> Result<(), Error> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)
            .map_err(Error::pin(&self.dir, "create the directory"))?;
        let kind = statfs(&self.dir).map_err(Error::system("cannot look at the pin directory"))?;
        if kind.filesystem_type() == BPF_FS_MAGIC {
            Ok(())
        } else {
            Err(Error::NoBpffs {
                path: self.dir.clone(),
            })
        }
    }

    /// Keeps other processes from changing lists or pins until the result is dropped.
    ///
    /// # Errors
    /// Nothing is pinned.
    pub fn lock(&self) -> Result<Flock<fs::File>, Error> {
        let dir = fs::File::open(&self.dir).map_err(|source| self.absent_or(source))?;
        Flock::lock(dir, FlockArg::LockExclusive)
            .map_err(|(_, errno)| Error::system("cannot lock the pin directory")(errno))
    }

    /// Opens the pinned maps of a running or orphaned filter.
    ///
    /// # Errors
    /// Nothing is pinned, or it is of another version.
    pub fn open_maps(&self) -> Result<Maps, Error> {
        match self.inspect_version()? {
            Found::Compatible => Maps::open(
                |name| self.open_map(name),
                |names, map| TableMap::open(names, map, self.map(names.table())),
            ),
            Found::Nothing => Err(Error::NothingPinned {
                path: self.dir.clone(),
            }),
            Found::Incompatible(why) => Err(Error::OtherVersion {
                path: self.dir.clone(),
                why,
            }),
        }
    }

    fn open_map(&self, name: &'static str) -> Result<Map, Error> {
        MapData::from_pin(self.map(name))
            .and_then(Map::from_map_data)
            .map_err(Error::map(name, "open its pin"))
    }

    /// Compares what is pinned with the `wanted` shapes of this version's maps.
    pub(super) fn inspect(&self, wanted: &[(&'static str, Shape)]) -> Result<Found, Error> {
        let version = self.inspect_version()?;
        if version != Found::Compatible {
            return Ok(version);
        }
        // The program may use these and not the ones whose names they were about to take.
        if map_pins().any(|name| self.next(name).exists()) {
            let why = "a replacement by another version was cut short";
            return Ok(Found::Incompatible(why.to_owned()));
        }
        for (name, shape) in wanted {
            let info =
                MapInfo::from_pin(self.map(name)).map_err(Error::map(name, "open its pin"))?;
            if Shape::of(name, &info)? != *shape {
                return Ok(Found::Incompatible(format!("map {name} has another shape")));
            }
        }
        Ok(Found::Compatible)
    }

    /// Whether all pins are there and say that they are of this version.
    fn inspect_version(&self) -> Result<Found, Error> {
        if !self.link().exists() {
            return Ok(Found::Nothing);
        }
        let mut required = map_pins().chain([PROGRAM]);
        if let Some(absent) = required.find(|name| !self.dir.join(name).exists()) {
            return Ok(Found::Incompatible(format!("{absent} is missing")));
        }
        let Some(settings) = self.settings()? else {
            return Ok(Found::Incompatible("other settings".to_owned()));
        };
        if settings.abi_version == ABI_VERSION {
            Ok(Found::Compatible)
        } else {
            Ok(Found::Incompatible(format!(
                "ABI version {}, this is {ABI_VERSION}",
                settings.abi_version
            )))
        }
    }

    /// What the pinned settings say, also those of another version as long as they have the same
    /// size; `None` otherwise.
    pub(super) fn settings(&self) -> Result<Option<Settings>, Error> {
        let path = self.map(names::SETTINGS);
        let info = MapInfo::from_pin(path).map_err(Error::map(names::SETTINGS, "open its pin"))?;
        if info.value_size() as usize != size_of::<Settings>() {
            return Ok(None);
        }
        aya::maps::Array::<_, Settings>::try_from(self.open_map(names::SETTINGS)?)
            .and_then(|settings| settings.get(&0, 0))
            .map(Some)
            .map_err(Error::map(names::SETTINGS, "read"))
    }

    /// Removes maps and program that lead nowhere: those of a start that failed before it
    /// attached, or of a replacement that did.
    pub(super) fn remove_leftovers(&self, found: &Found) -> Result<(), Error> {
        for name in map_pins().chain([PROGRAM]) {
            remove(&self.next(name))?;
            if *found == Found::Nothing {
                remove(&self.dir.join(name))?;
            }
        }
        for names in Names::ALL {
            remove(&unfinished(&self.map(names.table())))?;
            remove(&unfinished(&self.next(names.table())))?;
        }
        Ok(())
    }

    /// Renames `<name>-next` to `<name>`, for the program and those maps that have one.
    pub(super) fn promote_next(&self) -> Result<(), Error> {
        for name in map_pins().chain([PROGRAM]) {
            let next = self.next(name);
            if next.exists() {
                fs::rename(&next, self.dir.join(name)).map_err(Error::pin(&next, "rename"))?;
            }
        }
        Ok(())
    }

    /// Detaches the program and removes everything that is pinned; says whether there was
    /// anything.
    ///
    /// # Errors
    /// A pin cannot be removed.
    pub fn remove(&self) -> Result<bool, Error> {
        let lock = match self.lock() {
            Ok(lock) => lock,
            Err(Error::NothingPinned { .. }) => return Ok(false),
            Err(error) => return Err(error),
        };
        let link = self.link();
        if link.exists() {
            detach_link(&link).map_err(Error::pin(&link, "detach the program of"))?;
        }
        remove(&link)?;
        self.remove_leftovers(&Found::Nothing)?;
        drop(lock);
        fs::remove_dir(&self.dir).map_err(Error::pin(&self.dir, "remove the directory"))?;
        Ok(true)
    }

    /// The pinned link, or none if nothing is attached.
    pub(super) fn open_link(&self) -> Result<Option<PinnedLink>, Error> {
        if self.link().exists() {
            Ok(Some(PinnedLink::from_pin(self.link())?))
        } else {
            Ok(None)
        }
    }

    fn absent_or(&self, source: io::Error) -> Error {
        if source.kind() == io::ErrorKind::NotFound {
            Error::NothingPinned {
                path: self.dir.clone(),
            }
        } else {
            Error::pin(&self.dir, "open the directory")(source)
        }
    }
}

/// The pins of maps: those of the object, and the tables that some of them lead to.
fn map_pins() -> impl Iterator<Item = &'static str> {
    let tables = Names::ALL.into_iter().map(Names::table);
    names::PINNED.iter().copied().chain(tables)
}

/// Where the successor of a pin lies until it takes its place.
pub(super) fn unfinished(pin: &Path) -> PathBuf {
    let mut path = pin.as_os_str().to_owned();
    path.push("-unfinished");
    path.into()
}

/// A BPF file system knows no dots, which interfaces on a VLAN have. No interface has a colon.
fn encode(interface: &str) -> String {
    interface.replace('.', ":")
}

fn decode(name: &str) -> String {
    name.replace(':', ".")
}

pub(super) fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::pin(path, "remove")(error))
        }
        _ => Ok(()),
    }
}
