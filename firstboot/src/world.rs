//! The one door through which a plan becomes true: each action, done and made durable.

use crate::disks::Looked;
use crate::error::FirstbootError;
use crate::{
    ladder, latency, loader, moving, names, payload, placed, probe, put_back, rekey, reset, restore, sealing, seed,
    storage, trim,
};
use bakelite_plan::action::Action;
use bakelite_plan::address::DUMMY;
use bakelite_plan::facts::Facts;
use bakelite_plan::firewall::REFUSED;
use bakelite_plan::identity::TOKEN;
use bakelite_spec::firewall::RULES;
use bakelite_spec::hexadecimal::hexadecimal;
use bakelite_spec::status::{Report, paths};
use bakelite_sys::link::STAND_IN;
use bakelite_sys::{SysError, durable, machine, notify, raw, read_text, tool, words};
use bakelite_trust::keys;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Whether an action had anything to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// It was so already.
    No,
    /// It is so now.
    Yes,
}

/// What a pass works on.
pub trait World {
    /// Looks.
    fn facts(&self) -> Facts;
    /// Does one thing, durably.
    ///
    /// # Errors
    /// When it can't be done; it may then be done again.
    fn apply(&mut self, action: &Action) -> Result<Changed, FirstbootError>;
    /// Says what is being done, to whoever watches: nobody listening is no reason to stop.
    fn tell(&mut self, text: &str);
    /// Leaves the report for init and the screen.
    ///
    /// # Errors
    /// When it can't be written.
    fn report(&mut self, report: &Report) -> Result<(), FirstbootError>;
}

/// The real machine.
#[derive(Debug)]
pub struct Machine {
    pub(crate) root: PathBuf,
    pub(crate) looked: Looked,
    waited: u64,
    waited_for_time: u64,
}

/// ip, modprobe and dropbearkey answer at once; a slow card may take its time to load them.
const TOOL_LIMIT: Duration = Duration::from_secs(60);

impl Machine {
    /// The machine below a root, `/` but in tests, and what was looked at already.
    pub fn new(root: &Path, looked: Looked) -> Self {
        Self { root: root.into(), looked, waited: 0, waited_for_time: 0 }
    }

    /// Leaves what was looked at for the passes to come.
    pub fn leave_looks(&self) -> Result<(), FirstbootError> {
        Ok(self.looked.leave(&self.root)?)
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn parent(&self, path: &Path) -> Result<(), FirstbootError> {
        Ok(path.parent().map_or(Ok(()), durable::make_folder)?)
    }

    /// nft takes a file whole or not at all.
    fn load_rules(&self, rules: &str) -> Result<(), FirstbootError> {
        let (path, refused) = (self.at(RULES), self.at(REFUSED));
        let candidate = path.with_extension("new");
        self.parent(&path)?;
        durable::replace(&candidate, rules.as_bytes(), 0o600)?;
        match tool::must("nft", &["-f", &candidate.to_string_lossy()], TOOL_LIMIT) {
            Ok(_) => Ok(durable::publish(&candidate, &path)?),
            Err(error) => {
                let noted = read_text(&refused).unwrap_or_default();
                let mut noted: BTreeMap<String, String> = serde_json::from_str(&noted).unwrap_or_default();
                noted.insert(rules.into(), words(&error));
                let text = serde_json::to_vec(&noted).map_err(FirstbootError::WriteReport)?;
                durable::replace(&refused, &text, 0o600)?;
                Ok(durable::remove_file(&candidate)?)
            }
        }
    }

    fn await_address(&mut self, seconds: u64, or_carrier: bool) -> Changed {
        for _ in 0..seconds {
            std::thread::sleep(Duration::from_secs(1));
            self.waited += 1;
            let facts = self.facts();
            if facts.address.is_some() || or_carrier && facts.links.iter().any(|link| link.carrier) {
                return Changed::Yes;
            }
        }
        Changed::No
    }

    fn await_time(&mut self, seconds: u64) -> Changed {
        for _ in 0..seconds {
            if raw::clock_is_synchronised() {
                return Changed::Yes;
            }
            std::thread::sleep(Duration::from_secs(1));
            self.waited_for_time += 1;
        }
        Changed::No
    }
}

impl World for Machine {
    fn facts(&self) -> Facts {
        let facts = probe::facts(&self.root, &self.looked, self.waited);
        Facts { waited_for_time: self.waited_for_time, ..facts }
    }

