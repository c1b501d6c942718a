//! Rules for what a person adds: where files may go, which names units may have, what must not be written out.
//!
//! Unlike the rules above, each of these can find several things, one for each entry.

use crate::appliance::{Appliance, Payload};
use crate::finding::Finding;
use std::collections::BTreeSet;

/// Folders whose content isn't the image's: what lies there, and what to do instead.
const NOT_IN_THE_IMAGE: &[(&str, &str, &str)] = &[
    ("/boot", "the boot partition", "leaving it out"),
    ("/data", "the data disk or the state partition", "a place below /etc or /usr/local"),
    ("/dev", "the kernel's", "leaving it out"),
    ("/disk", "a mount point", "a place below /etc or /usr/local"),
    ("/etc/rancher", "the state partition", "`k3s.config` or `registries`, which write the files in it"),
    ("/mnt", "a mount point", "a place below /etc or /usr/local"),
    ("/opt", "the data disk or the state partition", "a place below /etc or /usr/local"),
    ("/proc", "the kernel's", "leaving it out"),
    ("/run", "empty at each start", "a place below /etc or /usr/local"),
    ("/srv", "the data disk or the state partition", "a place below /etc or /usr/local"),
    ("/state", "the state partition", "a place below /etc or /usr/local"),
    ("/sys", "the kernel's", "leaving it out"),
    ("/tmp", "empty at each start", "a place below /etc or /usr/local"),
    ("/var", "empty at each start, or the state partition", "a place below /etc or /usr/local"),
];

/// What belongs to Bakelite, folders with all below them, and the key to use instead.
const OURS: &[(&str, &str)] = &[
    ("/bin", "a place below /usr/bin"),
    ("/etc/dropbear", "leaving it out: the machine makes its own keys"),
    ("/etc/group", "a number for `group`"),
    ("/etc/hostname", "`hostname`"),
    ("/etc/hosts", "leaving it out: the machine writes it at each start"),
    ("/etc/machine-id", "leaving it out: each machine makes its own"),
    ("/etc/mtab", "leaving it out"),
    ("/etc/nsswitch.conf", "leaving it out"),
    ("/etc/os-release", "leaving it out"),
    ("/etc/passwd", "a number for `owner`"),
    ("/etc/profile", "leaving it out"),
    ("/etc/resolv.conf", "`network.dns`"),
    ("/etc/shadow", "`ssh.keys`: nobody logs in with a password"),
    ("/etc/shells", "leaving it out"),
    ("/etc/ssl/certs/ca-certificates.crt", "`trust`"),
    ("/init", "`units`"),
    ("/lib", "a place below /usr/lib"),
    ("/lib64", "a place below /usr/lib64"),
    ("/root/.ssh/authorized_keys", "`ssh.keys`"),
    ("/sbin", "a place below /usr/sbin"),
    ("/usr/lib/bakelite", "a place below /usr/local"),
    ("/usr/lib/modules", "`modules`"),
];

/// Names of init's own units.
pub const UNITS: &[&str] =
    &["early", "network", "time", "ssh", "shell", "wifi", "settle", "k3s", "rehearsal", "born", "upkeep", "keeper"];

/// All findings.
pub fn findings(appliance: &Appliance) -> Vec<Finding> {
    let mut found = files(appliance);
    found.extend(units(appliance));
    found.extend(secrets(appliance));
    found.extend(without_k3s(appliance));
    found.extend(repositories(appliance));
    found
}

fn is_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn files(appliance: &Appliance) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for (number, file) in appliance.files.iter().enumerate() {
        let key = |name: &str| format!("files[{number}].{name}");
        if file.from.is_some() == file.text.is_some() {
            let problem = "has to have its content in one way";
            found.push(Finding::error(format!("files[{number}]"), problem, "either `from` or `text`"));
        }
        if let Some((_, whose, hint)) = NOT_IN_THE_IMAGE.iter().find(|(folder, ..)| is_below(&file.to, folder)) {
            found.push(Finding::error(key("to"), format!("{} is not in the image: it is {whose}", file.to), *hint));
        } else if let Some((_, hint)) = OURS.iter().find(|(path, _)| is_below(&file.to, path)) {
            found.push(Finding::error(key("to"), format!("{} belongs to Bakelite", file.to), *hint));
        }
        if !seen.insert(&file.to) {
            found.push(Finding::error(
                key("to"),
                format!("{} is there twice", file.to),
                "another place for one of them",
            ));
        }
    }
    found
}

