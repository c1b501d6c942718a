//! The boards that Bakelite knows: the files of board-configs/, taken in when the workshop is compiled.

use bakelite_spec::appliance::{Appliance, Input};
use bakelite_spec::board::{Arch, Board};
use bakelite_spec::finding::{Finding, nearest};
use bakelite_spec::keys::{BOARD, defaults};
use bakelite_spec::layers::{Effective, Layer};
use bakelite_spec::yaml::Document;
use serde_json::Value;
use std::collections::BTreeMap;

/// Each board's file by the board's name.
pub const BOARDS: &[(&str, &str)] = &[
    ("generic-arm64", include_str!("../../board-configs/generic-arm64.yaml")),
    ("generic-x86_64", include_str!("../../board-configs/generic-x86_64.yaml")),
    ("qemu-aarch64", include_str!("../../board-configs/qemu-aarch64.yaml")),
    ("qemu-armv7", include_str!("../../board-configs/qemu-armv7.yaml")),
    ("qemu-rpi2", include_str!("../../board-configs/qemu-rpi2.yaml")),
    ("qemu-rpi3", include_str!("../../board-configs/qemu-rpi3.yaml")),
    ("qemu-rpi4", include_str!("../../board-configs/qemu-rpi4.yaml")),
    ("qemu-x86_64", include_str!("../../board-configs/qemu-x86_64.yaml")),
    ("rpi2-armv7", include_str!("../../board-configs/rpi2-armv7.yaml")),
    ("rpi3", include_str!("../../board-configs/rpi3.yaml")),
    ("rpi3-armv7", include_str!("../../board-configs/rpi3-armv7.yaml")),
    ("rpi4", include_str!("../../board-configs/rpi4.yaml")),
    ("rpi5", include_str!("../../board-configs/rpi5.yaml")),
];

/// What people call the Raspberry Pis that nothing here can run on, without dashes and what comes before the model.
const ARMV6: &[&str] = &["", "0", "0w", "1", "1a", "1b", "a", "b", "a+", "b+", "zero", "zerow", "cm1"];

/// Whether a name means a Raspberry Pi with an ARMv6 processor.
fn is_armv6(name: &str) -> bool {
    let name: String = name.to_lowercase().chars().filter(|c| !matches!(c, '-' | '_')).collect();
    let model = ["raspberrypi", "rpi", "pi"].iter().find_map(|brand| name.strip_prefix(brand));
    name == "cm1" || model.is_some_and(|model| ARMV6.contains(&model))
}

const MODULE_SETS: &str = include_str!("../../board-configs/module-sets.yaml");

/// Reads a board by its name.
///
/// # Errors
/// A finding that names the nearest board; the findings in a board's file, which are a defect of this release.
pub fn board(name: &str) -> Result<Board, Vec<Finding>> {
    of(document(name)?)
}

/// The board that a checked file says.
fn of(own: Value) -> Result<Board, Vec<Finding>> {
    let mut effective = Effective::default().with(Layer::Defaults, &defaults(BOARD));
    if let Some(base) = own.get(EXTENDS).and_then(Value::as_str) {
        let base = document(base)?;
        if base.get(EXTENDS).is_some() {
            let hint = "the board that stands at the end";
            return Err(vec![Finding::error(EXTENDS, "names a board that extends another itself", hint)]);
        }
        effective = effective.with(Layer::Board, &base);
    }
    let mut values = effective.with(Layer::Board, &own).values;
    values.as_object_mut().and_then(|all| all.remove(EXTENDS));
    Board::from_values(&values).map_err(|error| vec![Finding::error("board", error.to_string(), "")])
}

/// The key by which a board takes over another's.
const EXTENDS: &str = "extends";

/// What a board's own file says, checked.
fn document(name: &str) -> Result<Value, Vec<Finding>> {
    let Some((_, text)) = BOARDS.iter().find(|(known, _)| *known == name) else {
        if is_armv6(name) {
            let problem =
                format!("`{name}` has an ARMv6 processor, for which there is no k3s and no Debian of this kind");
            return Err(vec![Finding::error("board.name", problem, "a Pi 2 or later; a Zero 2 W is an `rpi3`")]);
        }
        let names: Vec<&str> = BOARDS.iter().map(|(name, _)| *name).collect();
        let hint = nearest(name, names.iter().copied()).map_or_else(|| names.join(", "), |near| format!("`{near}`"));
        return Err(vec![Finding::error("board.name", format!("`{name}` is not a known board"), hint)]);
    };
    Ok(Document::read(&format!("board-configs/{name}.yaml"), text, BOARD)?.value)
}

/// A board that isn't among them, by its file's text.
///
/// # Errors
/// The findings in it.
#[cfg(test)]
pub fn read(text: &str) -> Result<Board, Vec<Finding>> {
    of(Document::read("board.yaml", text, BOARD)?.value)
}

/// A set of kernel modules: their names, which may be written in several lists, or these with the packages that hold
/// their firmware, and what only one architecture's kernel has of it.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Set {
    Modules(Names),
    WithFirmware {
        #[serde(flatten)]
        common: WithFirmware,
        #[serde(default)]
        only: BTreeMap<Arch, WithFirmware>,
    },
}

#[derive(serde::Deserialize)]
struct WithFirmware {
    modules: Names,
    packages: Vec<String>,
}

