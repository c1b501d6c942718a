//! Which Debian packages an appliance is made of.
//!
//! Asked for: what the device's own programs call. Left out although something depends on it: what only serves
//! installing and configuring a Debian system (maintainer scripts are never run here), or another init.

use bakelite_spec::appliance::{Appliance, Input};
use bakelite_spec::board::{Board, Flow};

/// What every appliance has. DHCP, NTP, ssh and the making and checking of file systems are Debian's. kmod opens
/// liblzma5 only when it meets a `.ko.xz`, so nothing depends on it, and without it every module would seem empty.
const COMMON: &[&str] = &[
    "busybox-static",
    "ca-certificates",
    "chrony",
    "dhcpcd-base",
    "dosfstools",
    "dropbear-bin",
    "e2fsprogs",
    "kmod",
    "liblzma5",
    "netbase",
];

/// What runs on the build host where its architecture is another.
pub const TOOLS: &[&str] = &["kmod", "liblzma5"];

/// Serves only an installed, self-configuring Debian.
const WITHOUT: &[&str] = &[
    "adduser",
    "debconf",
    "debconf-2.0",
    "dpkg",
    "dracut",
    "gcc-14-base",
    "grub-common",
    "grub-efi-amd64-bin",
    "grub-efi-amd64-signed",
    "grub-efi-arm64-bin",
    "grub-efi-arm64-signed",
    "grub2-common",
    "init-system-helpers",
    "iucode-tool",
    "initramfs-tools",
    "initramfs-tools-core",
    "iproute2",
    "linux-base",
    "linux-initramfs-tool",
    "logsave",
    "lsb-base",
    "mokutil",
    "openssl",
    "openssl-provider-legacy",
    "perl",
    "perl-base",
    "sysvinit-utils",
    "tzdata",
    "ucf",
    "udev",
];

/// The packages to ask for, sorted.
pub fn wanted(board: &Board, appliance: &Appliance) -> Vec<String> {
    let mut names: Vec<String> = COMMON.iter().map(ToString::to_string).collect();
    match board.boot.flow {
        Flow::Uefi => {
            names.extend(["shim-signed".into(), format!("systemd-boot-efi-{}-signed", board.arch.debian())]);
        }
        Flow::RaspberryPi => names.push("raspi-firmware".into()),
        Flow::Direct => {}
    }
    names.push(board.kernel.package.clone());
    if appliance.firewall.input == Input::Closed {
        names.push("nftables".into());
    }
    if appliance.wifi.ssid.is_some() {
        names.push("wpasupplicant".into());
    }
    // Names are resolved by Debian's own libc, which ours, linked in whole, can't do.
    if appliance.update.from.is_some() {
        names.push("curl".into());
    }
    names.extend(board.packages.iter().chain(&appliance.packages).cloned());
    names.sort();
    names.dedup();
    names
}

/// Those of them that come from Debian's backports.
pub fn backports(board: &Board) -> Vec<String> {
    board.kernel.backports.then(|| board.kernel.package.clone()).into_iter().collect()
}

/// The packages to leave out, sorted. What a person asks for by name isn't left out by itself.
pub fn without(appliance: &Appliance) -> Vec<String> {
    let ours = WITHOUT.iter().map(ToString::to_string).filter(|name| !appliance.packages.contains(name));
    let mut names: Vec<String> = ours.chain(appliance.without.iter().cloned()).collect();
    names.sort();
    names.dedup();
    names
}
