//! Plays one scenario: one medium, switched on and off and damaged in between, step by step.
//!
//! What is expected is looked for among the events of this boot, from its beginning: what happens side by side on the
//! machine may come in any order. Times are this host's; the machine's clock isn't to be trusted under emulation.

mod samples;

use crate::damage;
use crate::door;
use crate::drawn;
use crate::fetch;
use crate::hardware::{BootBus, Hardware};
use crate::line::Line;
use crate::media::Media;
use crate::ports;
use crate::recovery;
use crate::runner::PULL_KEY;
use crate::scenario::Scenario;
use crate::server::{Reached, Server};
use crate::steps::{Count, Cut, Drawn, MakeBundle, Plug, Reboot, RebootBy, Screen, Ssh, Step, Watch, Who};
use anyhow::{Context, Result, bail, ensure};
use bakelite_vm::machine::{DEFAULT_SIZE, Medium, Record};
use bakelite_vm::{Bus, Disk, Firmware, Machine, Network, Report, Running, media};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Between two tries of ssh, and two looks at the console.
const PAUSE: Duration = Duration::from_millis(300);
/// The port that ssh is behind.
const SSH: u16 = 22;

/// A scenario being played.
pub struct Player<'a> {
    scenario: &'a Scenario,
    image: &'a Path,
    /// The key for ssh.
    key: &'a Path,
    folder: TempDir,
    media: Media,
    running: Option<Running>,
    /// The events of this boot.
    events: Vec<Value>,
    /// Bytes of the console before this boot.
    console_before: usize,
    boots: u32,
    random: fastrand::Rng,
    /// Ports of this host, by those of the machine that they lead to.
    ports: BTreeMap<u16, u16>,
    /// The line that has made the machine.
    line: Option<Line>,
    /// The server that has a bundle for it.
    server: Option<Server>,
}

