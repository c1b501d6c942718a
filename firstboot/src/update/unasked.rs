//! What a machine does by itself about a bundle that a stick or an address brings: by what the bundle says of itself.
//!
//! What runs here already is no fault, and what was tried and went back isn't tried again unasked: it would go round for ever. Nor is
//! what has failed while it was written, but for what the plan's `again` gives it.

use bakelite_plan::facts::Facts;
use bakelite_plan::update::again::Memory;
use bakelite_plan::{Settings, apps};
use bakelite_spec::bundle::Bundle;
use bakelite_spec::update::{Ended, LAST};
use bakelite_trust::bundle;

/// Which bundles need no look: what runs or is laid over it, and what was tried. By their images' ids.
#[derive(Debug, Default)]
pub struct Known {
    /// What runs.
    pub runs: Vec<String>,
    /// What was tried and went back.
    pub went_back: Vec<String>,
    /// What was tried and not taken.
    pub memory: Memory,
}

/// What becomes of a bundle.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It runs here.
    Runs,
    /// Why it isn't taken.
    Refused(String),
    /// It would be, but it has failed before, for this reason.
    Failed(String),
    /// It would be taken.
    Fits,
}

impl Known {
    /// What is known of this machine; `is_plugged` says whether what brings bundles was plugged in just now.
    pub fn of(facts: &Facts, settings: &Settings, is_plugged: bool) -> Self {
        let update = facts.file(LAST).and_then(|text| serde_json::from_str::<Ended>(text).ok());
        let update = update.filter(|ended| !ended.why.is_empty()).map(|ended| ended.to.image);
        let last = apps::last(facts).filter(|ended| !ended.why.is_empty()).map(|ended| ended.id);
        let record = apps::of(facts);
        let over = record.over(&settings.manifest).map(|apps| apps.id.clone());
        Self {
            runs: [settings.manifest.image.clone()].into_iter().chain(over).collect(),
            went_back: update.into_iter().chain(last).collect(),
            memory: Memory::of(facts, settings, is_plugged),
        }
    }

    /// What becomes of a bundle, where `fits` says what else is in its way.
    pub fn judge(&self, bundle: &Bundle, fits: impl Fn(&Bundle) -> Result<(), String>) -> Verdict {
        if self.runs.contains(&bundle.image) {
            return Verdict::Runs;
        }
        if self.went_back.contains(&bundle.image) {
            return Verdict::Refused("it was tried and went back; `bakelite update` tries it once more".into());
        }
        if let Err(why) = fits(bundle) {
            return Verdict::Refused(why);
        }
        let withheld = self.memory.withholds(&bundle.image, &bundle::digest(bundle));
        withheld.map_or(Verdict::Fits, Verdict::Failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bakelite_spec::tried::{End, Tried};

    #[test]
    fn what_runs_or_went_back_needs_no_look() {
        let failed = Bundle { image: "torn".into(), ..Bundle::default() };
        let mut memory = Memory::default();
        memory.tried.note(Tried {
            end: End::Failed,
            why: "it was cut off".into(),
            ..memory.begin("torn", &bundle::digest(&failed), failed.words())
        });
        let known = Known { runs: vec!["own".into()], went_back: vec!["bad".into()], memory };
        let judged = |image: &str| {
            let bundle = Bundle { image: image.into(), ..Bundle::default() };
            known.judge(&bundle, |bundle| if bundle.image == "odd" { Err("too new".into()) } else { Ok(()) })
        };
        assert_eq!((judged("own"), judged("new")), (Verdict::Runs, Verdict::Fits));
        assert!(matches!(judged("torn"), Verdict::Failed(why) if why.starts_with("it was cut off; ")));
        assert_eq!(judged("odd"), Verdict::Refused("too new".into()));
        assert!(matches!(judged("bad"), Verdict::Refused(why) if why.contains("went back")));
    }
}