fn units(appliance: &Appliance) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut seen: BTreeSet<&str> = UNITS.iter().copied().collect();
    for (number, unit) in appliance.units.iter().enumerate() {
        let key = |name: &str| format!("units[{number}].{name}");
        if !seen.insert(&unit.name) {
            let problem = format!("`{}` is another unit's name", unit.name);
            found.push(Finding::error(key("name"), problem, "a name that tells what it is for"));
        }
        match unit.command.first() {
            Some(program) if program.starts_with('/') => {}
            Some(program) => {
                let problem = format!("`{program}` is not an absolute path");
                found.push(Finding::error(
                    key("command"),
                    problem,
                    "the program's whole path, such as `/usr/bin/till`",
                ));
            }
            None => found.push(Finding::error(key("command"), "is empty", "`[/usr/bin/till]`")),
        }
        for after in &unit.after {
            let is_known = UNITS.contains(&after.as_str()) || appliance.units.iter().any(|other| other.name == *after);
            if !is_known || *after == unit.name {
                let names = UNITS.iter().copied().chain(appliance.units.iter().map(|unit| unit.name.as_str()));
                let hint = crate::finding::nearest(after, names).unwrap_or("early");
                found.push(Finding::error(
                    key("after"),
                    format!("there is no unit `{after}` to wait for"),
                    format!("`{hint}`"),
                ));
            }
        }
    }
    if let Some(name) = ring(appliance) {
        let problem = format!("`{name}` waits for itself by way of others");
        found.push(Finding::error("units", problem, "taking one of the names out of `after`"));
    }
    found
}

/// A unit that comes after itself.
fn ring(appliance: &Appliance) -> Option<&str> {
    let after = |name: &str| appliance.units.iter().find(|unit| unit.name == name).map(|unit| &unit.after);
    appliance.units.iter().map(|unit| unit.name.as_str()).find(|start| {
        let (mut open, mut seen) = (vec![*start], BTreeSet::new());
        while let Some(name) = open.pop() {
            for before in after(name).into_iter().flatten() {
                if before == start {
                    return true;
                }
                if seen.insert(before.as_str()) {
                    open.push(before);
                }
            }
        }
        false
    })
}

fn secrets(appliance: &Appliance) -> Vec<Finding> {
    let mut found = Vec::new();
    for (number, unit) in appliance.units.iter().enumerate() {
        let telling = ["PASSWORD", "PASSWD", "SECRET", "TOKEN", "PRIVATE_KEY", "API_KEY", "APIKEY", "CREDENTIAL"];
        for (name, value) in &unit.environment {
            let name_tells = telling.iter().any(|word| name.to_uppercase().contains(word)) && !name.ends_with("_FILE");
            if name_tells && !value.is_empty() || crate::secret::count(value) > 0 {
                found.push(Finding::error(
                    format!("units[{number}].environment"),
                    format!("`{name}` looks like a secret, and an environment is written into the image"),
                    "a file in `files` with `{secret: NAME}` in it, and its path in the environment",
                ));
            }
        }
    }
    found
}

fn without_k3s(appliance: &Appliance) -> Vec<Finding> {
    if appliance.k3s.payload != Payload::None {
        return Vec::new();
    }
    let keys = [
        ("images", appliance.images.is_empty()),
        ("manifests", appliance.manifests.is_empty()),
        ("charts", appliance.charts.is_empty()),
        ("registries", appliance.registries.is_empty()),
    ];
    let used = keys.into_iter().filter(|(_, is_empty)| !is_empty);
    used.map(|(key, _)| Finding::error(key, "is of no use without k3s", "leaving `k3s: none` out")).collect()
}

