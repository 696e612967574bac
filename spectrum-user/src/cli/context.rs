//! What the commands that look at a running filter need: its pins, and the names of the apps.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::{
    config::{self, App, Config},
    dataplane::{Maps, Pins},
};

/// Where filters are pinned unless `spectrum.toml` says otherwise.
const DEFAULT_PIN_DIR: &str = "/sys/fs/bpf/spectrum";

/// The configuration as far as it can be read, and what is pinned.
pub(super) struct Context {
    pub(super) config: Option<Config>,
    pub(super) pin_dir: PathBuf,
}

/// The maps of one interface.
pub(super) struct Pinned {
    pub(super) interface: String,
    pub(super) pins: Pins,
    pub(super) maps: Maps,
}

impl Context {
    /// A configuration that does not validate is no reason to leave an operator without a command
    /// in an attack: it is named, and the default paths are used.
    pub(super) fn load(path: &Path) -> Self {
        match config::load(path) {
            Ok(config) => Self {
                pin_dir: config.host.pin_dir.clone(),
                config: Some(config),
            },
            Err(error) => {
                log::warn!("{error}");
                log::warn!("going on without it: filters are looked for in {DEFAULT_PIN_DIR}");
                Self {
                    config: None,
                    pin_dir: DEFAULT_PIN_DIR.into(),
                }
            }
        }
    }

    /// The maps of every shielded interface.
    pub(super) fn pinned(&self) -> Result<Vec<Pinned>> {
        let interfaces = Pins::interfaces(&self.pin_dir);
        if interfaces.is_empty() {
            bail!(
                "no filter runs: nothing is pinned in {}\n  help: `spectrum run` starts one",
                self.pin_dir.display()
            );
        }
        let open = |interface: String| {
            let pins = Pins::new(&self.pin_dir, &interface);
            let maps = pins
                .open_maps()
                .with_context(|| format!("cannot look into the filter of {interface}"))?;
            Ok(Pinned {
                interface,
                pins,
                maps,
            })
        };
        interfaces.into_iter().map(open).collect()
    }

    /// The app called `name` (its `dns.name` or its id).
    pub(super) fn app(&self, name: &str) -> Result<&App> {
        let Some(config) = &self.config else {
            bail!("the configuration cannot be read, so no app is known by name");
        };
        let found = config
            .apps
            .iter()
            .find(|app| app.name == name || app.id.to_string() == name);
        match found {
            Some(app) => Ok(app),
            None => bail!(
                "no app is called {name}\n  help: the apps are {}",
                config
                    .apps
                    .iter()
                    .map(|app| app.name.as_str())
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
        }
    }

    /// The name of an app's slot; the slot's number if the documents do not say.
    pub(super) fn scope_name(&self, pinned: &Pinned, scope: u32) -> Result<String> {
        if scope == spectrum_common::access::GLOBAL_SCOPE {
            return Ok("all apps".to_owned());
        }
        let app = self.app_at(pinned, scope)?;
        Ok(app.map_or_else(|| format!("slot {scope}"), |app| app.name.clone()))
    }

    /// The app at a slot, if the documents still have it.
    pub(super) fn app_at(&self, pinned: &Pinned, slot: u32) -> Result<Option<&App>> {
        let slots = pinned.maps.slots()?;
        let at_slot = slots.iter().find(|(_, of_app)| **of_app == slot);
        let id = at_slot.map(|(id, _)| *id);
        let mut apps = self.config.iter().flat_map(|config| &config.apps);
        let app = apps.find(|app| Some(app.id) == id);
        Ok(app.map(AsRef::as_ref))
    }
}

impl Pinned {
    /// The slot of an app in these maps.
    pub(super) fn slot(&self, app: &App) -> Result<u32> {
        let slots = self.maps.slots()?;
        slots.get(&app.id).copied().with_context(|| {
            format!(
                "the filter of {} does not know {}\n  help: a daemon that runs learns of it at \
                 its next reload",
                self.interface, app.name
            )
        })
    }
}
