//! Backup: what a person should know about this machine's backups before they are needed.

use crate::Settings;
use crate::cluster;
use crate::facts::Facts;
use crate::step::Decision;
use bakelite_spec::appliance::{Encryption, Payload as Kind};
use bakelite_spec::fault::{Code, Fault};
use bakelite_spec::records::Datastore;

/// Decides whether there is something to say.
pub fn decide(_: &Facts, settings: &Settings) -> Decision {
    if settings.manifest.payload.kind == Kind::None || cluster::datastore(settings) != Datastore::Sqlite {
        return Decision::Skip("there is no database on this machine".into());
    }
    let backup = &settings.appliance.backup;
    match (backup.encryption, backup.recipients.len()) {
        (Encryption::None, _) => Decision::Done("backups are plain: whoever gets one has the cluster".into()),
        (Encryption::Age, 0) => {
            let text = "backups are not restorable after the loss of both media: nobody but this machine can open them";
            Decision::Warn(Fault::new(Code::BackupNotRestorable, text))
        }
        (Encryption::Age, count) => {
            Decision::Done(format!("{count} recipient(s) can open the backups besides this machine"))
        }
    }
}
