//! The table against itself.

use super::*;

#[test]
fn each_key_has_its_section_a_meaning_and_a_default_that_is_json() {
    for table in [APPLIANCE, BOARD] {
        for key in table {
            assert!(key.meaning.ends_with('.'), "{}: the meaning is a sentence", key.path);
            assert!(key.default.is_empty() || serde_json::from_str::<Value>(key.default).is_ok(), "{}", key.path);
            if let Some((parent, _)) = key.path.rsplit_once('.') {
                let parent = parent.trim_end_matches("[]").trim_end_matches("{}");
                assert!(find(table, parent).is_some(), "{} stands in no section", key.path);
            }
            assert_eq!(table.iter().filter(|other| other.path == key.path).count(), 1, "{} twice", key.path);
        }
    }
}
