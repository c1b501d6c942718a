//! Runs the chosen scenarios and counts how they went.
//!
//! What can't be run on this host is skipped with its reason, never silently; a scenario that failed leaves its log.

use crate::authority;
use crate::door;
use crate::list::{self, Choice};
use crate::player::Player;
use crate::releases;
use crate::scenario::Scenario;
use crate::times;
use anyhow::{Context, Result};
use bakelite_spec::board::Arch;
use bakelite_vm::Machine;
use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Lines of a failed scenario's log that are shown.
const SHOWN: usize = 40;
/// The key for ssh, beside the images; `prepare` makes it.
const KEY: &str = "ssh-key";
/// The key with which a controller fetches backups, beside it.
pub const PULL_KEY: &str = "pull-key";
/// The appliance that lets it.
const OPERATED: &str = "operated";
/// The appliance that trusts an authority of the scenarios' own.
const TRUSTING: &str = "updated";

/// Where things are.
pub struct Places {
    /// Images by the names of their appliances.
    pub image_dir: PathBuf,
    /// Logs of failed scenarios.
    pub logs: PathBuf,
}

/// Writes the appliances that the chosen scenarios need into a folder, with a key for ssh if one can be made.
pub fn prepare(choice: &Choice, folder: &Path) -> Result<bool> {
    // What makes the keys runs in the folder itself.
    let folder = &std::path::absolute(folder)?;
    std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    authority::make(folder)?;
    let (public, puller) = (public_key(folder, KEY)?, public_key(folder, PULL_KEY)?);
    let chosen = list::chosen(choice)?;
    let names = chosen.iter().flat_map(|(scenario, _)| scenario.appliances());
    let mut names: Vec<String> = names.map(String::from).collect();
    names.sort();
    names.dedup();
    for name in names {
        let source = door::root().join(format!("scripts/scenarios/appliances/{name}.yaml"));
        let mut text = std::fs::read_to_string(&source).with_context(|| format!("reading {}", source.display()))?;
        // Who runs the scenario says why it isn't there.
        let Ok(release) = releases::of(&name) else { continue };
        text.push_str(&releases::line(release)?);
        if !public.is_empty() {
            text.push_str(&format!("ssh: {{keys: [\"{}\"]}}\n", public.trim()));
        }
        if name == OPERATED && !puller.is_empty() {
            text.push_str(&format!("backup: {{pull: {{keys: [\"{}\"]}}}}\n", puller.trim()));
        }
        if name == TRUSTING {
            text.push_str(&format!("trust: [{}]\n", authority::CERTIFICATE));
        }
        let target = folder.join(format!("{name}.yaml"));
        let written = std::fs::File::create(&target).and_then(|mut file| file.write_all(text.as_bytes()));
        written.with_context(|| format!("writing {}", target.display()))?;
        println!("{name}");
    }
    Ok(true)
}

/// The public half of a key in a folder, made if it isn't there; empty where none can be made.
fn public_key(folder: &Path, name: &str) -> Result<String> {
    let key = folder.join(name);
    if door::find("ssh-keygen").is_some() && !key.is_file() {
        let path = key.display().to_string();
        door::run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-C", name, "-f", &path], folder)?;
    }
    Ok(std::fs::read_to_string(key.with_extension("pub")).unwrap_or_default())
}

