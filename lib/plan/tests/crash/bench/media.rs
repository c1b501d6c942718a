//! Media that forget: what wasn't synced before a cut may be there afterwards or not, at an adversary's whim.

use bakelite_plan::disk::{Disk, Proof};
use std::collections::BTreeMap;

/// A file system that forgets.
#[derive(Clone, Debug, Default)]
pub struct Files {
    pub live: BTreeMap<String, String>,
    pub durable: BTreeMap<String, String>,
    pub pending: Vec<(String, Option<String>)>,
}

impl Files {
    pub fn with(files: &[(&str, &str)]) -> Self {
        let live: BTreeMap<_, _> = files.iter().map(|(path, text)| (path.to_string(), text.to_string())).collect();
        Self { durable: live.clone(), live, pending: Vec::new() }
    }

    pub fn sync(&mut self) {
        self.durable = self.live.clone();
        self.pending.clear();
    }

    pub fn forget(&mut self, whim: &mut impl FnMut() -> bool) {
        for (path, text) in std::mem::take(&mut self.pending) {
            match text {
                _ if !whim() => {}
                Some(text) => drop(self.durable.insert(path, text)),
                None => drop(self.durable.remove(&path)),
            }
        }
        self.live = self.durable.clone();
    }
}

/// A disk besides the card.
#[derive(Clone, Debug, Default)]
pub struct Medium {
    pub disk: Disk,
    /// The GUID of its data partition, as it is and as it is on the medium.
    pub table: (Option<String>, Option<String>),
    pub born: (Option<String>, Option<String>),
    pub files: Option<Files>,
    /// How often its bytes were written.
    pub writes: usize,
    /// Whether a person gave up what is on it.
    pub given_up: bool,
    /// Whether it is plugged in.
    pub here: bool,
}

impl Medium {
    pub fn new(name: &str, proof: Proof) -> Self {
        let disk = Disk {
            name: name.into(),
            transport: "nvme".into(),
            size: 256 << 30,
            serial: format!("serial-{name}"),
            proof: Some(proof),
            ..Disk::default()
        };
        Self { disk, here: true, ..Self::default() }
    }

    pub fn data(name: &str, guid: &str, files: Files) -> Self {
        let guid = Some(guid.to_string());
        let table = (guid.clone(), guid);
        Self { born: table.clone(), table, files: Some(files), ..Self::new(name, Proof::Holds("ext4".into())) }
    }
}
