//! A line of fifty with seven bad media, devices that report, and a program that is stopped anywhere.

use super::export::{Form, export};
use super::line::Line;
use super::ports::{HostPorts, Present, file_of};
use super::*;
use crate::testing::{come_up, image, seed_on};
use bakelite_disk::press::testing::{Fault, Faulty};
use bakelite_disk::press::{OpenMedium, Target};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::PathBuf;

const MIB: u64 = 1 << 20;

/// A line in a folder, with so many file ports and rows.
pub(super) struct Bench {
    folder: tempfile::TempDir,
    ports: Vec<PathBuf>,
}

impl Bench {
    pub(super) fn new(count: usize) -> Self {
        Self::with(count, "")
    }

    /// The same with more in the line's YAML.
    pub(super) fn with(count: usize, more: &str) -> Self {
        // In memory where there is a place for that: fifty media are synced some hundred times.
        let memory = Path::new("/dev/shm");
        let place = if memory.is_dir() { memory.into() } else { std::env::temp_dir() };
        let folder = tempfile::tempdir_in(place).unwrap();
        let path = image(folder.path()).unwrap();
        let sum = sha256(&path).unwrap();
        let put = |name: &str, text: &str| {
            File::create(folder.path().join(name)).unwrap().write_all(text.as_bytes()).unwrap();
        };
        let rows: String = (1..=count).map(|n| format!("{n},shop-{n},hunter2-{n}\n")).collect();
        put("rows.csv", &format!("row,hostname,seed.secrets.wifi\n{rows}"));
        let ports: Vec<PathBuf> = (1..=count).map(|n| folder.path().join(format!("card-{n}"))).collect();
        let names: Vec<String> = (1..=count).map(|n| format!("file:card-{n}")).collect();
        put(
            "line.yaml",
            &format!(
                "image: shop.img\nsha256: {sum}\nrows: rows.csv\nports: [{}]\noperator: anna\nlabel: {{text: '{{row}} {{hostname}} {{ticket}}', to: labels.txt}}\n{more}",
                names.join(", ")
            ),
        );
        Self { folder, ports }
    }

    pub(super) fn insert(&self, number: usize) {
        File::create(&self.ports[number]).unwrap();
    }

    pub(super) fn open(&self) -> Factory {
        Factory::open(&self.folder.path().join("line.yaml"), None).unwrap()
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Why the line isn't opened.
    pub(super) fn refusal(&self) -> String {
        Factory::open(&self.folder.path().join("line.yaml"), None)
            .err()
            .map_or_else(String::new, |error| error.to_string())
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }
}

/// The ports of files, with faults.
struct Bad {
    host: HostPorts,
    faults: BTreeMap<String, Fault>,
}

impl Bad {
    fn new(factory: &Factory, faults: &[(&Path, Fault)]) -> Self {
        let name = |path: &Path| format!("file:{}", path.display());
        let faults = faults.iter().map(|(path, fault)| (name(path), *fault)).collect();
        Self { host: HostPorts::new(&factory.line.ports), faults }
    }
}

impl Ports for Bad {
    fn look(&self) -> Vec<Present> {
        self.host.look()
    }

    fn open(&self, present: &Present, image: u64) -> Result<Box<dyn Target + Send>, FlashError> {
        let fault = self.faults.get(&present.port).copied().unwrap_or_default();
        let path = file_of(&present.port).unwrap();
        Ok(Box::new(Faulty::of(OpenMedium::file(&path, image).unwrap(), fault)))
    }

