//! Attempts: when a step is not tried again (law 10). After three faults of one step comes safe mode: network, ssh and the
//! screen are up, k3s isn't started, and a person is told.
//!
//! What counts is a fault that an act returned, and an act that never returned and came no further than the time before:
//! the machine died of it. So it is noted before acts that are done once in a machine's life, and before any act of a step
//! that has failed. A boot gives one fresh try, unless the last try ended the boot before it.

use crate::Settings;
use crate::action::Action;
use crate::facts::Facts;
use crate::step::{Decision, Step};
use bakelite_spec::attempts::{Attempts, Begun, LIMIT, PATH, Tries};
use bakelite_spec::fault::{Code, Fault};
use std::hash::{DefaultHasher, Hash, Hasher};

/// What lets an operator in is tried for ever.
const ALWAYS: &[&str] = &["settings", "firewall"];
/// k3s doesn't need these.
const MINOR: &[&str] = &["seed", "apps", "latency", "cmdline", "written", "born"];

/// The record.
pub fn of(facts: &Facts) -> Attempts {
    facts.file(PATH).map_or_else(Attempts::default, Attempts::read)
}

/// What a step decides, or that it isn't tried any more.
pub fn decide(step: &Step, facts: &Facts, settings: &Settings) -> Decision {
    withheld(facts, settings, step.name).unwrap_or_else(|| (step.decide)(facts, settings))
}

fn withheld(facts: &Facts, settings: &Settings, step: &str) -> Option<Decision> {
    if ALWAYS.contains(&step) {
        return None;
    }
    let attempts = of(facts);
    attempts.withheld(step, &facts.boot, &mark_of_facts(facts, settings)).map(|tries| safe_mode(step, tries))
}

/// What has to be noted before a step's actions are done. `Err` is what is noted where they must not be done: the last try
/// ended its boot, and came no further.
///
/// # Errors
/// The record with one more fault; [`decide`] then says whether the step is tried.
pub fn begin(
    facts: &Facts,
    settings: &Settings,
    step: &str,
    why: &str,
    actions: &[Action],
) -> Result<Option<Action>, Action> {
    let mut attempts = of(facts);
    let begun = Begun { step: step.into(), boot: facts.boot.clone(), mark: mark(facts, why) };
    let earlier = attempts.begun.as_ref().filter(|earlier| earlier.step == step && earlier.boot != facts.boot);
    if earlier.is_some_and(|earlier| earlier.mark == begun.mark) {
        let text = format!("the machine went down while this was done, and nothing had come of it: {why}");
        attempts.fail(step, &facts.boot, &mark_of_facts(facts, settings), &text);
        return Err(write(&attempts));
    }
    let failed = attempts.steps.contains_key(step);
    if !failed && earlier.is_none() && !actions.iter().any(Action::is_once_in_a_life) {
        return Ok(None);
    }
    if attempts.begun.as_ref() == Some(&begun) {
        return Ok(None);
    }
    attempts.begun = Some(begun);
    Ok(Some(write(&attempts)))
}

/// What has to be noted when a step wants nothing more.
pub fn end(facts: &Facts, step: &str) -> Option<Action> {
    let mut attempts = of(facts);
    let begun = attempts.begun.take_if(|begun| begun.step == step);
    let failed = attempts.steps.remove(step);
    (begun.is_some() || failed.is_some()).then(|| write(&attempts))
}

/// What has to be noted when an action of a step has failed, and the decision where it was the last try.
pub fn fail(facts: &Facts, settings: &Settings, step: &str, error: &str) -> (Action, Option<Decision>) {
    let mut attempts = of(facts);
    attempts.fail(step, &facts.boot, &mark_of_facts(facts, settings), error);
    let last = attempts.steps.get(step).filter(|tries| tries.faults >= LIMIT && !ALWAYS.contains(&step));
    (write(&attempts), last.map(|tries| safe_mode(step, tries)))
}

fn write(attempts: &Attempts) -> Action {
    if attempts.is_empty() {
        return Action::Remove { path: PATH.into() };
    }
    Action::Publish { path: PATH.into(), text: attempts.text(), mode: 0o600 }
}

fn safe_mode(step: &str, tries: &Tries) -> Decision {
    let fault = Fault::new(Code::SafeMode, format!("`{step}` has failed {} times: {}", tries.faults, tries.text));
    if MINOR.contains(&step) { Decision::Without(fault) } else { Decision::Refuse(fault) }
}

/// How far things are: another sentence or less room mean that the last try did something.
fn mark(facts: &Facts, why: &str) -> String {
    format!("{why} ({} bytes free)", facts.free_on_disk)
}

