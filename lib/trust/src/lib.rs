//! Keys: an owner's pair that opens backups (age) and signs (ed25519). Pure; used on both sides.
//!
//! Private halves are made on a laptop and never go near a device; an image has public halves only.

pub mod keys;
