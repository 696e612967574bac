//! What the answers about a name say of origins. Pure.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use crate::config::{App, EdgeIps, Member, Origin, Origins};

/// Heavier weights are brought down to it, in proportion.
const HEAVIEST: u32 = 256;

/// All that was answered about a name.
#[derive(Debug, Default)]
pub(super) struct Answer {
    targets: Vec<Target>,
    valid_until: Option<Instant>,
}

#[derive(Debug)]
struct Target {
    origin: Origin,
    priority: u16,
    weight: u16,
}

impl Answer {
    pub(super) fn add(&mut self, ips: Vec<IpAddr>, port: u16, priority: u16, weight: u16) {
        let target = |ip| Target {
            origin: Origin {
                ip,
                first_port: port,
            },
            priority,
            weight,
        };
        self.targets.extend(ips.into_iter().map(target));
    }

    /// A part of it is good until then.
    pub(super) fn expires(&mut self, at: Instant) {
        let before = self.valid_until.unwrap_or(at);
        self.valid_until = Some(at.min(before));
    }

    /// How long it stays good.
    pub(super) fn left(&self, now: Instant) -> Duration {
        self.valid_until
            .map_or(Duration::ZERO, |at| at.saturating_duration_since(now))
    }

    /// The origins of `app`: of the targets of one origin, the one of the lowest priority number;
    /// in the same order, in whatever order they came.
    pub(super) fn members(&self, app: &App) -> Vec<Member> {
        let targets = self.targets.iter();
        let mut targets: Vec<&Target> = targets
            .filter(|target| is_usable(&target.origin, app))
            .collect();
        let key = |target: &&Target| (target.priority, target.origin.ip, target.origin.first_port);
        targets.sort_by_key(key);
        let mut priorities: Vec<u16> = targets.iter().map(|target| target.priority).collect();
        priorities.dedup();
        let heaviest = targets.iter().map(|target| u32::from(target.weight)).max();
        let heaviest = heaviest.unwrap_or_default();
        let mut members: Vec<Member> = Vec::new();
        for target in targets {
            if members.len() == Origins::MAX {
                break;
            }
            if members.iter().any(|member| member.origin == target.origin) {
                continue;
            }
            let rank = priorities.binary_search(&target.priority);
            members.push(Member {
                rank: rank.map_or(0, |rank| u16::try_from(rank).unwrap_or(u16::MAX)),
                weight: weight(target.weight, heaviest),
                ..Member::from(target.origin)
            });
        }
        members
    }
}

/// A weight of 0 has "a very small chance of being selected" (RFC 2782).
fn weight(weight: u16, heaviest: u32) -> u16 {
    let weight = u32::from(weight);
    let scaled = if heaviest > HEAVIEST {
        weight * HEAVIEST / heaviest
    } else {
        weight
    };
    u16::try_from(scaled.max(1)).unwrap_or(u16::MAX)
}

/// Whether a connection can be made to it, that does not lead back here.
fn is_usable(origin: &Origin, app: &App) -> bool {
    let Origin { ip, first_port } = *origin;
    let is_one_host = match ip {
        IpAddr::V4(v4) => v4 != Ipv4Addr::BROADCAST,
        IpAddr::V6(v6) => v6.to_ipv4_mapped().is_none() && !v6.is_unicast_link_local(),
    };
    let is_edge = matches!(&app.edge_ips, EdgeIps::Static(ips) if ips.contains(&ip))
        && app.ports.contains(first_port);
    is_one_host && !ip.is_unspecified() && !ip.is_multicast() && !is_edge && first_port != 0
}

#[cfg(test)]
mod tests;