impl<'a> Player<'a> {
    /// Makes the scenario's own medium.
    pub fn new(scenario: &'a Scenario, image: &'a Path, key: &'a Path, seed: u64) -> Result<Self> {
        let base = std::env::var_os("TMPDIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
        let folder = tempfile::Builder::new().prefix("bakelite-scenario-").tempdir_in(base)?;
        let media = Media::new(folder.path(), image)?;
        Ok(Self {
            scenario,
            image,
            key,
            folder,
            media,
            running: None,
            events: Vec::new(),
            console_before: 0,
            boots: 0,
            random: fastrand::Rng::with_seed(seed),
            ports: BTreeMap::new(),
            line: None,
            server: None,
        })
    }

    /// Plays all steps.
    pub fn play(&mut self) -> Result<()> {
        for (number, step) in self.scenario.steps.iter().enumerate() {
            self.step(step).with_context(|| format!("step {}", number + 1))?;
        }
        Ok(())
    }

    /// The consoles and events of all boots, for a person who looks for what went wrong.
    pub fn log(&mut self) -> String {
        self.hear(Duration::ZERO);
        let consoles = (1..=self.boots).map(|boot| {
            let bytes = std::fs::read(self.console(boot)).unwrap_or_default();
            format!("--- console of boot {boot}\n{}\n", String::from_utf8_lossy(&bytes))
        });
        let events: String = self.events.iter().map(|event| format!("{event}\n")).collect();
        format!("{}--- events of the last boot\n{events}", consoles.collect::<String>())
    }

    fn console(&self, boot: u32) -> PathBuf {
        self.folder.path().join(format!("console-{boot}.log"))
    }

    fn running(&mut self) -> Result<&mut Running> {
        self.running.as_mut().context("the machine is off")
    }

    fn step(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Boot(change) => self.boot(&self.scenario.machine.changed_by(change)),
            Step::Expect(watch) => self.expect(watch),
            Step::Fault(fault) => self.expect(&Watch {
                event: "fault".into(),
                with: [("code".to_string(), json!(fault.code))].into_iter().collect(),
                containing: Default::default(),
                within: fault.within,
            }),
            Step::Never(watch) => self.never(watch),
            Step::Count(count) => self.count(count),
            Step::Screen(screen) => self.screen(screen),
            Step::Drawn(drawn) => self.drawn(drawn),
            Step::Type(word) => Ok(self.running()?.type_line(word)?),
            Step::CutPower(cut) => self.cut_power(cut),
            Step::Reboot(reboot) => self.reboot(reboot),
            Step::Shutdown(within) => {
                self.go_down(RebootBy::Keys, within.within)?;
                self.switch_off()
            }
            Step::Link(link) => Ok(self.running()?.set_link(link.number, link.up)?),
            Step::Plug(plug) => self.plug(plug),
            Step::Unplug(name) => Ok(self.running()?.unplug(name)?),
            Step::Damage(what) => damage::damage(&self.media.boot, what),
            Step::CopyMedium(copy) => self.media.copy_boot(Some(copy.size.0)),
            Step::NewMedium(_) => self.media.new_card(),
            Step::BootFrom(name) => self.media.boot_from(name),
            Step::Flash(flash) => self.media.flash(&flash.set),
            Step::BeginLine(name) => {
                self.line = Some(Line::begin(self.folder.path(), self.image, &self.media.boot, name)?);
                Ok(())
            }
            Step::HearLine(rows) => {
                self.line = Some(Line::hear(self.folder.path(), self.image, rows)?);
                Ok(())
            }
            Step::LineSays(wanted) => self.line.as_mut().context("there is no line")?.says(wanted),
            Step::LineMerges(stick) => self.line.as_ref().context("there is no line")?.merges(&self.media.disk(stick)),
            Step::Overlay(overlay) => self.media.overlay(&overlay.text),
            Step::MakeDisk(wanted) => self.media.make_disk(wanted),
            Step::MakeStick(wanted) => self.media.make_stick(wanted),
            Step::MakeRecovery(wanted) => self.media.make_recovery(wanted),
            Step::StickSays(wanted) => recovery::says(&self.media.disk(&wanted.stick), wanted),
            Step::StickHolds(wanted) => recovery::holds(&self.media.disk(&wanted.stick), wanted),
            Step::MakeBundles(wanted) => self.media.make_bundles(wanted),
            Step::BeginServer(bundle) => self.begin_server(bundle, Reached::Here),
            Step::BeginServerBehindProxy(bundle) => self.begin_server(bundle, Reached::ByProxy),
            Step::ServerGives(gives) => {
                self.server.as_ref().context("there is no server")?.gives(*gives);
                Ok(())
            }
            Step::SameDisk(name) => self.media.same_disk(name),
            Step::StickWhole(name) => self.media.stick_is_whole(name),
            Step::KeepMedium(_) => self.media.keep_medium(),
            Step::SameMedium(_) => self.media.same_medium(),
            Step::StateFile(wanted) => self.media.file(wanted),
            Step::Check(wanted) => self.media.check(wanted),
            Step::GrowDatabase(grow) => self.media.grow_database(grow.to.0),
            Step::SetOnCard(disk) => self.media.set_on_card(disk),
            Step::DamageDatabase(kind) => self.media.damage_database(*kind),
            Step::RemoveFiles(paths) => self.media.remove_files(paths),
            Step::Replay(wanted) => self.replay(wanted),
            Step::Ssh(ssh) => self.ssh(ssh),
            Step::Fetch(_) => {
                let work = tempfile::Builder::new().prefix("fetched-").tempdir_in(self.folder.path())?;
                fetch::fetch(work.path(), self.host_port(SSH)?, &self.key.with_file_name(PULL_KEY))
            }
            Step::Port(port) => ports::look(self.host_port(port.number)?, port),
            Step::Wait(seconds) => {
                self.hear(Duration::from_secs_f64(*seconds));
                Ok(())
            }
        }
    }

    fn begin_server(&mut self, bundle: &MakeBundle, reached: Reached) -> Result<()> {
        let images = self.image.parent().context("the image is in a folder")?;
        let server = self.server.insert(Server::begin(self.folder.path(), images, bundle, reached)?);
        self.media.overlay(&server.overlay())
    }

    fn boot(&mut self, hardware: &Hardware) -> Result<()> {
        let bus = hardware.medium.unwrap_or(BootBus::On(Bus::Virtio));
        let network = self.network(hardware)?;
        let defaults = Machine::new(self.image);
        let machine = Machine {
            memory: hardware.memory.unwrap_or(defaults.memory),
            firmware: hardware.firmware.unwrap_or(Firmware::Direct),
            medium: if bus == BootBus::Absent { Medium::Absent } else { Medium::File(self.media.boot.clone()) },
            bus: if let BootBus::On(bus) = bus { bus } else { Bus::Virtio },
            size: hardware.size.map_or(DEFAULT_SIZE, |size| size.0),
            second: hardware.second,
            disks: self.disks(hardware)?,
            virtio_screen: hardware.virtio_screen.unwrap_or(false),
            attached: hardware.attached.clone().unwrap_or_default(),
            record: hardware.record.unwrap_or(false).then(|| self.record()),
            network,
            kernel_arguments: hardware.arguments.clone().unwrap_or_default(),
            ..defaults
        };
        self.boots += 1;
        self.events.clear();
        self.console_before = 0;
        let mut running = Running::start(&machine, &self.console(self.boots), None)?;
        for link in hardware.links_down.iter().flatten() {
            running.set_link(*link, false)?;
        }
        self.running = Some(running);
        Ok(())
    }