    fn apply(&mut self, action: &Action) -> Result<Changed, FirstbootError> {
        match action {
            Action::Publish { path, text, mode } => {
                let path = self.at(path);
                self.parent(&path)?;
                durable::write_durable(&path, text.as_bytes(), *mode)?;
            }
            Action::Tell { path, text, mode } => {
                let path = self.at(path);
                self.parent(&path)?;
                durable::replace(&path, text.as_bytes(), *mode)?;
            }
            Action::MakeSecret { path } => {
                let path = self.at(path);
                self.parent(&path)?;
                let bytes = [machine::random()?, machine::random()?].concat();
                let text = hexadecimal(bytes);
                durable::write_durable(&path, text.as_bytes(), 0o600)?;
            }
            Action::FindToken { path } => match sealing::find_token(&self.root) {
                Some(token) => durable::write_durable(self.at(path), token.as_bytes(), 0o600)?,
                None => self.looked.token_lost = true,
            },
            Action::MakeDeviceKey { path } => {
                let path = self.at(path);
                self.parent(&path)?;
                durable::write_durable(&path, keys::new_device_key().as_bytes(), 0o600)?;
            }
            Action::MakeHostKey { path } => make_host_key(&self.at(path))?,
            Action::Link { path, target } => link(&self.at(path), target)?,
            Action::Unlink { path } => {
                let path = self.at(path);
                if !path.is_symlink() {
                    return Ok(Changed::No);
                }
                durable::remove_file(&path)?;
                durable::sync_folder(path.parent().unwrap_or(&path))?;
            }
            Action::SetAside { path } => return set_aside(&self.at(path)),
            Action::RemoveFolder { path } => durable::remove_folder(&self.at(path))?,
            Action::RemoveHollow { path } => {
                let path = self.at(path);
                if !bakelite_sys::is_hollow(&path) {
                    return Ok(Changed::No);
                }
                durable::remove_file(&path)?;
                durable::sync_folder(path.parent().unwrap_or(&path))?;
            }
            Action::VerifyUnpacked { path } => return payload::verify_unpacked(&self.at(path)),
            Action::VerifyPayload { files } => {
                self.looked.payload = Some(payload::first_damaged(&self.root, files));
            }
            Action::CheckDatabase { path } => {
                let token = read_text(self.at(TOKEN)).unwrap_or_default();
                self.looked.database = Some(payload::damage(&self.at(path), &token));
            }
            Action::PrepareDatabase { path, page_size } => {
                return payload::prepare_database(&self.at(path), *page_size);
            }
            Action::Sync { path } => durable::sync_file_system(&self.at(path))?,
            Action::Place(file) => return placed::place(&self.root, file),
            Action::Remove { path } => {
                let path = self.at(path);
                durable::remove_file(&path)?;
                durable::sync_folder(path.parent().unwrap_or(&path))?;
            }
            Action::Prove { disk, look_into } => return self.look_at(disk, *look_into),
            Action::LookInto { guid } => return self.look_into(guid),
            Action::Claim { disk } => return self.claim(disk),
            Action::Bear { guid } => return self.bear(guid),
            Action::Attach { guid } => return self.attach(guid),
            Action::Unbear { guid } => return self.unbear(guid),
            Action::Blank { folders, but } => return reset::blank(&self.root, folders, but),
            Action::Seal { generation } => return self.seal(*generation),
            Action::Unseal => return self.unseal(),
            Action::Show { folder, place, mode } => return storage::show(folder, place, *mode),
            Action::Hide { place } => storage::hide(Path::new(place)),
            Action::CopyHome { way, amount } => return moving::copy(*way, *amount),
            Action::RemoveOldCopy => return moving::remove_old_copy(),
            Action::Trim { mount, disk } => trim::trim(&self.root, mount, disk)?,
            Action::LookForSets => self.look_for_sets()?,
            Action::StageSet { set, note } => return self.stage_set(set, note),
            Action::Climb { note, known } => {
                let note = serde_json::from_str(note).map_err(FirstbootError::WriteReport)?;
                self.looked.climbed = Some(ladder::climb(note, *known)?);
            }
            Action::StageMirror { note, known, than } => {
                let note = serde_json::from_str(note).map_err(FirstbootError::WriteReport)?;
                self.looked.mirrored = Some(ladder::stage_mirror(note, *known, *than)?);
            }
            Action::Rekey { note, known } => {
                let note = serde_json::from_str(note).map_err(FirstbootError::WriteReport)?;
                self.looked.climbed = Some(rekey::rekey(note, *known)?);
            }
            Action::NoteBaseline { database, baseline } => names::note(&self.at(database), &self.at(baseline))?,
            Action::CompareWithBaseline { baseline } => {
                self.looked.beyond_baseline = Some(names::beyond(&self.at(baseline))?);
            }
            Action::CompareWithAside { aside, revision } => {
                self.looked.lost = Some(names::lost(aside, *revision));
            }
            Action::StopWorkloads { unit } => put_back::stop_workloads(unit)?,
            Action::PutBack { aside } => {
                (self.looked.database, self.looked.climbed, self.looked.mirrored) = (None, None, None);
                return put_back::put_back(aside);
            }
            Action::GiveBackIdentity { aside } => return put_back::give_back_identity(&self.root, aside),
            Action::Refit => put_back::refit(),
            Action::PutInPlace { aside } => {
                // Whatever was found out about the old one.
                (self.looked.database, self.looked.climbed, self.looked.mirrored) = (None, None, None);
                return restore::put_in_place(aside);
            }
            Action::TakeIdentity { aside } => return restore::take_identity(&self.root, aside),
            Action::MeasureLatency { disk, data_disk } => latency::measure(&self.root, disk, *data_disk)?,
            Action::LoadRules { rules } => self.load_rules(rules)?,
            Action::ForgetAddresses { links } => {
                for link in links {
                    ip(&["route", "flush", "dev", link])?;
                    ip(&["address", "flush", "dev", link, "scope", "global"])?;
                }
            }
            Action::TakeSecrets { names } => return seed::take_secrets(&self.root, names),
            Action::SpendSeed => return seed::spend(&self.root),
            Action::MarkSeed => return seed::mark(&self.root),
            Action::AddEntry { name, text } => return loader::add(&self.root, name, text),
            Action::RemoveEntries { names } => return loader::remove(&self.root, names),
            Action::AwaitTime { seconds } => return Ok(self.await_time(*seconds)),
            Action::AwaitAddress { seconds, or_carrier } => return Ok(self.await_address(*seconds, *or_carrier)),
            Action::MakeDummy { addresses } => make_dummy(addresses)?,
            Action::RemoveDummy => ip(&["link", "delete", STAND_IN])?,
        }
        Ok(Changed::Yes)
    }

