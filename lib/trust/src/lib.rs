//! Trust: whom a device believes. Keys of owners and devices, detached signatures, grants, bundles, the layout of a stick. Pure;
//! used on both sides.
//!
//! Encryption proves no sender: anybody can encrypt to a public key. So what a device does by itself rests on its own key,
//! or on a signature by one of the appliance's `owner.keys`. An owner's private halves are made on a laptop and never go
//! near a device; an image has public halves only.

pub mod bundle;
pub mod document;
pub mod file_key;
pub mod grant;
pub mod keys;
pub mod pass;
pub mod recovery;
pub mod signature;
pub mod stick;
