//! A system's way into its slot as firstboot writes it, by itself, for `scripts/bench update`: a file is read as a stick's would be,
//! hashed and written onto a device, and read back; prints the seconds of both halves and its own largest memory.

use bakelite_spec::hexadecimal::hexadecimal;
use bakelite_sys::onto;
use std::fs::File;
use std::path::Path;
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [from, to] = &arguments[..] else { return Err("slot FILE DEVICE".into()) };
    let to = Path::new(to);
    let begun = Instant::now();
    let (length, sum) = onto::put(to, from, File::open(from)?)?;
    let written = begun.elapsed().as_secs_f64();
    let back = onto::back(to, length)?;
    let all = begun.elapsed().as_secs_f64();
    if back != hexadecimal(sum) {
        return Err(format!("{} gives something else back", to.display()).into());
    }
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("?").trim();
    println!("{written:.2} {:.2} {peak}", all - written);
    Ok(())
}