    fn is_doubted(&self, _: &Present) -> bool {
        true
    }
}

pub(super) const ONCE: Mode = Mode { once: true, board: None };

#[test]
fn of_fifty_media_exactly_the_seven_bad_ones_fail() {
    let bench = Bench::new(50);
    (0..50).for_each(|number| bench.insert(number));
    let factory = bench.open();
    let length = factory.image.length;
    let faults = [
        (3, Fault::Wraps(256 * MIB)),
        (8, Fault::Drops(300 * MIB)),
        (13, Fault::Short(2 * MIB + 7)),
        (21, Fault::Flips(514 * MIB + 99)),
        (34, Fault::Vanishes(2 * MIB)),
        (42, Fault::Flips(700)),
        (49, Fault::Short(length - 600)),
    ];
    let bad: Vec<(&Path, Fault)> =
        faults.iter().map(|(number, fault)| (bench.ports[*number].as_path(), *fault)).collect();
    factory.run(&Bad::new(&factory, &bad), &ONCE, &Quiet).unwrap();
    let devices = factory.devices().unwrap();
    assert_eq!(devices.len(), 50);
    for device in &devices {
        let number = bench.ports.iter().position(|path| device.port.ends_with(&path.display().to_string())).unwrap();
        let is_bad = faults.iter().any(|(bad, _)| *bad == number);
        let expected = if is_bad { State::Failed } else { State::Written };
        assert_eq!(device.state, expected, "{number}: {}", device.why);
        let seed = seed_on(&bench.ports[number]);
        assert_eq!(seed.is_none(), is_bad, "{number} boots");
        assert!(
            seed.is_none_or(|seed| seed.ticket.as_deref() == Some(&device.ticket)
                && seed.settings["hostname"] == device.node.as_str())
        );
    }
    assert_eq!(factory.rows().unwrap(), (50, 7), "the rows of the bad ones are free again");
    assert_eq!(bench.text("labels.txt").lines().count(), 43);
    let record = std::fs::read(bench.folder.path().join("line.sqlite")).unwrap();
    let log = std::fs::read(bench.folder.path().join("line.sqlite-wal")).unwrap_or_default();
    let has_secret = |bytes: &[u8]| bytes.windows(8).any(|part| part == b"hunter2-");
    assert!(!has_secret(&record) && !has_secret(&log));
    // What is plugged in stays as it is; what is replaced gets the rows that were left.
    let before = devices.len();
    factory.run(&Bad::new(&factory, &[]), &ONCE, &Quiet).unwrap();
    assert_eq!(factory.devices().unwrap().len(), before);
    for (number, _) in faults {
        std::fs::remove_file(&bench.ports[number]).unwrap();
        bench.insert(number);
    }
    factory.run(&Bad::new(&factory, &[]), &Mode::default(), &Quiet).unwrap();
    let names: BTreeSet<String> =
        bench.ports.iter().map(|path| seed_on(path).unwrap().settings["hostname"].to_string()).collect();
    assert_eq!((names.len(), factory.rows().unwrap()), (50, (50, 0)));
}

#[test]
fn a_device_passes_by_its_own_report_and_its_medium_is_never_flashed_again() {
    let bench = Bench::new(4);
    (0..3).for_each(|number| bench.insert(number));
    let factory = bench.open();
    let ports = HostPorts::new(&factory.line.ports);
    factory.run(&ports, &ONCE, &Quiet).unwrap();
    come_up(&bench.ports[0], &|_| ()).unwrap();
    come_up(&bench.ports[1], &|account| account.node = "somebody".into()).unwrap();
    assert_eq!(factory.pass(&bench.ports[0]).unwrap().1, Verdict::Good);
    assert!(matches!(factory.pass(&bench.ports[1]).unwrap().1, Verdict::Bad(_)));
    assert!(factory.pass(&bench.ports[2]).unwrap_err().to_string().contains("never came up"));
    // Plugged in at the port again: another file, the same content.
    for number in 0..3 {
        let again = bench.folder.path().join("again");
        std::fs::copy(&bench.ports[number], &again).unwrap();
        std::fs::remove_file(&bench.ports[number]).unwrap();
        std::fs::copy(&again, &bench.ports[number]).unwrap();
    }
    factory.run(&ports, &ONCE, &Quiet).unwrap();
    let states: Vec<State> = factory.devices().unwrap().iter().map(|device| device.state).collect();
    assert_eq!(states, [State::Passed, State::Rejected, State::Written]);
    let csv = export(&factory.devices().unwrap(), Form::Csv, Path::new("x")).unwrap();
    assert!(csv.contains("\ngood,1,shop-1,t-") && csv.contains("failed: never came up,3,"), "{csv}");
    let json: serde_json::Value =
        serde_json::from_str(&export(&factory.devices().unwrap(), Form::Json, Path::new("x")).unwrap()).unwrap();
    assert_eq!(json[1]["verdict"], "failed: its own report says so");
    // A stranger's medium says nothing of this line.
    let other = Bench::new(1);
    other.insert(0);
    let elsewhere = other.open();
    elsewhere.run(&HostPorts::new(&elsewhere.line.ports), &ONCE, &Quiet).unwrap();
    come_up(&other.ports[0], &|_| ()).unwrap();
    assert!(factory.pass(&other.ports[0]).unwrap_err().to_string().contains("didn't give out"));
}

#[test]
fn a_cut_while_the_first_mib_is_written_keeps_the_row_until_its_medium_comes_back() {
    let bench = Bench::new(2);
    bench.insert(0);
    let factory = bench.open();
    let ports = HostPorts::new(&factory.line.ports);
    factory.run(&ports, &ONCE, &Quiet).unwrap();
    // As if the plug had been pulled when the medium was whole and the record didn't know yet.
    let id = factory.devices().unwrap()[0].id;
    factory.record().ended(id, State::Finishing, "").unwrap();
    drop(factory);
    let whole = bench.folder.path().join("pulled-out");
    std::fs::copy(&bench.ports[0], &whole).unwrap();
    std::fs::remove_file(&bench.ports[0]).unwrap();
    bench.insert(0);
    let factory = bench.open();
    assert_eq!(factory.devices().unwrap()[0].state, State::Lost);
    factory.run(&ports, &ONCE, &Quiet).unwrap();
    assert_eq!(seed_on(&bench.ports[0]).unwrap().settings["hostname"], "shop-2", "the first row isn't given out again");
    std::fs::copy(&whole, &bench.ports[1]).unwrap();
    factory.run(&ports, &ONCE, &Quiet).unwrap();
    assert_eq!(seed_on(&bench.ports[1]).unwrap().settings["hostname"], "shop-1", "its medium came back and was wiped");
    let states: Vec<State> = factory.devices().unwrap().iter().map(|device| device.state).collect();
    assert_eq!(states, [State::Failed, State::Written, State::Written]);
}

#[test]
fn a_row_is_chosen_by_a_boards_number_and_a_wrong_line_is_told_before_anything() {
    let bench = Bench::new(3);
    bench.insert(2);
    let factory = bench.open();
    let ports = HostPorts::new(&factory.line.ports);
    let mode = Mode { once: true, board: Some("2".into()) };
    factory.run(&ports, &mode, &Quiet).unwrap();
    assert_eq!(seed_on(&bench.ports[2]).unwrap().settings["hostname"], "shop-2");
    bench.insert(1);
    assert!(factory.run(&ports, &mode, &Quiet).unwrap_err().to_string().contains("was given to a medium already"));
    let told = |change: (&str, &str)| {
        let text = bench.text("line.yaml").replace(change.0, change.1);
        let path = bench.folder.path().join("other.yaml");
        File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
        Factory::open(&path, None).err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert!(told(("sha256: ", "sha256: 0")).contains("takes the sum"));
    let sum = &factory.line.sha256;
    assert!(told((sum, &"0".repeat(64))).contains("not the image that was pinned"));
    assert!(told(("operator: anna", "operater: anna")).contains("operater"));
    assert!(told(("operator: anna", "record: line.sqlite")).contains("another program"));
    assert!(Line::read(&bench.folder.path().join("none.yaml")).is_err());
}