impl Set {
    /// Its parts for an architecture.
    fn on(self, arch: Arch) -> Vec<WithFirmware> {
        match self {
            Self::Modules(modules) => vec![WithFirmware { modules, packages: Vec::new() }],
            Self::WithFirmware { common, mut only } => [common].into_iter().chain(only.remove(&arch)).collect(),
        }
    }
}

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Names {
    One(String),
    Many(Vec<Names>),
}

impl Names {
    fn flatten(self) -> Vec<String> {
        match self {
            Self::One(name) => vec![name],
            Self::Many(names) => names.into_iter().flat_map(Self::flatten).collect(),
        }
    }
}

fn sets() -> Result<BTreeMap<String, Set>, Vec<Finding>> {
    serde_yaml::from_str(MODULE_SETS).map_err(|error| vec![Finding::error("modules", error.to_string(), "")])
}

/// The names of the modules in some sets on an architecture, sorted. A name that is no set is a module's own; whether the
/// kernel has it is seen when the kernel is.
///
/// # Errors
/// When the sets can't be read, which is a defect of this release.
pub fn modules_of(names: &[String], arch: Arch) -> Result<Vec<String>, Vec<Finding>> {
    let mut known = sets()?;
    let modules = names.iter().flat_map(|name| match known.remove(name) {
        Some(set) => set.on(arch).into_iter().flat_map(|part| part.modules.flatten()).collect(),
        None => vec![name.clone()],
    });
    let mut modules: Vec<String> = modules.collect();
    modules.sort();
    modules.dedup();
    Ok(modules)
}

/// Attaches to a board what an appliance says is attached: modules that the running system can load, and the packages
/// with their firmware. The modules of `modules:` aren't the board's; the packages with their firmware come here.
///
/// # Errors
/// When the sets can't be read, which is a defect of this release.
pub fn attach(board: &mut Board, appliance: &Appliance) -> Result<(), Vec<Finding>> {
    let mut known = sets()?;
    for name in &appliance.board.with {
        if !board.modules.root.contains(name) {
            board.modules.root.push(name.clone());
        }
    }
    for name in appliance.board.with.iter().chain(&appliance.modules) {
        let parts = known.remove(name).map(|set| set.on(board.arch));
        board.packages.extend(parts.into_iter().flatten().flat_map(|part| part.packages));
    }
    if appliance.firewall.input == Input::Closed {
        board.modules.root.push("firewall".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bakelite_spec::keys::EXTRAS;

    #[test]
    fn each_board_reads_and_each_of_its_sets_is_there() {
        let known = sets().unwrap();
        for extra in EXTRAS {
            assert!(matches!(known.get(*extra), Some(Set::WithFirmware { .. })), "`board.with: [{extra}]` has no set");
        }
        for (name, text) in BOARDS {
            let board = board(name).unwrap_or_else(|findings| panic!("{name}: {findings:?}"));
            for set in board.modules.root.iter().chain(&board.modules.initramfs) {
                assert!(known.contains_key(set), "{name} names the set {set}, which there isn't");
            }
            assert!(text.lines().count() <= 60, "{name} is longer than 60 lines");
        }
    }

    #[test]
    fn an_extending_board_has_what_it_leaves_out_from_the_other() {
        let (base, own) = (board("qemu-aarch64").unwrap(), board("qemu-armv7").unwrap());
        assert_eq!((&own.modules, &own.cmdline, &own.console), (&base.modules, &base.cmdline, &base.console));
        assert_ne!((own.arch, own.kernel, own.boot), (base.arch, base.kernel, base.boot));
        for (name, text) in BOARDS {
            let base = text.lines().find_map(|line| line.strip_prefix("extends: "));
            let chain = base.is_some_and(|base| document(base).unwrap().get(EXTENDS).is_some());
            assert!(!chain, "{name} extends {base:?}, which extends another");
        }
    }

    #[test]
    fn a_set_has_what_only_one_architecture_has_only_there() {
        let on = |arch| modules_of(&["display".to_string()], arch).unwrap();
        let has = |arch, name: &str| on(arch).contains(&name.to_string());
        assert!(has(Arch::X86_64, "i915") && !has(Arch::Aarch64, "i915") && !has(Arch::Armv7, "amdgpu"));
        assert!([Arch::X86_64, Arch::Aarch64, Arch::Armv7].into_iter().all(|arch| has(arch, "virtio_gpu")));
    }

    #[test]
    fn boards_that_nothing_here_can_run_on_are_refused_with_the_reason() {
        let findings = board("rpi-zero").unwrap_err();
        let text = findings[0].to_string();
        assert!(text.starts_with("board.name: `rpi-zero` has an ARMv6 processor") && text.contains("rpi3"), "{text}");
        for name in ["rpi", "rpi1", "rpi-1", "rpi0w", "Raspberry-Pi-Zero", "pi_zero_w", "cm1", "rpi-cm1"] {
            assert!(is_armv6(name), "{name}");
        }
        assert!(BOARDS.iter().all(|(name, _)| !is_armv6(name)) && !is_armv6("zero-2-w") && !is_armv6("rpi-zero-2-w"));
    }

    #[test]
    fn a_slip_in_a_board_name_finds_the_nearest() {
        let findings = board("generic-x86-64").unwrap_err();
        assert_eq!(findings[0].to_string(), "board.name: `generic-x86-64` is not a known board; try `generic-x86_64`");
    }
}
