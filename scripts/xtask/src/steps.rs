//! The steps of a scenario. scripts/scenarios/README.md explains them with examples.

mod damage;
mod replay;
mod sticks;

pub use damage::{Damage, DamageDatabase};
pub use replay::{Mark, Replay, Span};
pub use sticks::{
    DamageBundle, Gives, Granted, MakeApps, MakeBundle, MakeBundles, MakeRecovery, MakeSet, MakeStick, StickHolds,
    StickSays,
};

use crate::hardware::Hardware;
use bakelite_spec::fault::Code;
use bakelite_spec::quantity::Size;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// One step.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Switches the machine on.
    Boot(Box<Hardware>),
    /// Waits for an event of this boot.
    Expect(Watch),
    /// Waits for a fault of this boot.
    Fault(ExpectFault),
    /// Watches that no such event comes for some time.
    Never(Watch),
    /// Counts such events for some time.
    Count(Count),
    /// Waits for words on the console.
    Screen(Screen),
    /// Waits until the screen is of one colour as far as is said.
    Drawn(Drawn),
    /// Types a word and Enter at the machine's keyboard.
    Type(String),
    /// Pulls the plug.
    CutPower(Cut),
    /// Restarts the machine and waits until it has.
    Reboot(Reboot),
    /// Has the machine go down in order and switches it off then.
    Shutdown(Within),
    /// Plugs a cable in or pulls it.
    Link(Link),
    /// Plugs a USB stick in.
    Plug(Plug),
    /// Pulls a disk out.
    Unplug(String),
    /// Damages the boot medium while the machine is off.
    Damage(Damage),
    /// Copies the boot medium to a bigger one while the machine is off.
    CopyMedium(CopyMedium),
    /// Puts a fresh medium of the image in place of the boot medium.
    NewMedium(Nothing),
    /// A disk of the machine takes the place of the boot medium while the machine is off.
    BootFrom(String),
    /// Flashes the image onto the boot medium with the command, as a person does, while the machine is off.
    Flash(Flash),
    /// While the machine is off: a factory line flashes the boot medium as the machine of this name, and listens from then on.
    BeginLine(String),
    /// While the machine is off: a factory line without ports, with this table, listens from then on.
    HearLine(String),
    /// Waits until the line has heard of the machine.
    LineSays(LineSays),
    /// While the machine is off: the line, which has heard of its one machine, takes over what an installer stick has recorded.
    LineMerges(String),
    /// Writes a person's `bakelite.yaml` onto the boot partition while the machine is off.
    Overlay(Overlay),
    /// Makes a disk while the machine is off.
    MakeDisk(MakeDisk),
    /// While the machine is off: a stick with a set of the cluster that lives on the card.
    MakeStick(MakeStick),
    /// Makes a recovery stick for the machines of the scenario's appliance while the machine is off.
    MakeRecovery(MakeRecovery),
    /// While the machine is off: a stick with bundles, made by the command of images that were baked.
    MakeBundles(MakeBundles),
    /// While the machine is off: a server on this host has this bundle from now on, and the machine's overlay says where.
    BeginServer(MakeBundle),
    /// The same by HTTPS, for which the machine needs this host's proxy.
    BeginServerBehindProxy(MakeBundle),
    /// What that server gives from now on.
    ServerGives(Gives),
    /// Looks, while the machine is off, at the backups on a stick that was pulled out or in when the plug was pulled.
    StickWhole(String),
    /// While the machine is off: what an installer stick has recorded of a row.
    StickSays(StickSays),
    /// While the machine is off: what lies on a recovery stick.
    StickHolds(StickHolds),
    /// Looks whether a disk that was made is the same, byte for byte.
    SameDisk(String),
    /// Remembers what is on the boot medium while the machine is off.
    KeepMedium(Nothing),
    /// Looks whether the boot medium is as it was remembered, byte for byte.
    SameMedium(Nothing),
    /// Looks at a file on the state partition, or a data disk, while the machine is off.
    StateFile(StateFile),
    /// Checks the file system of the state partition, or of a data disk, while the machine is off.
    Check(Check),
    /// Puts rows into k3s's database on the card while the machine is off.
    GrowDatabase(GrowDatabase),
    /// While the machine is off: a set of the cluster on this data disk, on the card for the machine's own key.
    SetOnCard(String),
    /// Damages k3s's database on the card while the machine is off.
    DamageDatabase(DamageDatabase),
    /// Removes files from the state partition while the machine is off.
    RemoveFiles(Vec<String>),
    /// Ends the recording of this boot, and replays it up to many moments.
    Replay(Replay),
    /// Runs a command on the machine.
    Ssh(Ssh),
    /// Fetches backups with the controller's script from the documentation.
    Fetch(Nothing),
    /// Looks whether a port of the machine answers, from outside.
    Port(Port),
    /// Lets time pass.
    Wait(f64),
}

/// A `bakelite.yaml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overlay {
    pub text: String,
}

/// Events to look for: their name, fields that are equal, fields that contain words, and for how long to look.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Watch {
    /// The event's name, such as `ready`.
    pub event: String,
    /// Fields with their values.
    #[serde(default)]
    pub with: Map<String, Value>,
    /// Fields with words that they contain.
    #[serde(default)]
    pub containing: BTreeMap<String, String>,
    /// Seconds.
    #[serde(alias = "for")]
    pub within: f64,
}

