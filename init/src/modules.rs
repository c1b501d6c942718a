//! Kernel modules: which ones the devices that are there ask for, in which order, with which parameters.
//!
//! Reads what depmod made (modules.dep, modules.alias, modules.softdep). Each look-up reads the index anew and drops it:
//! PID 1 keeps none of it. In the initramfs only what is needed to find the boot medium is loaded.

use bakelite_spec::cmdline::Cmdline;
use bakelite_sys::{machine, module, names_in, read_text, words};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Where this kernel's modules are.
pub fn folder() -> PathBuf {
    Path::new("/usr/lib/modules").join(machine::kernel_release())
}

/// The index of a kernel's modules, and what has been tried of them.
pub struct Modules {
    folder: PathBuf,
    /// File and dependencies by name, all as paths below the folder.
    files: BTreeMap<String, (String, Vec<String>)>,
    before: BTreeMap<String, Vec<String>>,
    after: BTreeMap<String, Vec<String>>,
    parameters: BTreeMap<String, String>,
    blacklist: BTreeSet<String>,
    tried: BTreeSet<String>,
    /// How many are loaded at once.
    hands: usize,
}

impl Modules {
    /// Reads the index; without one there are no modules.
    pub fn read(folder: &Path, cmdline: &Cmdline) -> Self {
        let mut files = BTreeMap::new();
        for line in read_text(folder.join("modules.dep")).unwrap_or_default().lines() {
            if let Some((file, needs)) = line.split_once(':') {
                let needs = needs.split_whitespace().map(String::from).collect();
                files.insert(name_of(file), (file.to_string(), needs));
            }
        }
        let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
        for line in read_text(folder.join("modules.softdep")).unwrap_or_default().lines() {
            if let Some((name, pre, post)) = softdep(line) {
                before.insert(name.clone(), pre);
                after.insert(name, post);
            }
        }
        let blacklist = ["modprobe.blacklist", "module_blacklist"]
            .iter()
            .flat_map(|key| cmdline.values(key))
            .flat_map(|names| names.split(','))
            .map(plain)
            .collect();
        let mut parameters: BTreeMap<String, String> = BTreeMap::new();
        for (key, value) in cmdline.with_prefix("") {
            if let Some((name, parameter)) = key.split_once('.').filter(|(name, _)| *name != "bakelite") {
                let text = if value.is_empty() { parameter.to_string() } else { format!("{parameter}={value}") };
                let all = parameters.entry(plain(name)).or_default();
                *all = format!("{all} {text}").trim().to_string();
            }
        }
        let hands = std::thread::available_parallelism().map_or(1, usize::from);
        Self { folder: folder.into(), files, before, after, parameters, blacklist, tried: BTreeSet::new(), hands }
    }

    /// The same, to be loaded one after the other: the other processors have something else to do.
    pub fn one_by_one(self) -> Self {
        Self { hands: 1, ..self }
    }

    /// The modules that ask for one of these devices, blacklisted ones left out.
    pub fn wanted_by(&self, devices: &BTreeSet<String>) -> Vec<String> {
        let mut found = BTreeSet::new();
        self.each_alias(|pattern, name| {
            if !found.contains(name) && devices.iter().any(|device| matches(pattern.as_bytes(), device.as_bytes())) {
                found.insert(name.to_string());
            }
        });
        found.retain(|name| !self.blacklist.contains(name));
        found.into_iter().collect()
    }

    fn each_alias(&self, mut each: impl FnMut(&str, &str)) {
        let Ok(file) = std::fs::File::open(self.folder.join("modules.alias")) else { return };
        for line in BufReader::new(file).lines().map_while(Result::ok) {
            let mut words = line.split(' ').skip(1);
            if let (Some(pattern), Some(name)) = (words.next(), words.next()) {
                each(pattern, name);
            }
        }
    }