/// Runs the chosen scenarios, some at a time; whether none failed.
pub fn run(choice: &Choice, places: &Places, seed: u64, jobs: usize) -> Result<bool> {
    let chosen = list::chosen(choice)?;
    let (mut skipped, mut work) = (0, VecDeque::new());
    let mut of_arm: BTreeMap<&str, bool> = BTreeMap::new();
    for (scenario, runs) in &chosen {
        if let Some(why) = cannot_run(scenario, places) {
            println!("SKIP {}: {why}", scenario.name);
            skipped += 1;
        } else {
            let on_arm = || Machine::new(image_of(scenario, places)).arch().is_ok_and(|arch| arch != Arch::X86_64);
            of_arm.entry(&scenario.appliance).or_insert_with(on_arm);
            work.extend((1..=*runs).map(|number| (scenario, number, *runs)));
        }
    }
    let (work, passed, failed) = (Mutex::new(work), AtomicUsize::new(0), AtomicUsize::new(0));
    let (beginning, spans) = (Instant::now(), Mutex::new(Vec::new()));
    let next = || work.lock().ok().and_then(|mut work| work.pop_front());
    // A machine dies with the thread that started it; each of these outlives the machines of its scenarios.
    std::thread::scope(|threads| {
        for _ in 0..jobs.max(1) {
            threads.spawn(|| {
                while let Some((scenario, number, runs)) = next() {
                    let name =
                        if runs > 1 { format!("{} {number}/{runs}", scenario.name) } else { scenario.name.clone() };
                    let begun = Instant::now();
                    let played =
                        play(scenario, &name, places, seed.wrapping_mul(1_000_003).wrapping_add(u64::from(number)));
                    if of_arm[scenario.appliance.as_str()] {
                        let span = (begun - beginning, beginning.elapsed());
                        spans.lock().unwrap_or_else(PoisonError::into_inner).push(span);
                    }
                    match played {
                        Ok(()) => {
                            println!("PASS {name} ({:.1} s)", begun.elapsed().as_secs_f64());
                            passed.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(words) => {
                            println!("{words}");
                            failed.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    let (passed, failed) = (passed.into_inner(), failed.into_inner());
    if let Some(words) = times::of_arm(&spans.into_inner().unwrap_or_else(PoisonError::into_inner)) {
        println!("{words}");
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    Ok(failed == 0)
}

fn image_of(scenario: &Scenario, places: &Places) -> PathBuf {
    places.image_dir.join(format!("{}.img", scenario.appliance))
}

/// Why a scenario can't be run on this host, if it can't.
fn cannot_run(scenario: &Scenario, places: &Places) -> Option<String> {
    let missing = |program: &str, package: &str| {
        door::find(program).is_none().then(|| format!("there is no {program}; Debian has it in {package}"))
    };
    if let Some(why) = scenario.appliances().find_map(|name| releases::of(name).err()) {
        return Some(why);
    }
    let images = scenario.appliances().map(|name| places.image_dir.join(format!("{name}.img")));
    if let Some(image) = images.into_iter().find(|image| !image.is_file()) {
        return Some(format!("there is no {}", image.display()));
    }
    let image = image_of(scenario, places);
    let missing_here = Machine::new(&image).missing(scenario.firmwares().collect::<Vec<_>>().as_slice());
    missing_here
        .map(|error| error.to_string())
        .or_else(|| scenario.needs_debugfs().then(|| missing("debugfs", "e2fsprogs")).flatten())
        .or_else(|| scenario.needs_ssh().then(|| missing("ssh", "openssh-client")).flatten())
        .or_else(|| {
            let no_key = scenario.needs_ssh() && !places.image_dir.join(KEY).is_file();
            no_key.then(|| "the images were baked without a key for ssh".into())
        })
}

/// Plays a scenario once; the error is all that is to be said of it, with the end of its log.
fn play(scenario: &Scenario, name: &str, places: &Places, seed: u64) -> Result<(), String> {
    let image = image_of(scenario, places);
    let key = places.image_dir.join(KEY);
    let played = std::path::absolute(key).map_err(anyhow::Error::from).and_then(|key| {
        let mut player = Player::new(scenario, &image, &key, seed)?;
        let played = player.play();
        Ok((played, player.log()))
    });
    let (error, log) = match played {
        Ok((Ok(()), _)) => return Ok(()),
        Ok((Err(error), log)) => (error, log),
        Err(error) => (error, String::new()),
    };
    let path = places.logs.join(format!("{}.log", name.replace([' ', '/'], "-")));
    let kept = std::fs::create_dir_all(&places.logs)
        .and_then(|()| std::fs::File::create(&path))
        .and_then(|mut file| file.write_all(log.as_bytes()));
    let place = match kept {
        Ok(()) => path.display().to_string(),
        Err(error) => format!("{}, which could not be kept: {error}", path.display()),
    };
    let lines: Vec<&str> = log.lines().collect();
    let end: String = lines[lines.len().saturating_sub(SHOWN)..].iter().map(|line| format!("\n  | {line}")).collect();
    Err(format!("FAIL {name}: {error:#}\n  seed {seed}; the end of {place}:{end}"))
}