/// What tells these facts from those of another try: the disks, the secrets, the settings and the image.
fn mark_of_facts(facts: &Facts, settings: &Settings) -> String {
    let mut disks: Vec<_> = facts.disks.iter().map(|disk| (disk.key(), disk.size, disk.read_only)).collect();
    disks.sort();
    let mut secrets: Vec<_> =
        facts.present.iter().filter(|path| path.starts_with(bakelite_spec::secret::FOLDER)).collect();
    secrets.sort();
    let mut hasher = DefaultHasher::new();
    (disks, secrets, &settings.manifest.image, serde_json::to_string(&settings.appliance).ok()).hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::settings;
    use serde_json::json;

    const WHY: &str = "a disk becomes the data disk";

    fn noted(facts: &mut Facts, action: Option<Action>) {
        match action {
            Some(Action::Publish { path, text, .. }) => drop(facts.files.insert(path, text)),
            Some(Action::Remove { path }) => drop(facts.files.remove(&path)),
            Some(other) => panic!("{other:?}"),
            None => {}
        }
    }

    fn machine() -> Facts {
        Facts { boot: "boot1".into(), ..Facts::default() }
    }

    #[test]
    fn the_third_fault_is_safe_mode_and_a_finished_step_forgets_its_faults() {
        let (mut facts, settings) = (machine(), settings(&json!({})));
        for count in 1..=3 {
            assert_eq!(withheld(&facts, &settings, "home"), None);
            let (action, fault) = fail(&facts, &settings, "home", "no room");
            noted(&mut facts, Some(action));
            assert_eq!(fault.is_some(), count == 3);
        }
        let Some(Decision::Refuse(fault)) = withheld(&facts, &settings, "home") else { panic!("tried again") };
        assert_eq!((fault.code, fault.text.as_str()), (Code::SafeMode, "`home` has failed 3 times: no room"));
        let other = crate::testing::settings(&json!({ "network": { "wait": 3 } }));
        assert_eq!(withheld(&facts, &other, "home"), None, "with other settings it is tried");
        let action = end(&facts, "home");
        noted(&mut facts, action);
        assert!(facts.files.is_empty());
        assert_eq!(end(&facts, "home"), None, "nothing is written without need");
    }

    #[test]
    fn the_forecast_says_what_is_not_tried() {
        let (mut facts, settings) = (machine(), settings(&json!({})));
        facts.state_is_durable = true;
        for _ in 0..3 {
            let (action, _) = fail(&facts, &settings, "identity", "no room");
            noted(&mut facts, Some(action));
        }
        let text = crate::forecast::text(&facts, &settings);
        assert!(text.contains("identity    refuse   `identity` has failed 3 times: no room\n"), "{text}");
        assert!(text.contains("bakelite retry") && text.contains("settings    run"), "{text}");
        assert!(text.ends_with("k3s isn't started before that.\n"), "{text}");
    }

    #[test]
    fn what_lets_an_operator_in_is_tried_for_ever_and_what_k3s_does_not_need_is_left_out() {
        let (mut facts, settings) = (machine(), settings(&json!({})));
        for step in ["settings", "firewall", "latency"] {
            for _ in 0..5 {
                let (action, _) = fail(&facts, &settings, step, "no");
                noted(&mut facts, Some(action));
            }
        }
        assert_eq!(withheld(&facts, &settings, "settings"), None);
        assert_eq!(withheld(&facts, &settings, "firewall"), None);
        assert!(matches!(withheld(&facts, &settings, "latency"), Some(Decision::Without(_))));
    }

    #[test]
    fn an_act_that_ends_the_boot_counts_unless_it_came_further() {
        let (mut facts, settings) = (machine(), settings(&json!({})));
        let acts = [Action::Claim { disk: "s1".into() }];
        for boot in 1..=3 {
            facts.boot = format!("boot{boot}");
            match begin(&facts, &settings, "data-disk", WHY, &acts) {
                Err(counted) => noted(&mut facts, Some(counted)),
                Ok(_) => assert_eq!(boot, 1),
            }
            let action = begin(&facts, &settings, "data-disk", WHY, &acts).unwrap();
            assert!(action.is_some());
            noted(&mut facts, action);
            assert_eq!(begin(&facts, &settings, "data-disk", WHY, &acts), Ok(None), "noted once");
            // Here the machine dies.
        }
        facts.boot = "boot4".into();
        let counted = begin(&facts, &settings, "data-disk", WHY, &acts).unwrap_err();
        noted(&mut facts, Some(counted));
        assert!(withheld(&facts, &settings, "data-disk").is_some(), "this boot stays up");
        facts.boot = "boot5".into();
        assert_eq!(withheld(&facts, &settings, "data-disk"), None, "the next one tries");
        let action = begin(&facts, &settings, "data-disk", WHY, &acts).unwrap();
        noted(&mut facts, action);
        facts.boot = "boot6".into();
        facts.free_on_disk = 1;
        assert!(begin(&facts, &settings, "data-disk", WHY, &acts).is_ok(), "it came further");
    }

    #[test]
    fn an_ordinary_act_is_not_noted_before_it_has_failed() {
        let (mut facts, settings) = (machine(), settings(&json!({})));
        let acts = [Action::Sync { path: "/".into() }];
        assert_eq!(begin(&facts, &settings, "payload", WHY, &acts), Ok(None));
        let (action, _) = fail(&facts, &settings, "payload", "no");
        noted(&mut facts, Some(action));
        assert!(matches!(begin(&facts, &settings, "payload", WHY, &acts), Ok(Some(_))));
    }
}
