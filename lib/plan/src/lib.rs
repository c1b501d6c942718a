//! The fitter's head: facts in, decisions out. Pure: no I/O, no clock, no random numbers.
//!
//! A [`step::Step`] decides from [`facts::Facts`] and [`Settings`] alone; what it wants done is a list of
//! [`action::Action`]s, each idempotent, that somebody else applies and makes durable. After each step the world is
//! looked at anew: a plan is a forecast, never a script.

pub mod action;
pub mod address;
pub mod apps;
pub mod attempts;
pub mod backup;
pub mod certificates;
pub mod claim;
pub mod cluster;
pub mod cmdline;
pub mod data_disk;
pub mod database;
pub mod debris;
pub mod disk;
pub mod facts;
pub mod firewall;
pub mod forecast;
pub mod home;
pub mod hostname;
pub mod identity;
pub mod k3s_config;
pub mod latency;
pub mod old_copy;
pub mod payload;
pub mod placed;
pub mod proxy;
pub mod recovery;
pub mod reset;
pub mod restore;
pub mod seal;
pub mod seed;
pub mod settings;
pub mod step;
pub mod table;
#[cfg(test)]
mod testing;
pub mod time;
pub mod trim;
pub mod update;

use bakelite_spec::appliance::Appliance;
use bakelite_spec::manifest::Manifest;

/// What the machine is meant to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The appliance, all layers merged.
    pub appliance: Appliance,
    /// What is in the image.
    pub manifest: Manifest,
    /// What became of the settings that were written at the machine.
    pub local: Local,
}

/// What became of the settings that were written at the machine; the appliance has what counts of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Local {
    /// Files that aren't taken as they are, and why.
    pub refused: Vec<String>,
    /// What the boot partition's overlay is.
    pub overlay: Overlay,
}

/// The overlay on the boot partition.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Overlay {
    /// It couldn't be read or isn't right: the last accepted one counts.
    #[default]
    Unknown,
    /// It isn't there.
    Absent,
    /// This text counts.
    Accepted(String),
}