    fn disks(&self, hardware: &Hardware) -> Result<Vec<Disk>> {
        let disks = hardware.disks.iter().flatten().enumerate();
        disks.map(|(number, disk)| self.media.attach(number, disk)).collect()
    }

    fn record(&self) -> Record {
        let [whole, log] = ["recorded.img", "recorded.log"].map(|name| self.folder.path().join(name));
        Record { whole, log }
    }

    fn plug(&mut self, plug: &Plug) -> Result<()> {
        let path = self.media.disk(&plug.name);
        if !path.exists() {
            media::blank(&path, plug.size.0)?;
        }
        Ok(self.running()?.plug(&plug.name, &path)?)
    }

    /// The network, with ports of this host for ssh and for what the scenario looks at from outside.
    fn network(&mut self, hardware: &Hardware) -> Result<Network> {
        let mut network = hardware.network.clone().unwrap_or(Network::None);
        if let Network::User { forward, links, .. } = &mut network {
            *links = hardware.links.unwrap_or(*links);
            let ssh = self.scenario.needs_ssh().then_some(SSH);
            self.ports = ports::for_guest(ssh.into_iter().chain(self.scenario.ports()))?;
            forward.extend(self.ports.iter().map(|(guest, host)| (*host, *guest)));
        }
        Ok(network)
    }

