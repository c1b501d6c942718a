//! A move as firstboot makes it, by itself, for `scripts/bench firstboot`: copies a folder with sums, syncs, compares with
//! what the medium gives back; prints the seconds of both halves and its own largest memory.

use bakelite_sys::durable;
use bakelite_sys::tree::{Copier, Verifier};
use std::path::Path;
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [from, to] = &arguments[..] else { return Err("relocate FROM TO".into()) };
    let (from, to) = (Path::new(from), Path::new(to));
    let sums = to.with_extension("sums");
    let begun = Instant::now();
    let mut progress = |_| {};
    let mut copier = Copier::new(&|_| false, &mut progress, &sums)?;
    copier.copy(from, to)?;
    copier.finish()?;
    durable::sync_file_system(to)?;
    let copied = begun.elapsed().as_secs_f64();
    let differs = Verifier::new(&|_| false, &sums)?.differs(from, to)?;
    let all = begun.elapsed().as_secs_f64();
    if let Some(path) = differs {
        return Err(format!("{} differs", path.display()).into());
    }
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("?").trim();
    println!("{copied:.2} {all:.2} {peak}");
    Ok(())
}
