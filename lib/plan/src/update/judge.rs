//! Whether a bundle fits this machine: each refusal says what is in the way, and what would do instead.

use crate::facts::Facts;
use crate::home::{INTENT, intent};
use crate::restore::{self, WORD};
use crate::{Settings, apps, cluster, home, update};
use bakelite_spec::board::Flow;
use bakelite_spec::bundle::{Base, Bundle};
use bakelite_spec::records::{Datastore, k3s_version};
use bakelite_spec::update::compare;
use std::cmp::Ordering;

/// Why a bundle isn't taken.
///
/// # Errors
/// The sentence for a person.
pub fn judge(bundle: &Bundle, facts: &Facts, settings: &Settings) -> Result<(), String> {
    if bundle.is_apps() { apps::judge(bundle, facts, settings) } else { system(bundle, facts, settings) }
}

fn system(bundle: &Bundle, facts: &Facts, settings: &Settings) -> Result<(), String> {
    let manifest = &settings.manifest;
    let version = version(settings);
    is_for_this(bundle, settings)?;
    if let Some(why) = no_way_back(facts, settings) {
        return Err(format!("{why}, and without a way back nothing is updated"));
    }
    if bundle.image == manifest.image {
        return Err(format!("image {} is what runs here", bundle.image));
    }
    let older = match compare(&bundle.version, version) {
        Ordering::Less => Some(format!("its version is {}, and {} runs here", words(&bundle.version), words(version))),
        Ordering::Equal if bundle.time < manifest.time => Some(format!(
            "its version is the same ({}), and its packages are older than those that run here",
            words(version)
        )),
        _ => None,
    };
    if let Some(older) = older {
        return Err(format!("it is older: {older}"));
    }
    limits(bundle, settings)?;
    payload(bundle, facts, settings)?;
    if let Some(base) = bundle.base.as_ref().filter(|base| base.image != manifest.image) {
        let runs = Base { image: manifest.image.clone(), version: version.into(), ..Base::default() };
        return Err(format!(
            "it is a delta against {}, and {} runs here; bring the whole bundle",
            base.words(),
            runs.words()
        ));
    }
    nothing_else_is_on(facts)
}

/// The appliance's version, as it runs here; empty where it has none.
fn version(settings: &Settings) -> &str {
    settings.appliance.image.version.as_deref().unwrap_or_default()
}

/// A version in words.
pub(crate) fn words(version: &str) -> &str {
    if version.is_empty() { "none" } else { version }
}

/// Whether a bundle is for this board and this kind of appliance.
pub(crate) fn is_for_this(bundle: &Bundle, settings: &Settings) -> Result<(), String> {
    let (board, name) = (&settings.manifest.board_name, settings.appliance.image.name.as_deref().unwrap_or_default());
    if bundle.board != *board {
        return Err(format!("it is for the board {}, and this is {board}", bundle.board));
    }
    if bundle.name != name {
        let words =
            |name: &str| if name.is_empty() { "an appliance without a name".into() } else { format!("`{name}`") };
        return Err(format!("it is of {}, and this machine is {} (`image.name`)", words(&bundle.name), words(name)));
    }
    Ok(())
}

/// Whether the system that runs is within the versions that a bundle is for.
pub(crate) fn limits(bundle: &Bundle, settings: &Settings) -> Result<(), String> {
    let version = version(settings);
    let what = if bundle.is_apps() { "goes upon" } else { "takes the place of" };
    if !bundle.after.is_empty() && compare(version, &bundle.after) == Ordering::Less {
        return Err(format!("it {what} {} and later, and {} runs here", bundle.after, words(version)));
    }
    if !bundle.until.is_empty() && compare(version, &bundle.until) == Ordering::Greater {
        return Err(format!("it {what} {} and earlier, and {} runs here", bundle.until, words(version)));
    }
    Ok(())
}