    /// Adds a module and all that it needs to a plan, by how deep its needs go: a file needs only what stands at lower
    /// levels. Names that are aliases are followed. Gives its level; what is built in or unknown has none.
    fn order(&mut self, name: &str, least: usize, plan: &mut Plan) -> Option<usize> {
        let name = plain(name);
        if !self.tried.insert(name.clone()) {
            return plan.levels.get(&name).copied();
        }
        let Some((file, needs)) = self.files.get(&name).cloned() else {
            let mut real = BTreeSet::new();
            self.each_alias(|pattern, module| {
                if matches(pattern.as_bytes(), name.as_bytes()) || plain(pattern) == name {
                    real.insert(module.to_string());
                }
            });
            return real.into_iter().filter_map(|module| self.order(&module, least, plan)).max();
        };
        let first = self.before.get(&name).cloned().unwrap_or_default();
        let first = first.into_iter().chain(needs.iter().rev().map(|need| name_of(need)));
        let level =
            first.filter_map(|other| self.order(&other, 0, plan)).map(|below| below + 1).fold(least, usize::max);
        plan.levels.insert(name.clone(), level);
        plan.files.push((level, file));
        for other in self.after.get(&name).cloned().unwrap_or_default() {
            self.order(&other, level + 1, plan);
        }
        Some(level)
    }

    /// Loads modules with all that they need; failures are logged. How many were loaded. What doesn't need each other
    /// is loaded on all processors at once: the check of a module's signature is most of the work.
    pub fn load(&mut self, names: &[String]) -> usize {
        let mut plan = Plan::default();
        for name in names {
            self.order(name, 0, &mut plan);
        }
        plan.files.retain(|(_, file)| !module::is_there(&name_of(file)));
        plan.files.sort_by_key(|(level, _)| *level);
        let files: &[(usize, String)] = &plan.files;
        files.chunk_by(|one, other| one.0 == other.0).map(|level| self.load_level(level)).sum()
    }

    fn load_level(&self, files: &[(usize, String)]) -> usize {
        if let [(_, file)] = files {
            return usize::from(self.load_file(file));
        }
        let next = AtomicUsize::new(0);
        let hand = || {
            let mine = std::iter::from_fn(|| files.get(next.fetch_add(1, Ordering::Relaxed)));
            mine.filter(|(_, file)| self.load_file(file)).count()
        };
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..self.hands.min(files.len())).map(|_| scope.spawn(hand)).collect();
            hand() + others.into_iter().map(|other| other.join().unwrap_or(0)).sum::<usize>()
        })
    }

    fn load_file(&self, file: &str) -> bool {
        let name = name_of(file);
        let parameters = self.parameters.get(&name).map_or("", String::as_str);
        module::load(&name, &self.folder.join(file), parameters)
            .inspect_err(|error| log::warn!("{}", words(error)))
            .is_ok()
    }
}

/// What is to be loaded.
#[derive(Default)]
struct Plan {
    /// Levels by name.
    levels: BTreeMap<String, usize>,
    /// Levels and files, each after what it needs.
    files: Vec<(usize, String)>,
}

/// `softdep name pre: a b post: c` as name, before, after.
fn softdep(line: &str) -> Option<(String, Vec<String>, Vec<String>)> {
    let mut words = line.strip_prefix("softdep ")?.split_whitespace();
    let name = plain(words.next()?);
    let (mut pre, mut post, mut is_pre) = (Vec::new(), Vec::new(), true);
    for word in words {
        match word {
            "pre:" => is_pre = true,
            "post:" => is_pre = false,
            _ if is_pre => pre.push(word.to_string()),
            _ => post.push(word.to_string()),
        }
    }
    Some((name, pre, post))
}

fn plain(name: &str) -> String {
    name.replace('-', "_")
}

/// `kernel/drivers/ata/libata.ko.xz` is `libata`.
fn name_of(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    plain(name.split(".ko").next().unwrap_or(name))
}

/// What all devices of a sysfs say that they are.
pub fn devices(root: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let buses = root.join("sys/bus");
    for bus in names_in(&buses) {
        let folder = buses.join(bus).join("devices");
        for device in names_in(&folder) {
            let device = folder.join(device);
            // Memory cards have no such file; they only say it in their uevent.
            let said = read_text(device.join("modalias")).ok().or_else(|| {
                let text = read_text(device.join("uevent")).ok()?;
                text.lines().find_map(|line| line.strip_prefix("MODALIAS=").map(String::from))
            });
            found.extend(said.filter(|text| !text.is_empty()));
        }
    }
    found
}

