//! The filter of one interface, as its daemon holds it.

use std::{
    fs::File,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Map, MapData, MapInfo, RingBuf},
    programs::{Program, TestRun as _, TestRunOptions, Xdp},
};
use nix::fcntl::Flock;
use spectrum_common::maps as names;

use super::{
    attach::{self, AttachMode},
    error::Error,
    geo,
    geo_table::Numbered,
    lists::{self, FeedList},
    maps::Maps,
    packet_log::{self, PacketLog},
    pins::{Found, PROGRAM, Pins, Shape},
    plan::Plan,
    prepare::{Brief, Prepared},
    samples::Samples,
    signatures::{self, Signature},
    sync::{self, Applied},
    table_map::{Names, TableMap},
};
use crate::{config::Config, geo::Places};

/// The compiled programs (`spectrum-ebpf`), aligned as the ELF parser wants them.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("SPECTRUM_BPF_OBJECT"));

/// Bytes by which an answer may be longer than the packet.
const MAX_GROWTH: usize = 128;

/// A loaded XDP program and its maps.
pub struct Filter {
    ebpf: Ebpf,
    maps: Maps,
    place: Option<Place>,
    /// What the maps hold, if they are known to hold one thing.
    plan: Option<Plan>,
    /// What they may ask the table of places.
    asked: Numbered,
    _packet_log: Option<PacketLog>,
}

/// Where a filter is pinned and attached.
struct Place {
    interface: String,
    pins: Pins,
    mode: AttachMode,
}

/// What a new daemon found pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inherited {
    /// Nothing: the interface was unfiltered.
    Nothing,
    /// A filter of this version; its counters and lists go on.
    Filter,
    /// A filter whose maps could not be used, and why; its counters and runtime lists are gone.
    Replaced(String),
}

/// Result of one run of the program over a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestRun {
    /// What the program returned: a number of `enum xdp_action`.
    pub action: u32,
    /// The packet as the program left it.
    pub packet: Vec<u8>,
    /// Mean duration of one run.
    pub duration: Duration,
}

impl Filter {
    /// Loads the program with maps of its own, neither pinned nor attached.
    ///
    /// # Errors
    /// No capability (`CAP_BPF`, `CAP_NET_ADMIN`), or the kernel refuses the program.
    pub fn load_private() -> Result<Self, Error> {
        Self::finish(&mut EbpfLoader::new(), None, false)
    }

    /// The same with a program that writes every packet to the log.
    ///
    /// # Errors
    /// As [`Filter::load_private`].
    pub fn load_private_logging() -> Result<Self, Error> {
        Self::finish(&mut EbpfLoader::new(), None, true)
    }

    /// Makes `interface` filter by `config`: loads the program, fills its maps, and only then puts
    /// it in the place of its predecessor or attaches it.
    ///
    /// `addresses` are the addresses of the shielded interfaces; `feeds` and `places` are what others
    /// list, and know of where addresses are.
    ///
    /// # Errors
    /// As [`Filter::load_private`]; the interface does not exist or refuses the program; a map is
    /// too small for the configuration. The predecessor, if any, then still runs.
    pub fn run(
        config: &Config,
        interface: &str,
        addresses: &[IpAddr],
        (feeds, places): (&[FeedList], &Arc<Places>),
    ) -> Result<(Self, Inherited), Error> {
        let index = attach::interface_index(interface)?;
        let pins = Pins::new(&config.host.pin_dir, interface);
        pins.create_dir()?;
        let lock = pins.lock()?;
        let found = pins.inspect(&shapes_of_object()?)?;
        let others = (feeds, places);
        let started = Self::start(config, interface, index, (addresses, others), &pins, &found);
        drop(lock);
        let (mut filter, mode) = match started {
            Ok(started) => started,
            Err(error) => {
                if found == Found::Nothing {
                    pins.remove()?;
                }
                return Err(error);
            }
        };
        filter.place = Some(Place {
            interface: interface.to_owned(),
            pins,
            mode,
        });
        let inherited = match found {
            Found::Nothing => Inherited::Nothing,
            Found::Compatible => Inherited::Filter,
            Found::Incompatible(why) => Inherited::Replaced(why),
        };
        Ok((filter, inherited))
    }