impl Watch {
    /// Whether an event is such a one.
    pub fn fits(&self, event: &Value) -> bool {
        event["event"] == self.event.as_str()
            && self.with.iter().all(|(key, value)| event.get(key) == Some(value))
            && self.containing.iter().all(|(key, words)| event[key].as_str().is_some_and(|text| text.contains(words)))
    }
}

/// A fault to wait for.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectFault {
    /// Its code.
    pub code: Code,
    /// Seconds.
    pub within: f64,
}

/// How many of some events there may be.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Count {
    /// Which, and for how long they are counted.
    pub of: Watch,
    /// At least so many.
    #[serde(default)]
    pub at_least: usize,
    /// At most so many.
    pub at_most: usize,
}

/// How much of the screen has a colour.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Drawn {
    /// Red, green and blue.
    pub colour: [u8; 3],
    /// At least so many percent.
    #[serde(default)]
    pub at_least: usize,
    /// At most so many percent.
    #[serde(default = "all")]
    pub at_most: usize,
    /// Seconds.
    pub within: f64,
}

fn all() -> usize {
    100
}

/// Words on the console.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Screen {
    /// The words.
    pub shows: String,
    /// Seconds.
    pub within: f64,
}

/// When the plug is pulled.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Cut {
    /// At once.
    Now,
    /// So many seconds after power-on.
    After(f64),
    /// At a random moment between two, in seconds after power-on.
    Between(f64, f64),
    /// When an event comes.
    At(Watch),
    /// At a random moment of so many seconds after an event.
    SoonAfter(Watch, f64),
}

/// How a machine is restarted.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reboot {
    /// What does it.
    pub by: RebootBy,
    /// Seconds until it has gone down.
    pub within: f64,
}

/// What restarts a machine.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RebootBy {
    /// Ctrl-Alt-Del: in order.
    Keys,
    /// The reset button: at once.
    Button,
    /// Nobody: it has a reason of its own.
    Itself,
}

/// A time.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Within {
    /// Seconds.
    pub within: f64,
}

/// A cable.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// The link's number, from 0.
    pub number: u8,
    /// Whether it is plugged in.
    pub up: bool,
}

/// A port of the machine, as a program on another one finds it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// The port.
    pub number: u16,
    /// Whether bytes come back.
    pub answers: bool,
    /// Seconds: until it answers, or in which it doesn't.
    pub within: f64,
}

/// A USB disk.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plug {
    /// The name for `unplug`.
    pub name: String,
    /// The size of one that isn't there yet.
    #[serde(default)]
    pub size: Size,
}

/// A flash of the boot medium.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flash {
    /// The keys of its seed, with their values.
    #[serde(default)]
    pub set: BTreeMap<String, String>,
}

/// What a line's record has to say of its one device.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LineSays {
    /// The verdict, such as `good`.
    pub verdict: String,
    /// How its report came: `medium` or `network`.
    pub heard: String,
    /// Seconds.
    pub within: f64,
}

/// A step with nothing to say.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// A disk that is made.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MakeDisk {
    /// Its name.
    pub name: String,
    /// Its size.
    pub size: Size,
    /// What somebody else has on it; nothing without a word.
    #[serde(default)]
    pub holds: Option<Holds>,
}

/// What somebody else has on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Holds {
    /// An ext4 with a file, labelled BACKUPS.
    Ext4,
    /// An exFAT without a file, labelled BACKUPS.
    Exfat,
    /// A LUKS header.
    Luks,
    /// Bytes without a meaning.
    Noise,
    /// A FAT without a file, labelled BACKUPS.
    Fat,
}

/// A check of a file system.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Check {
    /// The data disk; without one the state partition.
    #[serde(default)]
    pub disk: Option<String>,
    /// Whether it was unmounted in order and needs nothing at all.
    #[serde(default)]
    pub in_order: bool,
    /// Whether k3s's database is there, whole, and never older than at an earlier check.
    #[serde(default)]
    pub database: bool,
}

/// A larger database.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrowDatabase {
    /// Its size.
    pub to: Size,
}

/// A bigger medium.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CopyMedium {
    /// Its size.
    pub size: Size,
}

/// A file on the state partition or a data disk.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct StateFile {
    /// The data disk; without one the state partition.
    #[serde(default)]
    pub disk: Option<String>,
    /// Its path there.
    pub path: String,
    /// Words that it contains; without any, it only has to be there.
    #[serde(default)]
    pub contains: String,
    /// Whether it has to be absent instead.
    #[serde(default)]
    pub absent: bool,
    /// A name under which its content is remembered.
    #[serde(default)]
    pub keep_as: Option<String>,
    /// The name of a remembered content that it has to have.
    #[serde(default)]
    pub same_as: Option<String>,
}

/// A command on the machine.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ssh {
    /// The command.
    pub run: String,
    /// Words that its output contains.
    #[serde(default)]
    pub contains: String,
    /// It has to fail with these words instead.
    #[serde(default)]
    pub refused: Option<String>,
    /// With whose key.
    #[serde(default, rename = "as")]
    pub who: Who,
    /// Seconds until it has succeeded; it is tried again until then.
    pub within: f64,
}

/// Whose key opens the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Who {
    /// The operator's.
    #[default]
    Operator,
    /// That of a controller which fetches backups.
    Puller,
}
