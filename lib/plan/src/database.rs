//! Database: how k3s's own is begun, on a machine that had none.
//!
//! kine makes a database with pages of 4 KiB and writes most of a page anew for each small row. With pages of 1 KiB an idle
//! node writes half (k3s.md 11.3); the size stays over k3s's own VACUUM at each start, and can't be changed later. So
//! this is part of the quiet profile, though it needs nothing of k3s.

use crate::Settings;
use crate::action::Action;
use crate::cluster::{self, DATABASE};
use crate::facts::Facts;
use crate::step::Decision;
use bakelite_spec::appliance::{Payload as Kind, Quiet};
use bakelite_spec::records::Datastore;

/// Bytes of a page.
const PAGE: u32 = 1024;

/// Decides about a database that isn't there yet.
pub fn decide(facts: &Facts, settings: &Settings) -> Decision {
    if settings.manifest.payload.kind == Kind::None {
        return Decision::Skip("this image has no payload".into());
    }
    if cluster::datastore(settings) != Datastore::Sqlite {
        return Decision::Skip("the cluster's data isn't in a database of this machine".into());
    }
    if facts.database.is_some() {
        return Decision::Done("there is a database".into());
    }
    if settings.appliance.k3s.quiet == Quiet::Off {
        return Decision::Skip("k3s makes its database itself".into());
    }
    let action = Action::PrepareDatabase { path: DATABASE.into(), page_size: PAGE };
    Decision::Run(format!("k3s gets an empty database with pages of {PAGE} bytes"), vec![action])
}
