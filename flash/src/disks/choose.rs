//! Which disks may be overwritten: pure decisions over what was seen. A doubt refuses, with what to type instead.

use super::Disk;
use crate::error::FlashError;
use bakelite_spec::quantity::Size;
use std::path::Path;

/// A larger disk is hardly a card or a stick: it has to be named by what can't be mistaken.
pub const BIG: Size = Size(256 << 30);
/// Folders of device files whose names stay.
const BY_PORT: &str = "/dev/disk/by-path/";
const BY_IDENTITY: &str = "/dev/disk/by-id/";

/// A disk that somebody named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named<'a> {
    /// Which.
    pub disk: &'a Disk,
    /// Whether by its serial number or its port: names that don't move from one disk to another.
    pub surely: bool,
}

/// The disk that a word means: a device file, `serial:NUMBER` or `port:NAME`. `resolve` follows links.
///
/// # Errors
/// When there is none, or the word means a partition or two disks.
pub fn named<'a>(
    word: &str,
    disks: &'a [Disk],
    resolve: &dyn Fn(&str) -> Option<String>,
) -> Result<Named<'a>, FlashError> {
    let none = || FlashError::NoSuchDisk(word.into());
    let one = |found: Vec<&'a Disk>| match found[..] {
        [] => Err(none()),
        [disk] => Ok(Named { disk, surely: true }),
        [..] => {
            Err(FlashError::Refused { device: word.into(), why: "several disks are called so; use port:NAME".into() })
        }
    };
    if let Some(serial) = word.strip_prefix("serial:") {
        return one(disks.iter().filter(|disk| !serial.is_empty() && disk.serial == serial).collect());
    }
    if let Some(port) = word.strip_prefix("port:") {
        let port = port.strip_prefix(BY_PORT).unwrap_or(port);
        return one(disks.iter().filter(|disk| !port.is_empty() && disk.port == port).collect());
    }
    let name = resolve(word).ok_or_else(none)?;
    let surely = word.starts_with(BY_PORT) || word.starts_with(BY_IDENTITY);
    if let Some(disk) = disks.iter().find(|disk| disk.name == name) {
        return Ok(Named { disk, surely });
    }
    let whole = disks.iter().filter(|disk| is_partition(&name, &disk.name)).max_by_key(|disk| disk.name.len());
    Err(whole.map_or_else(none, |disk| FlashError::Refused {
        device: word.into(),
        why: format!("it is a partition; an image goes onto a whole disk: /dev/{}", disk.name),
    }))
}

/// Whether a name is that of a partition of a disk, by the kernel's rule for names.
fn is_partition(name: &str, disk: &str) -> bool {
    let joint = if disk.ends_with(|c: char| c.is_ascii_digit()) { "p" } else { "" };
    let number = name.strip_prefix(disk).and_then(|rest| rest.strip_prefix(joint));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Why a disk may never be overwritten now, whoever names it.
pub fn barred(disk: &Disk) -> Option<String> {
    let users = disk.users.join("; ");
    if disk.system {
        return Some(format!("this machine runs from it ({users})"));
    }
    if !disk.users.is_empty() {
        return Some(format!("it is in use: {users}. Unmount it first: umount {}?*", disk.device().display()));
    }
    if disk.size == 0 {
        return Some("there is no medium in it".into());
    }
    if disk.read_only {
        return Some("it is write-protected: look for the card's little switch".into());
    }
    if disk.sector > 512 {
        return Some(format!("it has sectors of {} bytes, and images are made for 512", disk.sector));
    }
    None
}

/// Why a disk isn't what people flash, so that its name alone isn't enough.
pub fn doubted(disk: &Disk) -> Option<String> {
    let how = match (disk.port.is_empty(), disk.serial.is_empty()) {
        (false, _) => format!("port:{}", disk.port),
        (true, false) => format!("serial:{}", disk.serial),
        (true, true) => return (!disk.removable && disk.transport != "loop").then(|| "it is built in".into()),
    };
    let what = match disk.removable || disk.transport == "loop" {
        false => "it is built in".into(),
        true if disk.size > BIG.0 => format!("it is larger than {}", BIG.human()),
        true => return None,
    };
    Some(format!("{what} ({}); if it is really meant, name it so: {how}", disk.words()))
}

/// Whether a disk that was named may be overwritten.
///
/// # Errors
/// Why not, and what to type.
pub fn permit(named: &Named<'_>, image: u64) -> Result<(), FlashError> {
    let disk = named.disk;
    let why = barred(disk).or_else(|| doubted(disk).filter(|_| !named.surely)).or_else(|| too_small(disk, image));
    let device = || disk.device().display().to_string();
    why.map_or(Ok(()), |why| Err(FlashError::Refused { device: device(), why }))
}

fn too_small(disk: &Disk, image: u64) -> Option<String> {
    (disk.size < image)
        .then(|| format!("it has {}, and the image needs {}", Size(disk.size).human(), Size(image).human()))
}

/// The disks that are offered where none was named, the others not even by mistake.
pub fn candidates(disks: &[Disk], image: u64) -> Vec<&Disk> {
    let offered = |disk: &&Disk| {
        disk.transport != "loop"
            && barred(disk).is_none()
            && doubted(disk).is_none()
            && too_small(disk, image).is_none()
    };
    disks.iter().filter(offered).collect()
}

/// The disk that came back under another name after it had vanished.
pub fn again<'a>(before: &Disk, now: &'a [Disk]) -> Option<&'a Disk> {
    now.iter().find(|disk| before.is_again(disk))
}

/// The kernel's name of what a path leads to.
pub fn resolve(path: &str) -> Option<String> {
    use std::os::unix::fs::FileTypeExt;
    let real = std::fs::canonicalize(Path::new(path)).ok()?;
    let is_device = std::fs::metadata(&real).is_ok_and(|found| found.file_type().is_block_device());
    is_device.then(|| real.file_name().map(|name| name.to_string_lossy().into_owned()))?
}