    fn start(
        config: &Config,
        interface: &str,
        index: u32,
        (addresses, (feeds, places)): (&[IpAddr], (&[FeedList], &Arc<Places>)),
        pins: &Pins,
        found: &Found,
    ) -> Result<(Self, AttachMode), Error> {
        pins.remove_leftovers(found)?;
        let mut filter = Self::load_pinned(pins, found)?;
        let attached = match found {
            Found::Nothing => None,
            Found::Compatible | Found::Incompatible(_) => attached_to(pins, index),
        };
        let prepared = filter
            .brief()?
            .prepare(config, addresses, (feeds, places))?;
        filter.commit_locked(prepared)?;
        let program = filter.program()?;
        let next = pins.next(PROGRAM);
        program
            .pin(&next)
            .map_err(Error::pin(next, "pin the program"))?;
        let wanted = config.host.xdp_mode;
        let mode = attach::switch_or_attach(program, pins, interface, wanted, attached)?;
        pins.promote_next()?;
        filter.maps.moved_to(|names: Names| pins.map(names.table()));
        sync::note_attachment(&mut filter.maps, index, mode)?;
        Ok((filter, mode))
    }

    /// Makes the maps hold what `config` says where addresses are at `places`, and what no feed does.
    ///
    /// # Errors
    /// A map is too small or the kernel refuses a write.
    pub fn apply(
        &mut self,
        config: &Config,
        addresses: &[IpAddr],
        places: &Arc<Places>,
    ) -> Result<Applied, Error> {
        let prepared = self.brief()?.prepare(config, addresses, (&[], places))?;
        self.commit(prepared)
    }

    /// What has to be known of this filter to work out what it should hold.
    ///
    /// # Errors
    /// The kernel refuses a look-up.
    pub fn brief(&self) -> Result<Brief, Error> {
        Ok(Brief {
            slots: sync::slots_in_use(&self.maps)?,
            lists_in_use: lists::digest_in_use(&self.maps),
            places: geo::Known::of(&self.maps, &self.asked)?,
        })
    }

    /// Makes the maps hold what was prepared for them since the last change; packets see the old
    /// policy or the new one.
    ///
    /// # Errors
    /// A map is too small or the kernel refuses a write.
    pub fn commit(&mut self, prepared: Prepared) -> Result<Applied, Error> {
        let _lock = self.lock()?;
        self.commit_locked(prepared)
    }

    fn commit_locked(&mut self, prepared: Prepared) -> Result<Applied, Error> {
        let Prepared {
            plan,
            lists,
            mut places,
        } = prepared;
        // Should this end halfway, some of the maps are of this plan, and some of that before.
        self.plan = None;
        let applied = Applied {
            places_replaced: places.replace(&mut self.maps)?,
            ..Applied::default()
        };
        self.asked.extend(places.asked.clone());
        let applied = match sync::apply(&mut self.maps, &plan, lists, applied) {
            Ok(applied) => applied,
            Err(error) => {
                // What was written is in force, and whoever tries again finds it unchanged.
                sync::forget_verdicts(&mut self.maps)?;
                return Err(error);
            }
        };
        self.asked = places.asked;
        self.plan = Some(plan);
        Ok(applied)
    }

    /// Takes what is over off the lists, and notes how late it is.
    ///
    /// # Errors
    /// The kernel refuses a write.
    pub fn tidy(&mut self) -> Result<(), Error> {
        let _lock = self.lock()?;
        let Some(plan) = &self.plan else {
            return Ok(());
        };
        sync::apply(&mut self.maps, plan, None, Applied::default()).map(drop)
    }

