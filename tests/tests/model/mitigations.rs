//! What the engine installs by itself, on top of the documents.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use spectrum_common::signature::{Fields, SignatureMask};
use spectrum_user::{
    config::{
        Config, Mode,
        rule::{Action, Conditions, Payload, Rule},
    },
    dataplane::{Filter, signatures::Signature},
};

/// In the documents that would say the same, rules with this id and above are mitigations: they come
/// after all others.
pub(crate) const FIRST_ID: u32 = 2_000_000;

/// One mitigation: its app, and what packets have in common.
struct Look {
    app: &'static str,
    mode: Mode,
    ttl: Option<u8>,
    source_port: Option<u16>,
    prefix: &'static [u8],
}

const LOOKS: [Look; 4] = [
    Look {
        app: "game",
        mode: Mode::Monitor,
        ttl: Some(64),
        source_port: None,
        prefix: b"",
    },
    Look {
        app: "game",
        mode: Mode::Enforce,
        ttl: None,
        source_port: None,
        prefix: b"payl",
    },
    Look {
        app: "web",
        mode: Mode::Enforce,
        ttl: Some(64),
        source_port: Some(54),
        prefix: b"",
    },
    Look {
        app: "web",
        mode: Mode::Monitor,
        ttl: None,
        source_port: None,
        prefix: b"queries of some ",
    },
];

impl Look {
    fn bits(&self) -> (SignatureMask, Fields) {
        let mut mask = SignatureMask::default();
        let mut key = Fields::default();
        if let Some(ttl) = self.ttl {
            mask.fields.header |= 0xff << 24;
            key.header |= u64::from(ttl) << 24;
        }
        if let Some(port) = self.source_port {
            mask.fields.endpoint |= 0xffff << 32;
            key.endpoint |= u64::from(port) << 32;
        }
        for (index, byte) in self.prefix.iter().enumerate() {
            let shift = 56 - 8 * (index % 8);
            mask.fields.payload[index / 8] |= 0xff << shift;
            key.payload[index / 8] |= u64::from(*byte) << shift;
        }
        mask.payload_end = self.prefix.len() as u32;
        (mask, key)
    }

    fn rule(&self, id: u32) -> Rule {
        let payload = (!self.prefix.is_empty()).then(|| Payload {
            offset: 0,
            bytes: self.prefix.to_vec(),
        });
        Rule {
            id: FIRST_ID + id,
            name: None,
            conditions: Conditions {
                ttl: self.ttl.map(|ttl| ttl..=ttl),
                source_port: self.source_port.map(|port| port..=port),
                payload,
                ..Conditions::default()
            },
            action: Action::Drop,
            mode: self.mode,
        }
    }
}

/// Puts the mitigations into `filter`; returns the documents that would say the same.
pub(crate) fn install(filter: &mut Filter, config: &Config) -> Result<Config> {
    let slots = filter.maps().slots()?;
    let mut config = config.clone();
    for (look, id) in LOOKS.iter().zip(1..) {
        let app = config.apps.iter_mut().find(|app| app.name == look.app);
        let app = Arc::make_mut(app.context(look.app)?);
        let slot = slots[&app.id];
        let signature = Signature::of_mitigation(id, slot, look.bits(), look.mode, 0);
        filter.put_mitigation(signature)?;
        app.protection.rules.push(look.rule(id));
    }
    Ok(config)
}