    /// Takes in what is seen of the machine for some time; false when QEMU has ended.
    fn hear(&mut self, time: Duration) -> bool {
        let Some(running) = &mut self.running else { return false };
        let deadline = Instant::now() + time;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Some(seen) = running.next(left) else {
                let silent = Instant::now() < deadline;
                if silent {
                    std::thread::sleep(deadline.saturating_duration_since(Instant::now()));
                }
                return !silent;
            };
            let event = match seen.report {
                Report::Event(event) => serde_json::to_value(event).unwrap_or_default(),
                Report::Foreign(text) => json!({"event": "foreign", "text": text}),
                Report::Machine { event, reason } => json!({"event": "qemu", "name": event, "reason": reason}),
                Report::Ended => json!({"event": "qemu", "name": "ENDED", "reason": running.last_words()}),
            };
            self.events.push(event);
        }
    }

    /// Waits until something holds.
    fn until(&mut self, seconds: f64, what: &str, holds: impl Fn(&mut Self) -> bool) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs_f64(seconds);
        loop {
            if holds(self) {
                return Ok(());
            }
            if self.events.iter().any(|event| event["event"] == "qemu" && event["name"] == "ENDED") {
                bail!("QEMU ended before {what}");
            }
            if Instant::now() >= deadline {
                bail!("no {what} within {seconds} s; last: {}", self.last_events());
            }
            self.hear(PAUSE.min(deadline.saturating_duration_since(Instant::now())));
        }
    }

    fn last_events(&self) -> String {
        let last: Vec<String> = self.events.iter().rev().take(3).map(ToString::to_string).collect();
        if last.is_empty() { "no event at all".into() } else { last.join(" <- ") }
    }

    fn expect(&mut self, watch: &Watch) -> Result<()> {
        let what = words_of(watch);
        self.until(watch.within, &what, |player| player.events.iter().any(|event| watch.fits(event)))
    }

    fn never(&mut self, watch: &Watch) -> Result<()> {
        self.hear(Duration::from_secs_f64(watch.within));
        match self.events.iter().find(|event| watch.fits(event)) {
            Some(event) => bail!("there was {event}"),
            None => Ok(()),
        }
    }

    fn count(&mut self, count: &Count) -> Result<()> {
        self.hear(Duration::from_secs_f64(count.of.within));
        let found = self.events.iter().filter(|event| count.of.fits(event)).count();
        let (least, most) = (count.at_least, count.at_most);
        ensure!((least..=most).contains(&found), "{found} times {}, not {least} to {most}", words_of(&count.of));
        Ok(())
    }

    fn screen(&mut self, screen: &Screen) -> Result<()> {
        let console = self.console(self.boots);
        self.until(screen.within, &format!("{:?} on the console", screen.shows), |player| {
            let bytes = std::fs::read(&console).unwrap_or_default();
            String::from_utf8_lossy(&bytes[player.console_before.min(bytes.len())..]).contains(&screen.shows)
        })
    }

    fn drawn(&mut self, wanted: &Drawn) -> Result<()> {
        let path = self.folder.path().join("screen.ppm");
        let what = format!("{} to {} % of the screen in {:?}", wanted.at_least, wanted.at_most, wanted.colour);
        self.until(wanted.within, &what, |player| {
            let dumped = player.running().and_then(|running| Ok(running.dump_screen(&path)?));
            let picture = dumped.and_then(|()| Ok(std::fs::read(&path)?));
            let share = picture.and_then(|picture| drawn::share(&picture, wanted.colour));
            share.is_ok_and(|share| (wanted.at_least..=wanted.at_most).contains(&share))
        })
    }

    fn cut_power(&mut self, cut: &Cut) -> Result<()> {
        let at = match cut {
            Cut::Now => 0.0,
            Cut::After(seconds) => *seconds,
            Cut::Between(from, to) => from + self.random.f64() * (to - from),
            Cut::At(watch) => {
                self.expect(watch)?;
                0.0
            }
            Cut::SoonAfter(watch, seconds) => {
                self.expect(watch)?;
                self.running()?.elapsed().as_secs_f64() + self.random.f64() * seconds
            }
        };
        let elapsed = self.running()?.elapsed();
        self.hear(Duration::from_secs_f64(at).saturating_sub(elapsed));
        self.switch_off()
    }

    fn switch_off(&mut self) -> Result<()> {
        let running = self.running.take().context("the machine is off")?;
        Ok(running.cut_power()?)
    }

    fn reboot(&mut self, reboot: &Reboot) -> Result<()> {
        let reset = self.go_down(reboot.by, reboot.within)?;
        self.events.drain(..=reset);
        self.console_before = self.running()?.console_text().len();
        Ok(())
    }

    /// Has the machine go down; the place of the reset among the events.
    fn go_down(&mut self, by: RebootBy, seconds: f64) -> Result<usize> {
        self.hear(Duration::ZERO);
        // A reset that was told of twice must not be taken for this one.
        let mut before = self.events.len();
        let reason = match by {
            RebootBy::Keys => {
                self.running()?.press_keys_for_reboot()?;
                "guest-reset"
            }
            RebootBy::Button => {
                self.running()?.press_reset()?;
                "host-qmp-system-reset"
            }
            RebootBy::Itself => {
                // It says so first; a reset before that is an earlier one, told of twice.
                let says = |event: &Value| event["event"] == "shutdown";
                self.until(seconds, "word of a restart", |player| player.events.iter().any(says))?;
                before = self.events.iter().position(says).unwrap_or_default();
                "guest-reset"
            }
        };
        let is_reset = |event: &Value| event["name"] == "RESET" && event["reason"] == reason;
        self.until(seconds, "reset", |player| player.events[before..].iter().any(is_reset))?;
        let told = self.events[before..].iter().any(|event| event["event"] == "shutdown");
        ensure!(told || matches!(by, RebootBy::Button), "the machine went down without a word");
        Ok(before + self.events[before..].iter().position(is_reset).unwrap_or_default())
    }

    fn host_port(&self, guest: u16) -> Result<u16> {
        self.ports.get(&guest).copied().with_context(|| format!("the machine has no network, so no port {guest}"))
    }

    fn ssh(&mut self, ssh: &Ssh) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs_f64(ssh.within);
        let key = match ssh.who {
            Who::Operator => self.key.to_path_buf(),
            Who::Puller => self.key.with_file_name(PULL_KEY),
        };
        let (port, key) = (self.host_port(SSH)?.to_string(), key.display().to_string());
        let quiet = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "BatchMode=yes", "ConnectTimeout=10"];
        let options = quiet.iter().flat_map(|option| ["-o", option]);
        let target = ["-q", "-F", "/dev/null", "-i", &key, "-p", &port, "root@127.0.0.1", &ssh.run];
        let arguments: Vec<&str> = options.chain(target).collect();
        loop {
            self.hear(Duration::ZERO);
            let answer = door::run("ssh", &arguments, self.folder.path());
            let problem = match answer {
                Err(error) if ssh.refused.as_ref().is_some_and(|words| error.to_string().contains(words)) => {
                    return Ok(());
                }
                Ok(text) if ssh.refused.is_some() => anyhow::anyhow!("`{}` is not refused: {:?}", ssh.run, text.trim()),
                Ok(text) if text.contains(&ssh.contains) => return Ok(()),
                Ok(text) => anyhow::anyhow!("`{}` says {:?}, not {:?}", ssh.run, text.trim(), ssh.contains),
                Err(error) => error,
            };
            if Instant::now() >= deadline {
                return Err(problem);
            }
            self.hear(PAUSE);
        }
    }
}

fn words_of(watch: &Watch) -> String {
    let fields = watch.with.iter().map(|(key, value)| format!(" {key}={value}"));
    let words = watch.containing.iter().map(|(key, words)| format!(" {key}~{words:?}"));
    format!("event {}{}", watch.event, fields.chain(words).collect::<String>())
}
