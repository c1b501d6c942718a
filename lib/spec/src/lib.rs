//! The words of Bakelite: what host and device have to agree on, and nothing else.
//!
//! Everything here is plain data and pure functions: no I/O, no clock, no `cfg(target_*)`, no unsafe.
//! The workshop writes these types into an image as JSON; init and firstboot read them in the device.
//! A person's YAML is read by [`yaml`] (feature `yaml`), checked against the one table of keys in [`keys`],
//! merged by [`layers`], and becomes a typed [`appliance::Appliance`] only after that.

pub mod account;
pub mod answer;
pub mod appliance;
pub mod apps;
pub mod attempts;
pub mod backup;
pub mod board;
pub mod bundle;
pub mod causes;
pub mod check;
pub mod cmdline;
pub mod dhcp;
pub mod event;
pub mod fault;
pub mod finding;
pub mod firewall;
mod form;
pub mod hexadecimal;
pub mod installer;
pub mod k3s;
pub mod k3s_flags;
pub mod keys;
#[cfg(feature = "yaml")]
pub mod laid;
pub mod layers;
pub mod layout;
pub mod loader_entry;
pub mod manifest;
pub mod pattern;
pub mod pi;
pub mod places;
pub mod quantity;
pub mod records;
pub mod rules;
#[cfg(feature = "schema")]
pub mod schema;
pub mod secret;
#[cfg(feature = "yaml")]
pub mod seed;
pub mod serial;
pub mod set;
pub mod status;
pub mod tried;
pub mod unit;
pub mod update;
pub mod window;
#[cfg(feature = "yaml")]
pub mod workload;
#[cfg(feature = "yaml")]
pub mod yaml;