    /// Keeps the command line from changing pinned maps; a private filter needs no lock.
    fn lock(&self) -> Result<Option<Flock<File>>, Error> {
        let lock = self.place.as_ref().map(|place| place.pins.lock());
        lock.transpose()
    }

    /// Puts a mitigation into the maps, in place of one with the same id at the same app.
    ///
    /// # Errors
    /// There is no room, or the kernel refuses a write.
    pub fn put_mitigation(&mut self, signature: Signature) -> Result<(), Error> {
        let _lock = self.lock()?;
        signatures::put(&mut self.maps, signature)
    }

    /// Takes a mitigation of the app at slot `scope` out of the maps.
    ///
    /// # Errors
    /// The kernel refuses a write.
    pub fn remove_mitigation(&mut self, scope: u32, id: u32) -> Result<(), Error> {
        let _lock = self.lock()?;
        signatures::remove(&mut self.maps, scope, id)
    }

    /// Runs the program over `packet` (an Ethernet frame) `repeat` times
    /// (`BPF_PROG_TEST_RUN`). Counters, limits and events change as if it had arrived.
    ///
    /// # Errors
    /// The kernel refuses, for example a packet shorter than an Ethernet header.
    pub fn test_run(&mut self, packet: &[u8], repeat: u32) -> Result<TestRun, Error> {
        self.test_run_program(names::PROGRAM, packet, repeat)
    }

    /// As [`Filter::test_run`], with another program of the object.
    ///
    /// # Errors
    /// As [`Filter::test_run`]; or the object has no program of that name.
    pub fn test_run_program(
        &mut self,
        name: &'static str,
        packet: &[u8],
        repeat: u32,
    ) -> Result<TestRun, Error> {
        // The program may make a packet longer, but not by more than the headers of an answer.
        let mut output = vec![0; packet.len() + MAX_GROWTH];
        let result = program(&mut self.ebpf, name)?.test_run(TestRunOptions {
            data_in: Some(packet),
            data_out: Some(&mut output),
            repeat,
            ..TestRunOptions::default()
        })?;
        output.truncate(result.data_size_out as usize);
        Ok(TestRun {
            action: result.return_value,
            packet: output,
            duration: result.duration,
        })
    }

    /// How many instructions the verifier looked at before it accepted each program.
    ///
    /// # Errors
    /// The kernel does not tell (before 5.16).
    pub fn verified_instructions(&self) -> Result<Vec<(&str, u32)>, Error> {
        let count = |(name, program): (_, &Program)| {
            let count = program.info()?.verified_instruction_count();
            Ok((name, count.ok_or(Error::Missing("count of instructions"))?))
        };
        self.ebpf.programs().map(count).collect()
    }

    pub fn maps(&self) -> &Maps {
        &self.maps
    }

    pub fn maps_mut(&mut self) -> &mut Maps {
        &mut self.maps
    }

    /// The name of the interface; `None` for a private filter.
    pub fn interface(&self) -> Option<&str> {
        self.place.as_ref().map(|place| place.interface.as_str())
    }

    pub fn mode(&self) -> Option<AttachMode> {
        self.place.as_ref().map(|place| place.mode)
    }

    /// Where it is pinned; `None` for a private filter.
    pub fn pin_dir(&self) -> Option<&Path> {
        self.place.as_ref().map(|place| place.pins.dir())
    }

    /// The ring buffer of events, for its one reader.
    ///
    /// # Errors
    /// It has been taken already.
    pub fn take_events(&mut self) -> Result<RingBuf<MapData>, Error> {
        let map = self.ebpf.take_map(names::EVENTS);
        RingBuf::try_from(map.ok_or(Error::Missing(names::EVENTS))?)
            .map_err(Error::map(names::EVENTS, "read"))
    }

