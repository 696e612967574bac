//! What the daemon may do: four capabilities, and no more from the first moment on.

use anyhow::{Context as _, Result, bail};
use caps::{CapSet, Capability, CapsHashSet};

/// Loading programs and writing maps; attaching to interfaces; ports below 1024; and, for the
/// verifier to accept offsets into a packet that are not constant (behind VLAN tags, IP options and
/// extension headers), what it calls performance monitoring.
const NEEDED: [Capability; 4] = [
    Capability::CAP_BPF,
    Capability::CAP_NET_ADMIN,
    Capability::CAP_NET_BIND_SERVICE,
    Capability::CAP_PERFMON,
];

/// Keeps only what is needed, for this thread and those that it starts.
///
/// # Errors
/// Something needed is missing; the message says what, and how to grant it.
pub(super) fn restrict() -> Result<()> {
    let held = caps::read(None, CapSet::Permitted).context("cannot read the capabilities")?;
    let missing: Vec<String> = NEEDED
        .iter()
        .filter(|capability| !held.contains(capability))
        .map(ToString::to_string)
        .collect();
    if !missing.is_empty() {
        bail!(
            "not permitted: {} missing\n  help: start as root, or grant the capabilities: \
             `setcap cap_bpf,cap_net_admin,cap_net_bind_service,cap_perfmon+ep $(command -v \
             spectrum)`, or \
             AmbientCapabilities= in the systemd unit",
            missing.join(", ")
        );
    }
    let needed = CapsHashSet::from(NEEDED);
    // Needs CAP_SETPCAP, which only root has to lose.
    if held.contains(&Capability::CAP_SETPCAP) {
        for capability in caps::all().difference(&needed) {
            // A capability that this kernel does not know cannot be dropped, nor used.
            let _unknown = caps::drop(None, CapSet::Bounding, *capability);
        }
    }
    let drop_rest = |set| caps::set(None, set, &needed);
    drop_rest(CapSet::Inheritable).context("cannot drop inheritable capabilities")?;
    drop_rest(CapSet::Effective).context("cannot set the effective capabilities")?;
    drop_rest(CapSet::Permitted).context("cannot drop capabilities")?;
    nix::sys::prctl::set_no_new_privs().context("cannot forbid new privileges")
}
