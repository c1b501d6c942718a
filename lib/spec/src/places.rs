//! Places: which folder of which medium is shown where (DESIGN, section 3). init shows those of the state partition; firstboot
//! shows those of a data disk over them.

/// A folder of a medium, and where it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its name at the top of the medium.
    pub folder: &'static str,
    /// The path at which programs expect it.
    pub at: &'static str,
    /// Permission bits of a folder that is made.
    pub mode: u32,
}

const fn shown(folder: &'static str, at: &'static str, mode: u32) -> Shown {
    Shown { folder, at, mode }
}

/// Where k3s keeps the cluster.
pub const RANCHER: Shown = shown("rancher", "/var/lib/rancher", 0o755);

/// What is always the state partition's.
pub const OF_STATE: &[Shown] = &[
    shown("bakelite", "/var/lib/bakelite", 0o700),
    shown("dhcpcd", "/var/lib/dhcpcd", 0o755),
    shown("chrony", "/var/lib/chrony", 0o750),
    shown("dropbear", "/var/lib/dropbear", 0o700),
    shown("rancher-etc", "/etc/rancher", 0o755),
];

/// What lives on a data disk, and on state while there is none.
pub const OF_EITHER: &[Shown] = &[
    RANCHER,
    shown("kubelet", "/var/lib/kubelet", 0o750),
    shown("opt", "/opt", 0o755),
    shown("srv", "/srv", 0o755),
    shown("data", "/data", 0o755),
];

/// What lives on a data disk only: without one it is in memory, as it would wear a card out.
pub const OF_DISK: &[Shown] = &[shown("log-pods", "/var/log/pods", 0o755)];

/// All that a state partition shows.
pub fn on_state() -> impl Iterator<Item = Shown> {
    OF_STATE.iter().chain(OF_EITHER).copied()
}

/// All that a data disk shows.
pub fn on_disk() -> impl Iterator<Item = Shown> {
    OF_EITHER.iter().chain(OF_DISK).copied()
}