/// A shell pattern with `*`, `?` and `[a-z]`, as depmod writes them. Steps back only to the last `*`: no blow-up.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        let step = match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
                continue;
            }
            Some(b'?') => Some(1),
            Some(b'[') => set(&pattern[p..], text[t]),
            Some(byte) if *byte == text[t] => Some(1),
            _ => None,
        };
        match (step, star) {
            (Some(length), _) => {
                p += length;
                t += 1;
            }
            (None, Some((at, from))) => {
                star = Some((at, from + 1));
                p = at + 1;
                t = from + 1;
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// Whether a byte is in the set that a pattern begins with; if so, the set's length in the pattern.
fn set(pattern: &[u8], byte: u8) -> Option<usize> {
    let end = pattern.iter().position(|byte| *byte == b']')?;
    let mut inside = &pattern[1..end];
    while let Some(first) = inside.first() {
        let (last, used) = if inside.get(1) == Some(&b'-') { (inside.get(2)?, 3) } else { (first, 1) };
        if (first..=last).contains(&&byte) {
            return Some(end + 1);
        }
        inside = &inside[used..];
    }
    None
}

/// Loads what the devices in a sysfs ask for, until nothing new appears. How many were loaded.
pub fn cold_plug(modules: &mut Modules, seen: &mut BTreeSet<String>) -> usize {
    let mut loaded = 0;
    loop {
        let new: BTreeSet<String> = devices(Path::new("/")).difference(seen).cloned().collect();
        if new.is_empty() {
            return loaded;
        }
        let wanted = modules.wanted_by(&new);
        loaded += modules.load(&wanted);
        seen.extend(new);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tree() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            bakelite_sys::durable::replace(folder.path().join(name), text.as_bytes(), 0o644).unwrap();
        };
        put(
            "modules.dep",
            "kernel/a/virtio-blk.ko.xz:\nkernel/b/sd_mod.ko.xz: kernel/b/t10-pi.ko.xz kernel/c/crc.ko.xz\n\
             kernel/b/t10-pi.ko.xz: kernel/c/crc.ko.xz\nkernel/c/crc.ko.xz:\nkernel/d/crc32c-intel.ko.xz:\nkernel/e/erofs.ko.xz:\n",
        );
        put(
            "modules.alias",
            "# header\nalias virtio:d00000002v* virtio_blk\nalias scsi:t-0x0[07]* sd_mod\nalias crc32c crc32c_intel\n",
        );
        put("modules.softdep", "softdep erofs pre: crc32c post: sd-mod\nsoftdep crc32c_intel pre: erofs\n");
        folder
    }

    fn modules(folder: &tempfile::TempDir, cmdline: &str) -> Modules {
        Modules::read(folder.path(), &Cmdline::parse(cmdline))
    }

    #[test]
    fn devices_find_their_modules_unless_blacklisted() {
        let folder = tree();
        let devices = BTreeSet::from(["virtio:d00000002v00001AF4".into(), "scsi:t-0x07x".into()]);
        assert_eq!(modules(&folder, "").wanted_by(&devices), ["sd_mod", "virtio_blk"]);
        assert_eq!(modules(&folder, "modprobe.blacklist=x,sd-mod").wanted_by(&devices), ["virtio_blk"]);
        assert!(modules(&folder, "").wanted_by(&BTreeSet::from(["scsi:t-0x01".into()])).is_empty());
    }

    #[test]
    fn needs_come_first_and_softdeps_may_be_aliases_or_circular() {
        let folder = tree();
        let mut plan = Plan::default();
        modules(&folder, "").order("erofs", 0, &mut plan);
        let order: Vec<(usize, String)> = plan.files.iter().map(|(level, file)| (*level, name_of(file))).collect();
        let expected = [(0, "crc32c_intel"), (1, "erofs"), (0, "crc"), (1, "t10_pi"), (2, "sd_mod")];
        assert_eq!(order, expected.map(|(level, name)| (level, name.to_string())));
    }

    #[test]
    fn parameters_come_from_the_command_line() {
        let folder = tree();
        let modules = modules(&folder, "sd-mod.x=1 sd_mod.y bakelite.slot=a root=/dev/a.b");
        assert_eq!(modules.parameters.get("sd_mod").map(String::as_str), Some("x=1 y"));
        assert_eq!(modules.parameters.len(), 1);
    }

    proptest! {
        #[test]
        fn patterns_never_hang_or_panic(pattern in "[a*?\\[\\]-]{0,20}", text in "[ab]{0,40}") {
            let _ = matches(pattern.as_bytes(), text.as_bytes());
            prop_assert!(matches(b"*", text.as_bytes()));
            prop_assert!(matches(text.as_bytes(), text.as_bytes()));
        }
    }
}