fn repositories(appliance: &Appliance) -> Vec<Finding> {
    let mut seen = BTreeSet::from(["debian", "security"]);
    let mut found = Vec::new();
    for (number, repository) in appliance.repositories.iter().enumerate() {
        if !seen.insert(&repository.name) {
            let problem = format!("`{}` is another repository's name", repository.name);
            found.push(Finding::error(format!("repositories[{number}].name"), problem, "another name"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{APPLIANCE, defaults};
    use serde_json::{Value, json};

    fn lines(changes: Value) -> Vec<String> {
        let mut values = defaults(APPLIANCE);
        values["board"] = "qemu-x86_64".into();
        for (key, value) in changes.as_object().unwrap() {
            match value.as_object().filter(|_| key == "k3s") {
                Some(section) => section.iter().for_each(|(name, value)| values[key][name] = value.clone()),
                None => values[key] = value.clone(),
            }
        }
        findings(&Appliance::from_values(&values).unwrap()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn files_go_only_where_the_image_holds_them() {
        let file = |to: &str| json!({ "text": "x", "to": to });
        let found = lines(json!({ "files": [
            file("/etc/shop.conf"), file("/run/x"), file("/etc/passwd"), file("/opt/shop/x"), file("/etc/rancher/k3s/registries.yaml"),
            file("/usr/lib/bakelite/x"), file("/root/.ssh/authorized_keys"), file("/etc/shop.conf"), { "to": "/etc/y" },
            file("/variable/x"), file("/bin/x"),
        ] }));
        assert_eq!(
            found,
            [
                "files[1].to: /run/x is not in the image: it is empty at each start; try a place below /etc or /usr/local",
                "files[2].to: /etc/passwd belongs to Bakelite; try a number for `owner`",
                "files[3].to: /opt/shop/x is not in the image: it is the data disk or the state partition; try a place below /etc or /usr/local",
                "files[4].to: /etc/rancher/k3s/registries.yaml is not in the image: it is the state partition; try `k3s.config` or `registries`, which write the files in it",
                "files[5].to: /usr/lib/bakelite/x belongs to Bakelite; try a place below /usr/local",
                "files[6].to: /root/.ssh/authorized_keys belongs to Bakelite; try `ssh.keys`",
                "files[7].to: /etc/shop.conf is there twice; try another place for one of them",
                "files[8]: has to have its content in one way; try either `from` or `text`",
                "files[10].to: /bin/x belongs to Bakelite; try a place below /usr/bin",
            ]
        );
    }

    #[test]
    fn units_have_names_programs_and_an_order() {
        let unit =
            |name: &str, command: &str, after: &str| json!({ "name": name, "command": [command], "after": [after] });
        let found = lines(json!({ "units": [
            unit("till", "/usr/bin/till", "early"), unit("ssh", "/x", "early"), unit("till", "/x", "early"),
            unit("b", "b", "netwrok"), unit("c", "/c", "d"), unit("d", "/d", "c"), { "name": "e", "command": [] },
        ] }));
        assert_eq!(
            found,
            [
                "units[1].name: `ssh` is another unit's name; try a name that tells what it is for",
                "units[2].name: `till` is another unit's name; try a name that tells what it is for",
                "units[3].command: `b` is not an absolute path; try the program's whole path, such as `/usr/bin/till`",
                "units[3].after: there is no unit `netwrok` to wait for; try `network`",
                "units[6].command: is empty; try `[/usr/bin/till]`",
                "units: `c` waits for itself by way of others; try taking one of the names out of `after`",
            ]
        );
    }

    #[test]
    fn what_is_secret_is_not_written_out_and_not_repeated() {
        let found = lines(json!({
            "units": [{ "name": "a", "command": ["/a"], "environment": {
                "DB_PASSWORD": "hunter2", "DB_PASSWORD_FILE": "/etc/db", "MODE": "{secret: x}", "TOKEN": "", "COLOUR": "red" } }],
        }));
        assert_eq!(found.len(), 2, "{found:#?}");
        assert!(found[0].contains("`DB_PASSWORD` looks like a secret") && found[0].contains("`{secret: NAME}`"));
        assert!(!found.concat().contains("hunter2"));
    }

    #[test]
    fn what_k3s_reads_needs_k3s_and_repositories_have_names_of_their_own() {
        let repository =
            |name: &str| json!({ "name": name, "url": "/x", "suite": "s", "key": "k", "fingerprint": "0" });
        let found = lines(json!({
            "k3s": { "payload": "none" }, "images": ["a.tar"], "charts": ["x.tgz"],
            "repositories": [repository("shop"), repository("shop"), repository("debian")],
        }));
        assert_eq!(
            found,
            [
                "images: is of no use without k3s; try leaving `k3s: none` out",
                "charts: is of no use without k3s; try leaving `k3s: none` out",
                "repositories[1].name: `shop` is another repository's name; try another name",
                "repositories[2].name: `debian` is another repository's name; try another name",
            ]
        );
    }
}
