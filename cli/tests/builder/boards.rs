//! Every board's image can be baked, and each rule of lint's is proved of it.

use crate::bakery::{Bench, bakery, command, end, full, good, link_tree, skip};

/// One for each partition table; the scenarios bake others, and BAKELITE_TEST_FULL=1 all of them.
const SOME: &[&str] = &["generic-x86_64", "rpi4"];

/// The words with which a build says that a mirror isn't of one piece for an architecture.
const IN_PIECES: &str = "--without-suite";

#[test]
fn each_boards_image_is_proved_by_lint() {
    let Some(bakery) = bakery() else { return };
    let listed = good(command(&bakery.program).args(["new", "--list"]));
    let boards: Vec<&str> = listed.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(boards.len() >= 5, "{listed}");
    // One cache for all: most of what two boards of an architecture are made of is the same.
    let shared = Bench::empty("");
    for part in ["sha256", "address"] {
        link_tree(&bakery.cache.join(part), &shared.cache.join(part));
    }
    for board in boards.into_iter().filter(|board| full() || SOME.contains(board)) {
        let bench = Bench { cache: shared.cache.clone(), ..Bench::empty(&format!("board: {board}\nk3s: none\n")) };
        let mut built = end(&mut bench.build(bakery));
        if built.code != Some(0) && built.said.contains("is missing from") {
            skip(&format!("{board}: {}", built.said.lines().last().unwrap_or_default()));
            continue;
        }
        if built.code != Some(0) && built.said.contains(IN_PIECES) {
            skip(&format!("{board} is made of Debian's main suite: the mirror is not of one piece for it"));
            let mut build = bench.build(bakery);
            built = end(build.args(["--without-suite", "security", "--without-suite", "updates"]));
        }
        assert_eq!(built.code, Some(0), "{board}: {}", built.said);
        let judged = good(command(&bakery.program).arg("lint").arg(&bench.output));
        assert!(judged.contains("rules, 0 failed, 0 could not be checked"), "{board}: {judged}");
    }
}
