//! Images as QEMU machines: any image of ours is booted as the board it was baked for, with disks, links and a plug.
//!
//! What a machine is comes from the image itself ([`image`]), how it is asked for from [`machine`], and a running one
//! is a [`process::Running`]: its events, its serial line, its plug. No machine outlives the program that started it,
//! and an image is never written to unless that was asked for (`persist`).

pub mod accel;
mod attached;
mod begin;
mod door;
mod error;
pub mod firmware;
pub mod image;
mod lines;
pub mod machine;
pub mod media;
pub mod process;
mod qmp;
mod setup;
mod tree;

pub use attached::Attached;
pub use error::VmError;
pub use machine::{Firmware, Machine, Network};
pub use media::{Bus, Disk};
pub use process::{Report, Running, Seen, run_interactive};
