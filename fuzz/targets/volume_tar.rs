//! A volume's tar in a set: names that climb, links that lead elsewhere. Nothing appears outside the staging folder.

#![no_main]

use bakelite_datastore::volumes::{member, spread};
use bakelite_sys::{durable, names_in};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(folder) = tempfile::tempdir() else { return };
    let (staged, outside) = (folder.path().join("staged"), folder.path().join("outside"));
    let tar = staged.join(member("shop/till"));
    let made = [&outside, tar.parent().unwrap_or(&staged)].into_iter().try_for_each(durable::make_folder);
    if made.and_then(|()| durable::replace(&tar, data, 0o600)).is_err() {
        return;
    }
    let _ = spread(&staged);
    assert_eq!(names_in(&outside), [""; 0], "it went through a link");
    assert_eq!(names_in(folder.path()), ["outside", "staged"], "something came to lie outside");
    for name in names_in(staged.join("storage")) {
        assert!(name.starts_with("pvc-") && name.ends_with("_shop_till"), "{name} is another volume's");
    }
});
