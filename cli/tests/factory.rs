//! The factory as a program that is killed at random moments: no row twice, no identity twice, nothing lost. Fifty times with
//! BAKELITE_TEST_FULL=1, else ten.

#![expect(clippy::unwrap_used, reason = "a proof that can't go on has failed")]

use bakelite_flash::testing::{image, seed_on};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

const PORTS: usize = 6;
const ROWS: usize = 600;

#[expect(clippy::disallowed_methods, reason = "a test runs the program as a person would")]
fn bakelite(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bakelite"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

fn put(path: &Path, text: &str) {
    File::create(path).unwrap().write_all(text.as_bytes()).unwrap();
}

/// The medium that is in a port, if it boots: its hostname.
fn hostname(path: &Path) -> Option<String> {
    seed_on(path)?.settings["hostname"].as_str().map(String::from)
}

#[test]
fn killed_at_random_moments_it_gives_no_row_and_no_identity_twice() {
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { memory.into() } else { std::env::temp_dir() };
    let folder = tempfile::tempdir_in(place).unwrap();
    let at = |name: &str| folder.path().join(name);
    image(folder.path()).unwrap();
    let sum = bakelite_flash::factory::sha256(&at("shop.img")).unwrap();
    let rows: String = (1..=ROWS).map(|number| format!("{number},shop-{number}\n")).collect();
    put(&at("rows.csv"), &format!("row,hostname\n{rows}"));
    let names: Vec<String> = (1..=PORTS).map(|number| format!("file:card-{number}")).collect();
    let line = at("line.yaml").display().to_string();
    put(&at("line.yaml"), &format!("image: shop.img\nsha256: {sum}\nrows: rows.csv\nports: [{}]\n", names.join(", ")));
    let ports: Vec<PathBuf> = (1..=PORTS).map(|number| at(&format!("card-{number}"))).collect();
    ports.iter().for_each(|port| drop(File::create(port).unwrap()));
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);

    // From the first word on: before that a line reads and checks, and nothing is given to anybody.
    let run = || {
        let mut running = bakelite(&["--json", "factory", &line, "--once"]).spawn().unwrap();
        let mut said = BufReader::new(running.stdout.take().unwrap());
        let mut words = String::new();
        while said.read_line(&mut words).unwrap() > 0 && !words.contains("\"began\"") {}
        (running, said, Instant::now())
    };
    let (mut running, mut said, begun) = run();
    std::io::copy(&mut said, &mut std::io::sink()).unwrap();
    assert!(running.wait().unwrap().success());
    let whole = begun.elapsed();
    let kills = if std::env::var_os("BAKELITE_TEST_FULL").is_some_and(|value| value == "1") { 50 } else { 10 };
    let (mut taken, mut killed) = (BTreeSet::new(), 0);
    let ship = |taken: &mut BTreeSet<String>| {
        for (number, port) in (0..).zip(&ports) {
            // A medium that boots is taken out; one that doesn't stays, or another comes in its place.
            match hostname(port) {
                Some(name) => {
                    assert!(taken.insert(name.clone()), "{name} was given out twice");
                    std::fs::remove_file(port).unwrap();
                    File::create(port).unwrap();
                }
                None if number % 2 == 0 => {
                    std::fs::remove_file(port).unwrap();
                    File::create(port).unwrap();
                }
                None => {}
            }
        }
    };
    ship(&mut taken);
    while killed < kills {
        let (mut running, _said, _) = run();
        std::thread::sleep(whole.mul_f64(random.f64()));
        if running.try_wait().unwrap().is_none() {
            killed += 1;
        }
        running.kill().unwrap();
        running.wait().unwrap();
        ship(&mut taken);
    }
    println!("{killed} kills, {} media shipped", taken.len());
    let output = bakelite(&["factory", "record", &line, "--form", "csv"]).output().unwrap();
    let record = String::from_utf8(output.stdout).unwrap();
    let counts = |state: &str| record.lines().filter(|line| line.split(',').nth(4) == Some(state)).count();
    println!("written {}, lost {}, failed {}", counts("written"), counts("lost"), counts("failed"));
    let in_use: Vec<&str> = record
        .lines()
        .skip(1)
        .filter(|line| line.split(',').nth(4) != Some("failed"))
        .filter_map(|line| line.split(',').nth(1))
        .collect();
    assert_eq!(in_use.iter().collect::<BTreeSet<_>>().len(), in_use.len(), "a row was used twice");
    // What boots is in the record as written, or as what nobody can be sure of.
    for name in &taken {
        let known = record.lines().any(|line| {
            let fields: Vec<&str> = line.split(',').collect();
            fields[2] == name && ["written", "lost"].contains(&fields[4])
        });
        assert!(known, "{name} boots, and the record doesn't know");
    }
}