    fn tell(&mut self, text: &str) {
        let _ = notify::send(&format!("STATUS={text}"));
    }

    fn report(&mut self, report: &Report) -> Result<(), FirstbootError> {
        let text = serde_json::to_vec(report).map_err(FirstbootError::WriteReport)?;
        for path in [self.at(paths::REPORTS).join(&report.pass), self.at(paths::REPORT)] {
            self.parent(&path)?;
            durable::replace(&path, &text, 0o644)?;
        }
        Ok(())
    }
}

fn set_aside(path: &Path) -> Result<Changed, FirstbootError> {
    if !path.exists() {
        return Ok(Changed::No);
    }
    let mut aside = path.as_os_str().to_owned();
    aside.push(".aside");
    let aside = PathBuf::from(aside);
    durable::remove_tree(&aside)?;
    durable::publish(path, &aside)?;
    Ok(Changed::Yes)
}

/// The key is made beside its place and published: half a key would lock everybody out.
fn make_host_key(path: &Path) -> Result<(), FirstbootError> {
    durable::make_folder(path.parent().unwrap_or(path))?;
    let half = path.with_extension("new");
    durable::remove_file(&half)?;
    let place = half.to_string_lossy();
    tool::must("dropbearkey", &["-t", "ed25519", "-f", &place], TOOL_LIMIT)?;
    std::fs::File::open(&half)
        .and_then(|file| file.sync_all())
        .map_err(|source| SysError::Write { path: half.clone(), source })?;
    Ok(durable::publish(&half, path)?)
}

fn link(path: &Path, target: &str) -> Result<(), FirstbootError> {
    let folder = path.parent().unwrap_or(path);
    durable::make_folder(folder)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = folder.join(format!(".{name}.new"));
    durable::remove_file(&beside)?;
    symlink(target, &beside).map_err(|source| SysError::Change { path: beside.clone(), source })?;
    Ok(durable::publish(&beside, path)?)
}

fn ip(arguments: &[&str]) -> Result<(), FirstbootError> {
    tool::must("ip", arguments, TOOL_LIMIT).map(drop)?;
    Ok(())
}

/// The same in a network where there is no such link yet.
pub fn make_first_dummy() -> Result<(), FirstbootError> {
    add_dummy()?;
    set_dummy(&[])
}

fn add_dummy() -> Result<(), FirstbootError> {
    tool::must("modprobe", &["dummy", "numdummies=0"], TOOL_LIMIT)?;
    ip(&["link", "add", STAND_IN, "type", "dummy"])
}

/// docs.k3s.io, air-gap install, "Default Network Route": a dummy link with a default route. Its metric is higher than
/// dhcpcd's (1000 and the link's number), so that a real route always wins.
fn make_dummy(addresses: &[IpAddr]) -> Result<(), FirstbootError> {
    if !Path::new("/sys/class/net").join(STAND_IN).exists() {
        add_dummy()?;
    }
    set_dummy(addresses)
}

fn set_dummy(addresses: &[IpAddr]) -> Result<(), FirstbootError> {
    ip(&["address", "replace", &format!("{DUMMY}/31"), "dev", STAND_IN])?;
    for address in addresses {
        let prefix = if address.is_ipv6() { 128 } else { 32 };
        ip(&["address", "replace", &format!("{address}/{prefix}"), "dev", STAND_IN])?;
    }
    ip(&["link", "set", STAND_IN, "up"])?;
    ip(&["route", "replace", "default", "via", "203.0.113.255", "dev", STAND_IN, "metric", "100000"])
}