/// Whether no other act stands in the way, and what is written now is there after a restart.
pub(crate) fn nothing_else_is_on(facts: &Facts) -> Result<(), String> {
    if let Some(update) = update::of(facts) {
        return Err(format!("{} is still being tried; wait until that has ended", update.to.words()));
    }
    if let Some(tried) = apps::of(facts).tried() {
        return Err(format!("{} are still being tried; wait until that has ended", tried.words()));
    }
    if facts.has(INTENT) || intent(facts).is_some() {
        return Err("an act that changes the cluster's data isn't finished yet".into());
    }
    if facts.has(WORD) || restore::trial::on(facts).is_some() {
        return Err("a backup is being restored, or has yet to prove itself; wait until that has ended".into());
    }
    if facts.power_is_low {
        return Err("the supply's voltage was too low since the start, and what is written then may be lost; mend that and restart".into());
    }
    if facts.on_battery {
        return Err("the machine runs on its battery, which may end in the middle; it needs its power supply".into());
    }
    if home::of(facts).is_some_and(|home| home.moving.is_some()) {
        return Err("the cluster's data is moving between media; wait until that has ended".into());
    }
    if !facts.state_is_durable {
        return Err("there is no state partition to note it on, and so no way back".into());
    }
    Ok(())
}

/// Why nothing would bring back what runs, if another system were started and failed.
fn no_way_back(facts: &Facts, settings: &Settings) -> Option<String> {
    let board = &settings.manifest.board;
    if board.boot.flow == Flow::RaspberryPi && board.tries().is_none() {
        let package = &board.kernel.package;
        return Some(format!(
            "the kernel of {package} doesn't tell the firmware to try (`kernel.tryboot` of the board)"
        ));
    }
    let is_ours = board.tries().is_some() && facts.loader.is_some();
    (!is_ours).then(|| "what has started this machine counts no tries".into())
}

