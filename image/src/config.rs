//! An appliance's YAML with everything it stands on: defaults, board, provenance, rules. What `bakelite check` shows.

use crate::boards;
use crate::decide::boot;
use bakelite_spec::appliance::Appliance;
use bakelite_spec::board::Board;
use bakelite_spec::finding::{Finding, stops};
use bakelite_spec::keys::{APPLIANCE, defaults};
use bakelite_spec::layers::{Effective, Layer};
use bakelite_spec::{rules, yaml::Document};
use bakelite_trust::keys;
use std::path::{Path, PathBuf};

/// A checked appliance.
#[derive(Clone, Debug)]
pub struct Config {
    /// The appliance.
    pub appliance: Appliance,
    /// The merged values and who set each.
    pub effective: Effective,
    /// The board's name.
    pub board_name: String,
    /// The board.
    pub board: Board,
    /// The folder that relative paths in the YAML start from.
    pub folder: PathBuf,
    /// What a person should know although nothing is wrong.
    pub warnings: Vec<Finding>,
    document: Document,
}

impl Config {
    /// Ties a finding to the appliance's file and to the place of its key, or of the nearest key above it.
    pub fn placed(&self, finding: Finding) -> Finding {
        placed(&self.document, &finding.key.clone(), finding)
    }
}

fn placed(document: &Document, key: &str, finding: Finding) -> Finding {
    let above = key.split(['.', '[']).next().unwrap_or(key);
    Finding {
        file: document.file().into(),
        place: document.place_of(key).or_else(|| document.place_of(above)),
        ..finding
    }
}

/// Reads and checks an appliance.
///
/// # Errors
/// All findings, when one of them stops the work.
pub fn load(path: &Path) -> Result<Config, Vec<Finding>> {
    let file = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| {
        let hint = "`bakelite new --board NAME FILE`, which writes one";
        vec![Finding { file: file.clone(), ..Finding::error("", format!("can't be read: {error}"), hint) }]
    })?;
    let folder = path.parent().unwrap_or(Path::new("")).to_path_buf();
    read(&file, &text, folder)
}

/// Checks an appliance's text; `file` is the name that findings carry.
///
/// # Errors
/// All findings, when one of them stops the work.
pub fn read(file: &str, text: &str, folder: PathBuf) -> Result<Config, Vec<Finding>> {
    let document = Document::read(file, text, APPLIANCE)?;
    let placed = |key: &str, finding: Finding| placed(&document, key, finding);
    let board_name = document.value["board"]["name"].as_str().unwrap_or_default().to_string();
    let mut board = boards::board(&board_name)
        .map_err(|findings| findings.into_iter().map(|finding| placed("board.name", finding)).collect::<Vec<_>>())?;
    let effective = Effective::default()
        .with(Layer::Defaults, &defaults(APPLIANCE))
        .with(Layer::Board, &serde_json::Value::Object(board.defaults.clone()))
        .with(Layer::Appliance, &document.value);
    let appliance = Appliance::from_values(&effective.values)
        .map_err(|error| vec![Finding { file: file.into(), ..Finding::error("", error.to_string(), "") }])?;
    boards::attach(&mut board, &appliance).map_err(|findings| {
        findings.into_iter().map(|finding| placed(&finding.key.clone(), finding)).collect::<Vec<_>>()
    })?;
    let mut findings = key_findings(&appliance, &placed);
    let more = rules::user::findings(&appliance).into_iter().chain(rules::k3s::findings(&appliance));
    let more = more.chain(boot::contradictions(&appliance, &board));
    findings.extend(more.map(|finding| placed(&finding.key.clone(), finding)));
    findings.extend(rules::findings(&appliance, &board).into_iter().map(|(rule, finding)| placed(rule.key, finding)));
    if stops(&findings) {
        return Err(findings);
    }
    Ok(Config { appliance, effective, board_name, board, folder, warnings: findings, document: document.clone() })
}

