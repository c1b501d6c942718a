//! A machine whose plug is pulled after each of its effects in turn, and what has to come of it.

use crate::bench::{Bench, Mutation};
use bakelite_plan::disk::Proof;

/// Of each cut.
pub const ADVERSARIES: u64 = 200;
/// Of cuts during the recovery from a cut.
pub const NESTED: u64 = 8;

/// Plays a machine to its end, cut after so many effects, once or twice. What is wrong, if something is.
pub fn play(start: &Bench, wanted: &str, cuts: &[usize], seed: u64) -> Result<(), String> {
    let mut machine = Bench { seed: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, ..start.clone() };
    let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        for cut in cuts {
            machine.fuse = Some(*cut);
            if machine.boot().is_err() {
                machine.power_cut();
            }
        }
        machine.fuse = None;
        machine.run_to_end();
        // One more boot in order: what is only mended there counts as well.
        machine.power_cut();
        machine.run_to_end();
        machine
    }));
    let machine = played.map_err(|_| "it panicked".to_string())?;
    let got = machine.outcome();
    if got != wanted {
        return Err(format!("{got}\n   instead of {wanted}"));
    }
    let foreign =
        machine.media.iter().filter(|medium| medium.disk.proof != Some(Proof::Blank) && medium.files.is_none());
    if foreign.map(|medium| medium.writes).sum::<usize>() > 0 {
        return Err("a foreign disk was written".into());
    }
    Ok(())
}

/// How many effects it takes without a cut, and what comes of it.
pub fn uncut(start: &Bench) -> (usize, String) {
    let mut whole = Bench { mutation: None, ..start.clone() };
    whole.run_to_end();
    let effects = whole.effects;
    whole.power_cut();
    whole.run_to_end();
    (effects, whole.outcome())
}

pub fn every_cut(name: &str, start: &Bench) -> usize {
    cuts(name, start, ADVERSARIES, 1)
}

/// Every cut with so many adversaries, and each so-many-th again during the recovery.
pub fn cuts(name: &str, start: &Bench, adversaries: u64, stride: usize) -> usize {
    let (total, wanted) = uncut(start);
    let mut runs = 0;
    for cut in 0..=total {
        for seed in 1..=adversaries {
            play(start, &wanted, &[cut], seed)
                .unwrap_or_else(|error| panic!("{name}: cut at {cut}, adversary {seed}: {error}"));
            runs += 1;
        }
        for second in (cut % stride..=total).step_by(stride) {
            let seed = 1 + (cut as u64 * 31 + second as u64) % NESTED;
            play(start, &wanted, &[cut, second], seed)
                .unwrap_or_else(|error| panic!("{name}: cuts at {cut} and {second}, adversary {seed}: {error}"));
            runs += 1;
        }
    }
    eprintln!("{name}: {total} effects, {runs} runs with cuts, all end the same");
    total
}

/// How many of the cuts find something wrong.
pub fn killed(start: &Bench, mutation: Mutation) -> usize {
    std::panic::set_hook(Box::new(|_| {}));
    let start = Bench { mutation: Some(mutation), ..start.clone() };
    let (total, wanted) = uncut(&start);
    let found = (0..=total).filter(|cut| (1..=20).any(|seed| play(&start, &wanted, &[*cut], seed).is_err())).count();
    drop(std::panic::take_hook());
    found
}
