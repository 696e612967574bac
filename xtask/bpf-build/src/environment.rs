//! What a cargo hands down to the programs it starts, and a cargo started by them must not see.

use std::{env, process::Command};

/// Removes what an outer cargo has set for us, its build script or what its `cargo run` runs. What
/// the user wants of any cargo stays.
pub fn forget_outer_cargo(command: &mut Command) {
    remove(command, tells_of_outer_cargo);
}

/// Removes, beyond that, what chooses a compiler, its flags or a target: right for the host's code,
/// wrong for the kernel's.
pub(crate) fn forget_host_settings(command: &mut Command) {
    remove(command, |name| {
        tells_of_outer_cargo(name) || chosen_for_the_host(name)
    });
}

fn remove(command: &mut Command, is_unwanted: impl Fn(&str) -> bool) {
    for (name, _) in env::vars_os() {
        if is_unwanted(&name.to_string_lossy()) {
            command.env_remove(&name);
        }
    }
}

fn tells_of_outer_cargo(name: &str) -> bool {
    let prefixes = [
        "CARGO_BIN_",
        "CARGO_CFG_",
        "CARGO_FEATURE_",
        "CARGO_MANIFEST_",
        "CARGO_PKG_",
        "DEP_",
    ];
    let names = [
        "CARGO",
        "CARGO_CRATE_NAME",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_MAKEFLAGS",
        "CARGO_PRIMARY_PACKAGE",
        "CARGO_TARGET_TMPDIR",
        "DEBUG",
        "HOST",
        "NUM_JOBS",
        "OPT_LEVEL",
        "OUT_DIR",
        "PROFILE",
        "RUSTC_LINKER",
        "TARGET",
    ];
    names.contains(&name) || prefixes.iter().any(|prefix| name.starts_with(prefix))
}

fn chosen_for_the_host(name: &str) -> bool {
    let prefixes = [
        "CARGO_BUILD_",
        "CARGO_PROFILE_",
        "CARGO_TARGET_",
        "CARGO_UNSTABLE_",
        "RUSTUP_TOOLCHAIN",
    ];
    let names = [
        "RUSTC",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_WRAPPER",
        "RUSTDOC",
        "RUSTDOCFLAGS",
        "RUSTFLAGS",
    ];
    names.contains(&name) || prefixes.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::{chosen_for_the_host, tells_of_outer_cargo};

    /// Otherwise a proxy, a mirror or an offline setting of the user would be lost, and with it
    /// the build.
    #[test]
    fn the_users_own_settings_are_kept() {
        for name in [
            "CARGO_HOME",
            "CARGO_HTTP_PROXY",
            "CARGO_NET_OFFLINE",
            "CARGO_REGISTRIES_MIRROR_INDEX",
            "CARGO_TERM_COLOR",
            "HTTPS_PROXY",
            "PATH",
            "RUSTUP_HOME",
        ] {
            assert!(
                !tells_of_outer_cargo(name) && !chosen_for_the_host(name),
                "{name}"
            );
        }
    }

    #[test]
    fn the_outer_build_is_forgotten() {
        for name in [
            "CARGO",
            "CARGO_CFG_TARGET_ARCH",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_MANIFEST_DIR",
            "CARGO_PKG_NAME",
            "DEP_Z_ROOT",
            "OUT_DIR",
        ] {
            assert!(tells_of_outer_cargo(name), "{name}");
        }
        for name in [
            "CARGO_BUILD_TARGET",
            "CARGO_PROFILE_RELEASE_LTO",
            "CARGO_TARGET_DIR",
            "RUSTC",
            "RUSTC_WRAPPER",
            "RUSTFLAGS",
            "RUSTUP_TOOLCHAIN",
        ] {
            assert!(chosen_for_the_host(name), "{name}");
        }
    }
}