/// Public keys, checked down to their checksum: a slip found now is a backup that opens later.
fn key_findings(appliance: &Appliance, placed: &impl Fn(&str, Finding) -> Finding) -> Vec<Finding> {
    let hint = "copying the line that `bakelite new` wrote once more";
    let finding = |key: &str, error: keys::KeyError| placed(key, Finding::error(key, error.to_string(), hint));
    let recipients = appliance.backup.recipients.iter().filter_map(|text| keys::check_recipient(text).err());
    let owners = appliance.owner.keys.iter().filter_map(|text| keys::check_owner_key(text).err());
    recipients
        .map(|error| finding("backup.recipients", error))
        .chain(owners.map(|error| finding("owner.keys", error)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_board_alone_is_valid_and_warns_of_backups() {
        let config = read("a.yaml", "board: qemu-x86_64\n", PathBuf::new()).unwrap();
        assert_eq!(config.warnings.len(), 1);
        assert_eq!(config.warnings[0].key, "backup.recipients");
    }

    #[test]
    fn rules_and_boards_point_at_their_line() {
        let findings = read("a.yaml", "debug: true\nboard: qemu-x86-64\n", PathBuf::new()).unwrap_err();
        assert_eq!(
            findings[0].to_string(),
            "a.yaml:2:8: board.name: `qemu-x86-64` is not a known board; try `qemu-x86_64`"
        );
        let text = "board: qemu-x86_64\nk3s:\n  config:\n    node-name: x\n";
        let findings = read("a.yaml", text, PathBuf::new()).unwrap_err();
        assert!(
            findings
                .iter()
                .any(|finding| finding.to_string().starts_with("a.yaml:4:5: k3s.config.node-name: is chosen")),
            "{findings:?}"
        );
    }

    #[test]
    fn what_is_attached_brings_its_modules_and_firmware_and_the_appliances_own_stay_apart() {
        let plain = read("a.yaml", "board: qemu-x86_64\n", PathBuf::new()).unwrap();
        let text = "board: {name: qemu-x86_64, with: [wifi]}\nmodules: [services, can_dev]\n";
        let config = read("a.yaml", text, PathBuf::new()).unwrap();
        assert!(config.board.packages.contains(&"firmware-iwlwifi".to_string()));
        let modules = boards::modules_of(&config.board.modules.root, config.board.arch).unwrap();
        assert!(modules.contains(&"iwlwifi".to_string()) && !modules.contains(&"can_dev".to_string()));
        assert_eq!(config.appliance.modules, ["services", "can_dev"]);
        assert!(
            !boards::modules_of(&plain.board.modules.root, plain.board.arch).unwrap().contains(&"iwlwifi".to_string())
        );
        let findings = read("a.yaml", "board:\n  name: qemu-x86_64\n  with: [wlan]\n", PathBuf::new()).unwrap_err();
        assert!(
            findings[0].to_string().starts_with("a.yaml:3:10: board.with[0]: `wlan` is none of audio,"),
            "{findings:?}"
        );
    }

    #[test]
    fn own_lines_of_config_txt_must_not_change_what_a_pi_starts() {
        let check = |board: &str, lines: &str| {
            let text = format!("board:\n  name: {board}\n  config-txt: [{lines}]\n");
            read("a.yaml", &text, PathBuf::new()).map(drop).map_err(|findings| findings[0].to_string())
        };
        assert_eq!(check("rpi4", "dtparam=audio=off, '[pi4]', over_voltage=2"), Ok(()));
        for (lines, words) in [
            ("kernel=kernel8.img", "on a Pi 4 B, kernel kernel8.img instead of bakelite/a/vmlinuz"),
            ("'[pi400]', arm_64bit=0", "on a Pi 400, 64 bits false instead of true"),
            ("os_prefix=", "kernel vmlinuz instead of bakelite/a/vmlinuz"),
            ("cmdline=my.txt", "arguments bakelite/a/my.txt instead of bakelite/a/cmdline-1.txt"),
            ("device_tree=", "device tree none instead of"),
            ("initramfs x followkernel", "initramfs bakelite/a/x instead of"),
            ("include mine.txt", "/mine.txt is not there"),
            ("dtoverlay=disable-bt", "/overlays/disable-bt.dtbo is to be loaded"),
            ("gpu_mem=16", "/start4cd.elf is to be loaded"),
        ] {
            let found = check("rpi4", lines).unwrap_err();
            assert!(
                found.starts_with("a.yaml:3:3: board.config-txt: ") || found.starts_with("a.yaml:3:15: "),
                "{found}"
            );
            assert!(found.contains(words), "{lines}: {found}");
        }
        let long = check("rpi3", &format!("dtparam={}", "x".repeat(100))).unwrap_err();
        assert!(long.contains("board.config-txt[0]: is longer than the 98 letters"), "{long}");
        assert!(check("qemu-x86_64", "a=b").unwrap_err().contains("which has no config.txt"));
    }

    #[test]
    fn rules_of_a_users_own_things_point_at_their_line() {
        let text = "board: qemu-x86_64\nfiles:\n  - {text: a, to: /etc/a}\n  - text: b\n    to: /run/b\n";
        let findings = read("a.yaml", text, PathBuf::new()).unwrap_err();
        assert!(
            findings[0].to_string().starts_with("a.yaml:5:5: files[1].to: /run/b is not in the image"),
            "{findings:?}"
        );
    }

    #[test]
    fn the_examples_are_valid() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
        let mut seen = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "yaml") {
                let config = load(&path).unwrap_or_else(|findings| panic!("{}: {findings:?}", path.display()));
                crate::user::load(&config).unwrap_or_else(|findings| panic!("{}: {findings:?}", path.display()));
                seen += 1;
            }
        }
        assert!(seen >= 3);
    }
}
