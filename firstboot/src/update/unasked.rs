//! What a machine does by itself about a bundle that a stick or an address brings: by what the bundle says of itself.
//!
//! What runs here already is no fault, and what was tried and went back isn't tried again unasked: it would go round for ever.

use bakelite_plan::facts::Facts;
use bakelite_plan::{Settings, apps};
use bakelite_spec::bundle::Bundle;
use bakelite_spec::update::{Ended, LAST};

/// Which bundles need no look: what runs or is laid over it, and what was tried and went back. By their images' ids.
#[derive(Debug, Default)]
pub struct Known {
    /// What runs.
    pub runs: Vec<String>,
    /// What was tried.
    pub went_back: Vec<String>,
}

/// What becomes of a bundle.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It runs here.
    Runs,
    /// Why it isn't taken.
    Refused(String),
    /// It would be taken.
    Fits,
}

impl Known {
    /// What is known of this machine.
    pub fn of(facts: &Facts, settings: &Settings) -> Self {
        let update = facts.file(LAST).and_then(|text| serde_json::from_str::<Ended>(text).ok());
        let update = update.filter(|ended| !ended.why.is_empty()).map(|ended| ended.to.image);
        let last = apps::last(facts).filter(|ended| !ended.why.is_empty()).map(|ended| ended.id);
        let record = apps::of(facts);
        let over = record.over(&settings.manifest).map(|apps| apps.id.clone());
        Self {
            runs: [settings.manifest.image.clone()].into_iter().chain(over).collect(),
            went_back: update.into_iter().chain(last).collect(),
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
        fits(bundle).map_or_else(Verdict::Refused, |()| Verdict::Fits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_or_went_back_needs_no_look() {
        let known = Known { runs: vec!["own".into()], went_back: vec!["bad".into()] };
        let judged = |image: &str| {
            let bundle = Bundle { image: image.into(), ..Bundle::default() };
            known.judge(&bundle, |bundle| if bundle.image == "odd" { Err("too new".into()) } else { Ok(()) })
        };
        assert_eq!((judged("own"), judged("new")), (Verdict::Runs, Verdict::Fits));
        assert_eq!(judged("odd"), Verdict::Refused("too new".into()));
        assert!(matches!(judged("bad"), Verdict::Refused(why) if why.contains("went back")));
    }
}