/// k3s goes forward by one minor at a time, never back (k3s.md 7).
fn payload(bundle: &Bundle, facts: &Facts, settings: &Settings) -> Result<(), String> {
    let payload = &settings.manifest.payload;
    let kind = serde_json::to_value(payload.kind).unwrap_or_default();
    let kind = kind.as_str().unwrap_or_default();
    let born = cluster::of(facts);
    if bundle.payload != kind && born.is_some() {
        return Err(format!("its payload is `{}`, and the cluster here runs with `{kind}`", bundle.payload));
    }
    let Some(born) = born else { return Ok(()) };
    let (Some(has), Some(comes)) = (k3s_version(&born.k3s), k3s_version(&bundle.k3s)) else { return Ok(()) };
    if comes < has {
        return Err(format!(
            "its k3s is {}, and the cluster ran with {} already: k3s never goes back",
            bundle.k3s, born.k3s
        ));
    }
    if comes[0] != has[0] || comes[1] > has[1] + 1 {
        return Err(format!(
            "its k3s is {}, and the cluster runs with {}: k3s goes forward by one minor version at a time; bring one with v{}.{} first",
            bundle.k3s,
            born.k3s,
            has[0],
            has[1] + 1
        ));
    }
    let is_elsewhere = matches!(born.datastore, Datastore::Etcd | Datastore::External);
    if is_elsewhere && comes[1] != has[1] {
        return Err("its k3s is of another minor version, and the cluster's data isn't in SQLite here: no backup of this machine's could bring it back".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Loader;
    use crate::testing::settings;
    use bakelite_spec::update::{PATH, Update};
    use serde_json::json;

    fn machine() -> (Facts, Settings) {
        let mut settings = settings(&json!({ "image": { "name": "till", "version": "1.4" } }));
        settings.manifest.image = "0".into();
        settings.manifest.time = 1_000;
        settings.manifest.board.boot.flow = Flow::Uefi;
        let born = r#"{"format":1,"epoch":0,"node":"shop-1","datastore":"sqlite","row":"r","revision":9,"k3s":"v1.36.2+k3s1"}"#;
        let files = [(cluster::ON_STATE.to_string(), born.to_string())].into();
        (Facts { state_is_durable: true, loader: Some(Loader::default()), files, ..Facts::default() }, settings)
    }

    fn bundle() -> Bundle {
        Bundle {
            name: "till".into(),
            version: "1.5".into(),
            image: "new".into(),
            time: 2_000,
            board: "qemu-x86_64".into(),
            payload: "official".into(),
            k3s: "v1.37.0+k3s1".into(),
            ..Bundle::default()
        }
    }

    #[test]
    fn a_bundle_fits_or_is_told_why_not() {
        let (facts, settings) = machine();
        assert_eq!(judge(&bundle(), &facts, &settings), Ok(()));
        for (bundle, why) in [
            (Bundle { board: "rpi4".into(), ..bundle() }, "for the board rpi4, and this is qemu-x86_64"),
            (Bundle { name: "kiosk".into(), ..bundle() }, "it is of `kiosk`, and this machine is `till`"),
            (Bundle { name: String::new(), ..bundle() }, "an appliance without a name"),
            (Bundle { image: "0".into(), ..bundle() }, "image 0 is what runs here"),
            (Bundle { version: "1.3.9".into(), ..bundle() }, "it is older: its version is 1.3.9, and 1.4 runs here"),
            (Bundle { version: String::new(), ..bundle() }, "it is older: its version is none"),
            (Bundle { version: "1.4.0".into(), time: 999, ..bundle() }, "its packages are older"),
            (Bundle { after: "1.4.1".into(), ..bundle() }, "takes the place of 1.4.1 and later"),
            (Bundle { until: "1.3".into(), ..bundle() }, "takes the place of 1.3 and earlier"),
            (Bundle { k3s: "v1.36.1+k3s1".into(), ..bundle() }, "k3s never goes back"),
            (Bundle { k3s: "v1.38.0+k3s1".into(), ..bundle() }, "bring one with v1.37 first"),
            (Bundle { payload: "rehearsal".into(), ..bundle() }, "its payload is `rehearsal`"),
        ] {
            let said = judge(&bundle, &facts, &settings).unwrap_err();
            assert!(said.contains(why), "{why}: {said}");
        }
        let same = Bundle { version: "1.4".into(), k3s: "v1.36.2+k3s1".into(), ..bundle() };
        assert_eq!(judge(&same, &facts, &settings), Ok(()), "the same version with newer packages");
    }

    #[test]
    fn a_delta_fits_only_what_it_is_against() {
        let (facts, settings) = machine();
        let against = |image: &str| {
            let base = Base { image: image.into(), version: "1.4".into(), ..Base::default() };
            Bundle { base: Some(base), ..bundle() }
        };
        assert_eq!(judge(&against("0"), &facts, &settings), Ok(()));
        let why = "it is a delta against 1.4 (image other), and 1.4 (image 0) runs here; bring the whole bundle";
        assert_eq!(judge(&against("other"), &facts, &settings), Err(why.into()));
        // What else is wrong with it would be so with the whole one, too.
        let older = Bundle { version: "1.3".into(), ..against("other") };
        assert!(judge(&older, &facts, &settings).unwrap_err().contains("it is older"));
    }

    #[test]
    fn a_machine_that_has_something_else_to_end_first_takes_none() {
        let (facts, settings) = machine();
        let update = Update { tries: 2, ..Update::default() };
        let mut busy = facts.clone();
        busy.files.insert(PATH.into(), json(&update));
        assert!(judge(&bundle(), &busy, &settings).unwrap_err().contains("still being tried"));
        let low = Facts { power_is_low: true, ..facts.clone() };
        assert!(judge(&bundle(), &low, &settings).unwrap_err().contains("voltage was too low"));
        let drained = Facts { on_battery: true, ..facts.clone() };
        assert!(judge(&bundle(), &drained, &settings).unwrap_err().contains("runs on its battery"));
        let mut asked = facts.clone();
        asked.files.insert(WORD.into(), "{}".into());
        assert!(judge(&bundle(), &asked, &settings).unwrap_err().contains("a backup is being restored"));
        let direct = Facts { loader: None, ..facts.clone() };
        assert!(judge(&bundle(), &direct, &settings).unwrap_err().contains("counts no tries"));
        let mut pi = settings.clone();
        pi.manifest.board.boot.flow = Flow::RaspberryPi;
        assert!(judge(&bundle(), &facts, &pi).unwrap_err().contains("doesn't tell the firmware to try"));
        pi.manifest.board.kernel.tryboot = true;
        assert_eq!(judge(&bundle(), &facts, &pi), Ok(()));
        let volatile = Facts { state_is_durable: false, ..facts.clone() };
        assert!(judge(&bundle(), &volatile, &settings).unwrap_err().contains("no state partition"));
        let mut etcd = facts;
        let born = etcd.files[cluster::ON_STATE].replace("sqlite", "etcd");
        etcd.files.insert(cluster::ON_STATE.into(), born);
        assert!(judge(&bundle(), &etcd, &settings).unwrap_err().contains("isn't in SQLite"));
    }

    fn json(update: &Update) -> String {
        serde_json::to_string(update).unwrap()
    }
}