    /// The samples, for their one reader.
    ///
    /// # Errors
    /// They have been taken already.
    pub fn take_samples(&mut self) -> Result<Samples, Error> {
        let map = self.ebpf.take_map(names::SAMPLES);
        RingBuf::try_from(map.ok_or(Error::Missing(names::SAMPLES))?)
            .map(Samples::new)
            .map_err(Error::map(names::SAMPLES, "read"))
    }

    /// Detaches the program and removes its pins.
    ///
    /// # Errors
    /// A pin cannot be removed.
    pub fn detach(self) -> Result<(), Error> {
        if let Some(place) = self.place {
            place.pins.remove()?;
        }
        Ok(())
    }

    fn load_pinned(pins: &Pins, found: &Found) -> Result<Self, Error> {
        let path = |name| match found {
            Found::Nothing | Found::Compatible => pins.map(name),
            Found::Incompatible(_) => pins.next(name),
        };
        let mut loader = EbpfLoader::new();
        for &name in names::PINNED {
            loader.map_pin_path(name, path(name));
        }
        Self::finish(&mut loader, Some(&path), packet_log::is_wanted())
    }

    /// `pin`: where the table of a name is pinned, or is to be.
    fn finish(
        loader: &mut EbpfLoader<'_>,
        pin: Option<&dyn Fn(&'static str) -> PathBuf>,
        logs_packets: bool,
    ) -> Result<Self, Error> {
        let mut ebpf = loader
            .override_global(packet_log::LEVEL, packet_log::level(logs_packets), true)
            .load(OBJECT)?;
        let names: Vec<String> = ebpf.programs().map(|(name, _)| name.to_owned()).collect();
        for name in names {
            program(&mut ebpf, &name)?.load()?;
        }
        let maps = Maps::open(
            |name| ebpf.take_map(name).ok_or(Error::Missing(name)),
            |names, map| TableMap::adopt(names, map, pin.map(|pin| pin(names.table()))),
        )?;
        let packet_log = logs_packets.then(|| PacketLog::start(&mut ebpf));
        Ok(Self {
            _packet_log: packet_log.transpose()?,
            ebpf,
            maps,
            place: None,
            plan: None,
            asked: Numbered::new(),
        })
    }

    fn program(&mut self) -> Result<&mut Xdp, Error> {
        self.program_named(names::PROGRAM)
    }

    pub(super) fn program_named(&mut self, name: &str) -> Result<&mut Xdp, Error> {
        program(&mut self.ebpf, name)
    }
}

/// How the pinned link is attached, if it belongs to the interface with this index.
fn attached_to(pins: &Pins, index: u32) -> Option<AttachMode> {
    // A filter whose settings are gone was reported as such: nobody knows what its link belongs to.
    let settings = pins.settings().unwrap_or_default();
    let ours = settings.filter(|settings| settings.interface_index == index);
    ours.and_then(|settings| AttachMode::from_number(settings.attach_mode))
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp, Error> {
    let program = ebpf
        .program_mut(name)
        .ok_or(Error::Missing("program of that name"))?;
    Ok(program.try_into()?)
}

/// The shapes of the maps that this version's object makes.
fn shapes_of_object() -> Result<Vec<(&'static str, Shape)>, Error> {
    let mut ebpf = EbpfLoader::new().load(OBJECT)?;
    let mut shape = |name| {
        let map = ebpf.take_map(name).ok_or(Error::Missing(name))?;
        Ok((name, Shape::of(name, &map_info(name, &map)?)?))
    };
    names::PINNED.iter().map(|&name| shape(name)).collect()
}

fn map_info(name: &'static str, map: &Map) -> Result<MapInfo, Error> {
    if let Map::Array(data)
    | Map::ArrayOfMaps(data)
    | Map::DevMapHash(data)
    | Map::PerCpuArray(data)
    | Map::RingBuf(data) = map
    {
        data.info().map_err(Error::map(name, "look at it"))
    } else {
        Err(Error::Missing(name))
    }
}
