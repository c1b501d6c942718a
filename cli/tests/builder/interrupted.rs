//! Builds that are killed, at moments that nobody chose, and builds that get in each other's way.

use crate::bakery::{Bakery, Bench, PLAIN, bakery, full, good, put, sum_of};
use crate::disk_full::local_mirror;
use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Moments within a span, with the number that they come from.
struct Moments {
    state: u64,
    span: Duration,
}

impl Moments {
    fn new(span: Duration) -> Self {
        let state = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64 | 1;
        println!("moments from {state} within {span:?}");
        Self { state, span }
    }

    fn next(&mut self) -> Duration {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.span.mul_f64((self.state >> 11) as f64 / (1u64 << 53) as f64)
    }
}

/// Kills one build at a moment. Afterwards there is no image, or all of it, and no entry of the cache is half.
fn kill(bakery: &Bakery, bench: &Bench, mirror: &str, moment: Duration) {
    for path in [&bench.output, &bench.beside("bmap"), &bench.beside("spdx.json")] {
        let _ = fs::remove_file(path);
    }
    let mut child = bench.build(bakery).args(["--mirror", mirror]).spawn().unwrap();
    sleep(moment);
    child.kill().unwrap();
    let status = child.wait().unwrap();
    let done = bench.output.exists();
    println!("killed after {moment:?}: {status}, image {}", if done { "whole" } else { "absent" });
    if done {
        assert_eq!(sum_of(&bench.output), bakery.image, "killed after {moment:?}");
        assert!(bench.beside("bmap").exists() && bench.beside("spdx.json").exists(), "half a set");
    }
    // What was on its way into the cache is never read again; a later build removes it.
    let partial = bench.cache.join("partial");
    if partial.exists() {
        fs::remove_dir_all(partial).unwrap();
    }
    bench.cache_is_whole();
}

fn good_again(bakery: &Bakery, bench: &Bench, mirror: &str) {
    let _ = fs::remove_file(&bench.output);
    good(bench.build(bakery).args(["--mirror", mirror]));
    assert_eq!(sum_of(&bench.output), bakery.image);
    let left = fs::read_dir(bench.at("out")).unwrap().map(|entry| entry.unwrap().path());
    let partial: Vec<_> = left.filter(|path| path.extension().is_some_and(|ending| ending == "partial")).collect();
    assert!(partial.is_empty(), "{partial:?}");
    assert_eq!(
        fs::read_dir(bench.cache.join("work")).unwrap().count(),
        0,
        "a killed build's work folder is still there"
    );
    assert_eq!(fs::read_dir(&bench.temporary).unwrap().count(), 0, "something is left where temporary files go");
    bench.cache_is_whole();
}

#[test]
fn killed_in_mid_build() {
    let Some(bakery) = bakery() else { return };
    let bench = Bench::new(bakery, PLAIN);
    let started = Instant::now();
    good_again(bakery, &bench, "file:///nowhere");
    let mut moments = Moments::new(started.elapsed());
    for _ in 0..if full() { 40 } else { 3 } {
        kill(bakery, &bench, "file:///nowhere", moments.next());
        if full() {
            good_again(bakery, &bench, "file:///nowhere");
        }
    }
    good_again(bakery, &bench, "file:///nowhere");
}

#[test]
fn killed_while_the_cache_is_filled() {
    let Some(bakery) = bakery() else { return };
    let bench = Bench::empty(PLAIN);
    put(&bench.lock(), &bakery.lock);
    let mirror = local_mirror(bakery, &bench);
    let mut moments = Moments::new(Duration::from_millis(700));
    for _ in 0..if full() { 40 } else { 4 } {
        kill(bakery, &bench, &mirror, moments.next());
        if full() {
            fs::remove_dir_all(&bench.cache).unwrap();
        }
    }
    good_again(bakery, &bench, &mirror);
}

#[test]
fn two_builds_into_one_output() {
    let Some(bakery) = bakery() else { return };
    let bench = Bench::new(bakery, PLAIN);
    let start = || bench.build(bakery).args(["--offline", "--force"]).spawn().unwrap();
    let first = start();
    // The first has begun its image.
    let deadline = Instant::now() + Duration::from_secs(60);
    while !bench.at("out/shop.img.partial").exists() {
        assert!(Instant::now() < deadline, "the first build begins nothing");
        sleep(Duration::from_millis(20));
    }
    let second = start().wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains("another build is writing it"), "{said}");
    let first = first.wait_with_output().unwrap();
    assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
    assert_eq!(sum_of(&bench.output), bakery.image);
}
