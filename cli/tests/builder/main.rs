//! The builder's proofs: every way in which a build can fail, and the sameness of its bytes, tried through the real
//! command as a person would type it.
//!
//! They need the command that `scripts/build` makes (BAKELITE_BIN) and, to fill the cache, the Debian mirror of this
//! host's apt sources; without either each says loudly that it was skipped. BAKELITE_TEST_FULL=1 tries more moments.

#![expect(clippy::unwrap_used, reason = "a proof that can't go on has failed")]

mod bakery;
mod boards;
mod bundles;
mod disk_full;
mod interrupted;
mod looked_at;
mod mirrors;
mod output;
mod outputs;
mod own;
mod payloads;
mod same_bytes;
mod site;
