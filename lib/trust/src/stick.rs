//! The stick's layout: a partition labelled `BAKELITE`, or any with a folder `bakelite-backup`.
//!
//! `sets/<node>/<number>-<UTC>.tar.zst.age`, `grants/<name>.json` with `.sig`, `bundles/<name>.bundle`, perhaps
//! `restore.yaml`; the same below the folder, if there is one. Names on a stick are somebody else's: only plain ones are
//! looked at.

use bakelite_spec::bundle::ENDING;
use bakelite_spec::set;

/// The label of a partition that is all ours.
pub const LABEL: &str = "BAKELITE";
/// The folder on a partition that is also used for other things.
pub const FOLDER: &str = "bakelite-backup";
/// The folder of sets, by node.
pub const SETS: &str = "sets";
/// The folder of grants.
pub const GRANTS: &str = "grants";
/// The folder of bundles.
pub const BUNDLES: &str = "bundles";
/// A person's word: which set takes the place of which cluster.
pub const WORD: &str = "restore.yaml";
/// At most so many sets of a node, and so many nodes and grants, are looked at: a stick is no reason to wait for ever.
pub const MOST: usize = 1_000;

/// Whether a folder of sets may be a node's: an RFC 1123 name.
pub fn is_node(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.';
    !name.is_empty() && name.len() <= 253 && name.bytes().all(plain) && !name.starts_with(['-', '.'])
}

/// Whether a file's name is a grant's.
pub fn is_grant(name: &str) -> bool {
    name.ends_with(".json") && !name.starts_with('.') && !name.contains('/')
}

/// Whether a file's name is a bundle's.
pub fn is_bundle(name: &str) -> bool {
    name.ends_with(ENDING) && !name.starts_with('.') && !name.contains('/')
}

/// The sets among a folder's files, the newest first.
pub fn newest_first(names: Vec<String>) -> Vec<String> {
    let mut sets: Vec<(u64, String)> = names.into_iter().filter_map(|name| Some((set::number(&name)?, name))).collect();
    sets.sort_by(|one, other| other.cmp(one));
    sets.into_iter().take(MOST).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_are_looked_at_and_the_newest_set_comes_first() {
        let names = ["00000002-20261121T165500Z.tar.zst.age", ".half", "00000010-20261121T165500Z.tar.zst", "x.tar"];
        let sorted = newest_first(names.map(String::from).to_vec());
        assert_eq!(sorted, ["00000010-20261121T165500Z.tar.zst", "00000002-20261121T165500Z.tar.zst.age"]);
        for node in ["shop-17", "a.b"] {
            assert!(is_node(node));
        }
        for other in ["", "..", ".hidden", "-x", "a/b", "Shop", "a b"] {
            assert!(!is_node(other), "{other}");
        }
        assert!(is_bundle("shop-1.4.bundle") && !is_bundle(".shop.bundle") && !is_bundle("shop.bundle.partial"));
        assert!(is_grant("shop.json") && !is_grant("shop.json.sig") && !is_grant(".x.json"));
    }
}
