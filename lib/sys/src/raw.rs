//! The only file with `unsafe`: ioctls and what a child does between fork and exec.
//!
//! Each block says why it is sound. Nothing here decides; callers pass plain values and get `io::Result`.
#![expect(unsafe_code, reason = "the one file of the device side that may; each block gives its reason")]

use rustix::process::{Resource, Rlimit, setrlimit, setsid};
use std::ffi::{CStr, c_int, c_longlong, c_void};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Restarts the machine, with words for whoever starts it again; returns only where the kernel refuses.
pub fn restart_with(argument: &CStr) {
    let (first, second) = (nix::libc::LINUX_REBOOT_MAGIC1, nix::libc::LINUX_REBOOT_MAGIC2);
    // SAFETY: reboot(2) reads its fourth argument as a string with a zero at its end, which outlives the call.
    unsafe {
        nix::libc::syscall(
            nix::libc::SYS_reboot,
            first,
            second,
            nix::libc::LINUX_REBOOT_CMD_RESTART2,
            argument.as_ptr(),
        )
    };
}

/// Has a command start with no signal blocked: children inherit PID 1's mask, and a blocked SIGTERM is never seen.
pub fn unblock_signals(command: &mut Command) {
    // SAFETY: as in `prepare`: one system call on a value on the stack.
    unsafe {
        command.pre_exec(|| nix::sys::signal::SigSet::empty().thread_set_mask().map_err(Into::into));
    }
}

/// Gives back memory that was freed, and program code that start-up needed once; what is used again comes back by itself.
pub fn return_memory() {
    // SAFETY: takes no pointer, and may be called at any time.
    unsafe { nix::libc::malloc_trim(0) };
    let Ok(program) = std::fs::read_link("/proc/self/exe") else { return };
    let program = program.to_string_lossy().into_owned();
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    for (start, end) in unchanged(&maps, &program) {
        // SAFETY: the range is a mapping of this program's file that nobody can write and of which no page was ever
        // changed: its pages are the file's, and the kernel reads them from there again when they are next touched.
        unsafe { nix::libc::madvise(start as *mut c_void, end - start, nix::libc::MADV_DONTNEED) };
    }
}

/// The mappings of a file that can't be written and have no page of their own, from /proc/self/smaps.
fn unchanged(maps: &str, program: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut candidate = None;
    for line in maps.lines() {
        if let Some(own) = line.strip_prefix("Anonymous:") {
            found.extend(candidate.take().filter(|_| own.trim() == "0 kB"));
        } else if let Some((start, end)) = line.split_once(' ').and_then(|(range, _)| range.split_once('-')) {
            let number = |text: &str| usize::from_str_radix(text, 16).ok();
            let fixed =
                line.split(' ').nth(1).is_some_and(|rights| rights.starts_with("r-")) && line.ends_with(program);
            candidate = number(start).zip(number(end)).filter(|_| fixed);
        }
    }
    found
}

/// Whether the kernel's clock was set by a time service that says so (chrony does, by `rtcsync`).
pub fn clock_is_synchronised() -> bool {
    // SAFETY: a `timex` of zeros is a valid one that asks for no change, and the call writes to nothing else.
    let (state, status) = unsafe {
        let mut asked: nix::libc::timex = std::mem::zeroed();
        (nix::libc::adjtimex(&raw mut asked), asked.status)
    };
    state != -1 && status & nix::libc::STA_UNSYNC == 0
}

/// What a child does before exec.
pub struct Preparation {
    /// An open `cgroup.procs` to enter.
    pub cgroup: Option<OwnedFd>,
    /// RLIMIT_NOFILE.
    pub open_files: Option<u64>,
    /// oom_score_adj.
    pub oom_score: i16,
}

/// Has a command do what a [`Preparation`] says, after fork and before exec.
pub fn prepare(command: &mut Command, preparation: Preparation) {
    let score = format!("{}\n", preparation.oom_score);
    // SAFETY: between fork and exec only async-signal-safe calls are allowed. The closure makes plain system calls on
    // descriptors and buffers that were made before the fork; it neither allocates nor takes a lock.
    unsafe {
        command.pre_exec(move || {
            if let Some(cgroup) = &preparation.cgroup {
                rustix::io::write(cgroup, b"0")?;
            }
            setsid()?;
            if let Some(limit) = preparation.open_files {
                setrlimit(Resource::Nofile, Rlimit { current: Some(limit), maximum: Some(limit) })?;
            }
            let file =
                rustix::fs::open(c"/proc/self/oom_score_adj", rustix::fs::OFlags::WRONLY, rustix::fs::Mode::empty())?;
            rustix::io::write(&file, score.as_bytes())?;
            Ok(())
        });
    }
}

#[repr(C)]
struct BlkpgPartition {
    start: c_longlong,
    length: c_longlong,
    number: c_int,
    names: [u8; 128],
}

#[repr(C)]
struct BlkpgArgument {
    operation: c_int,
    flags: c_int,
    length: c_int,
    data: *mut c_void,
}

mod request {
    //! The requests by their numbers in linux/blkpg.h, linux/fs.h (FIFREEZE among them), linux/kd.h and linux/watchdog.h.
    use std::ffi::c_int;
    nix::ioctl_write_ptr_bad!(blkpg, 0x1269, super::BlkpgArgument);
    nix::ioctl_none_bad!(blkflsbuf, 0x1261);
    nix::ioctl_none_bad!(blkrrpart, 0x125f);
    nix::ioctl_write_ptr_bad!(blkroset, 0x125d, c_int);
    nix::ioctl_readwrite!(fifreeze, b'X', 119, c_int);
    nix::ioctl_readwrite!(fithaw, b'X', 120, c_int);
    nix::ioctl_readwrite!(fitrim, b'X', 121, [u64; 3]);
    nix::ioctl_readwrite!(watchdog_set_timeout, b'W', 6, c_int);
    nix::ioctl_read!(watchdog_get_timeout, b'W', 7, c_int);
    nix::ioctl_write_ptr!(fs_set_label, 0x94, 50, [u8; 256]);
    nix::ioctl_write_int_bad!(kdsetmode, 0x4b3a);
    // linux/loop.h
    nix::ioctl_none_bad!(loop_get_free, 0x4c82);
    nix::ioctl_write_ptr_bad!(loop_configure, 0x4c0a, [u8; super::LOOP_CONFIG]);
    // linux/nvme_ioctl.h and scsi/sg.h
    nix::ioctl_readwrite!(nvme_admin, b'N', 0x41, super::NvmeCommand);
    nix::ioctl_readwrite_bad!(scsi, 0x2285, super::ScsiCommand);
}

/// struct nvme_passthru_cmd.
#[repr(C)]
#[derive(Default)]
struct NvmeCommand {
    /// Opcode, flags, two reserved bytes.
    head: [u8; 4],
    namespace: u32,
    words_2_3: [u32; 2],
    metadata: u64,
    address: u64,
    metadata_length: u32,
    length: u32,
    words_10_15: [u32; 6],
    milliseconds: u32,
    result: u32,
}

/// struct sg_io_hdr.
#[repr(C)]
struct ScsiCommand {
    interface: c_int,
    direction: c_int,
    command_length: u8,
    sense_length: u8,
    pieces: u16,
    length: u32,
    data: *mut c_void,
    command: *const u8,
    sense: *mut u8,
    milliseconds: u32,
    flags: u32,
    pack: c_int,
    user: *mut c_void,
    status: u8,
    masked_status: u8,
    message_status: u8,
    sense_written: u8,
    host_status: u16,
    driver_status: u16,
    residue: c_int,
    duration: u32,
    info: u32,
}

/// Bytes of a page of a disk's own records.
pub const PAGE: usize = 512;
/// How long a disk may take to answer, in milliseconds.
const PATIENCE: u32 = 5_000;

/// Reads a log page of an NVMe controller (NVM Express Base Specification, Get Log Page). Nothing on the disk changes.
///
/// # Errors
/// The kernel's answer, or that the controller has no such page.
pub fn nvme_page(disk: &File, number: u8) -> io::Result<[u8; PAGE]> {
    const GET_LOG_PAGE: u8 = 0x02;
    let mut page = [0u8; PAGE];
    let mut words_10_15 = [0; 6];
    // The count of four-byte words but one stands above the page's number.
    words_10_15[0] = (PAGE as u32 / 4 - 1) << 16 | u32::from(number);
    let mut command = NvmeCommand {
        head: [GET_LOG_PAGE, 0, 0, 0],
        namespace: u32::MAX,
        address: page.as_mut_ptr() as u64,
        length: PAGE as u32,
        words_10_15,
        milliseconds: PATIENCE,
        ..NvmeCommand::default()
    };
    // SAFETY: the structure has the kernel's layout, and names a buffer of the length that it says; both outlive the call.
    let status = unsafe { request::nvme_admin(disk.as_raw_fd(), &raw mut command) }?;
    if status == 0 { Ok(page) } else { Err(io::ErrorKind::Unsupported.into()) }
}

/// Reads a page of one of an ATA disk's logs (ACS-3, READ LOG EXT, by SAT's ATA PASS-THROUGH). Nothing on the disk changes.
///
/// # Errors
/// The kernel's answer, or that the disk has no such log.
pub fn ata_page(disk: &File, log: u8, number: u8) -> io::Result<[u8; PAGE]> {
    const PASS_THROUGH: u8 = 0x85;
    /// PIO to the host, with 48 bits of address.
    const PROTOCOL: u8 = 4 << 1 | 1;
    /// From the disk, in blocks, as many as the count says.
    const TRANSFER: u8 = 1 << 3 | 1 << 2 | 2;
    const READ_LOG: u8 = 0x2f;
    const FROM_DISK: c_int = -3;
    let (mut page, mut sense) = ([0u8; PAGE], [0u8; 32]);
    let command = [PASS_THROUGH, PROTOCOL, TRANSFER, 0, 0, 0, 1, 0, log, 0, number, 0, 0, 0, READ_LOG, 0];
    let mut asked = ScsiCommand {
        interface: c_int::from(b'S'),
        direction: FROM_DISK,
        command_length: command.len() as u8,
        sense_length: sense.len() as u8,
        pieces: 0,
        length: PAGE as u32,
        data: page.as_mut_ptr().cast(),
        command: command.as_ptr(),
        sense: sense.as_mut_ptr(),
        milliseconds: PATIENCE,
        flags: 0,
        pack: 0,
        user: std::ptr::null_mut(),
        status: 0,
        masked_status: 0,
        message_status: 0,
        sense_written: 0,
        host_status: 0,
        driver_status: 0,
        residue: 0,
        duration: 0,
        info: 0,
    };
    // SAFETY: the structure has the kernel's layout, and names buffers of the lengths that it says; all outlive the call.
    unsafe { request::scsi(disk.as_raw_fd(), &raw mut asked) }?;
    let is_whole = asked.status == 0 && asked.host_status == 0 && asked.driver_status == 0 && asked.residue == 0;
    if is_whole { Ok(page) } else { Err(io::ErrorKind::Unsupported.into()) }
}

/// What a terminal of the screen shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terminal {
    /// What is written to it.
    Text,
    /// Nothing: a program draws by itself.
    Graphics,
}

/// Has a terminal of the screen show text, or leave the screen alone.
///
/// # Errors
/// The kernel's answer.
pub fn set_terminal(terminal: &File, mode: Terminal) -> io::Result<()> {
    let mode: c_int = if mode == Terminal::Graphics { 1 } else { 0 };
    // SAFETY: the request takes a number.
    unsafe { request::kdsetmode(terminal.as_raw_fd(), mode) }.map(drop).map_err(Into::into)
}

/// Bytes of struct loop_config.
const LOOP_CONFIG: usize = 304;

/// What the kernel is told of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tell {
    /// There is a new one.
    Add,
    /// It is longer now.
    Resize,
}

/// Tells the kernel of one partition (BLKPG), which works while others of the disk are in use. Bytes.
///
/// # Errors
/// The kernel's answer, such as EBUSY where the partition is known already.
pub fn tell_partition(disk: &File, tell: Tell, number: u32, start: u64, length: u64) -> io::Result<()> {
    let whole = |value: u64| c_longlong::try_from(value).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
    let mut partition =
        BlkpgPartition { start: whole(start)?, length: whole(length)?, number: number as c_int, names: [0; 128] };
    let argument = BlkpgArgument {
        operation: if tell == Tell::Add { 1 } else { 3 },
        flags: 0,
        length: size_of::<BlkpgPartition>() as c_int,
        data: (&raw mut partition).cast(),
    };
    // SAFETY: both structures have the kernel's layout (linux/blkpg.h) and outlive the call.
    unsafe { request::blkpg(disk.as_raw_fd(), &raw const argument) }.map(drop).map_err(Into::into)
}

/// Has the kernel read a disk's partition table again, which works only while none of its partitions is in use.
///
/// # Errors
/// The kernel's answer.
pub fn read_table_again(disk: &File) -> io::Result<()> {
    // SAFETY: the request takes no argument.
    unsafe { request::blkrrpart(disk.as_raw_fd()) }.map(drop).map_err(Into::into)
}

/// Has the kernel refuse every write to a disk or partition, or take them again.
///
/// # Errors
/// The kernel's answer.
pub fn set_read_only(disk: &File, read_only: bool) -> io::Result<()> {
    let value = c_int::from(read_only);
    // SAFETY: the request reads one int, which outlives the call.
    unsafe { request::blkroset(disk.as_raw_fd(), &raw const value) }.map(drop).map_err(Into::into)
}

/// Writes a mounted file system out of its journal to its places, so that it reads the same without the journal.
///
/// # Errors
/// Where the file system can't be frozen.
pub fn empty_journal(folder: &File) -> io::Result<()> {
    let mut unused: c_int = 0;
    // SAFETY: the requests take an int that they don't use; it outlives the calls.
    unsafe { request::fifreeze(folder.as_raw_fd(), &raw mut unused) }?;
    // SAFETY: as above.
    unsafe { request::fithaw(folder.as_raw_fd(), &raw mut unused) }.map(drop).map_err(Into::into)
}

/// Tells the medium of a mounted file system which bytes of a range hold nothing (FITRIM); how many these are.
///
/// # Errors
/// Where the file system or the medium can't.
pub fn trim(folder: &File, start: u64, length: u64) -> io::Result<u64> {
    // struct fstrim_range of linux/fs.h: start, length, shortest extent; the kernel puts the sum into the second.
    let mut range = [start, length, 0];
    // SAFETY: the request reads and writes three u64, which outlive the call.
    unsafe { request::fitrim(folder.as_raw_fd(), &raw mut range) }?;
    Ok(range[1])
}

/// Drops the kernel's cached blocks of a disk, having written the dirty ones.
///
/// # Errors
/// The kernel's answer.
pub fn flush_cached_blocks(disk: &File) -> io::Result<()> {
    // SAFETY: the request takes no argument.
    unsafe { request::blkflsbuf(disk.as_raw_fd()) }.map(drop).map_err(Into::into)
}

/// Sets a watchdog's time-out in seconds and returns what the hardware made of it.
///
/// # Errors
/// Where the driver can't.
pub fn set_watchdog(device: &File, seconds: u32) -> io::Result<u32> {
    let mut value = c_int::try_from(seconds).unwrap_or(c_int::MAX);
    // SAFETY: the request reads and writes one int, which outlives the call.
    unsafe { request::watchdog_set_timeout(device.as_raw_fd(), &raw mut value) }?;
    Ok(value.unsigned_abs())
}

/// A watchdog's time-out in seconds.
///
/// # Errors
/// Where the driver doesn't tell.
pub fn watchdog(device: &File) -> io::Result<u32> {
    let mut value: c_int = 0;
    // SAFETY: the request writes one int, which outlives the call.
    unsafe { request::watchdog_get_timeout(device.as_raw_fd(), &raw mut value) }?;
    Ok(value.unsigned_abs())
}

/// Sets the label of the mounted file system that a file or folder is on.
///
/// # Errors
/// Where the file system can't, or the label is too long.
pub fn set_label(file: &File, label: &str) -> io::Result<()> {
    let mut bytes = [0u8; 256];
    let room = bytes.get_mut(..label.len()).filter(|room| room.len() < 255).ok_or(io::ErrorKind::InvalidInput)?;
    room.copy_from_slice(label.as_bytes());
    // SAFETY: the request reads 256 bytes (FSLABEL_MAX), which outlive the call, with a zero behind the label.
    unsafe { request::fs_set_label(file.as_raw_fd(), &raw const bytes) }.map(drop).map_err(Into::into)
}

/// The number of a loop device that nobody uses.
///
/// # Errors
/// The kernel's answer.
pub fn free_loop(control: &File) -> io::Result<u32> {
    // SAFETY: the request takes no argument; its answer is the number.
    let number = unsafe { request::loop_get_free(control.as_raw_fd()) }?;
    u32::try_from(number).map_err(io::Error::other)
}

/// Makes a loop device show a file, read-only, until nobody uses the device any more.
///
/// # Errors
/// The kernel's answer, such as EBUSY where somebody else was faster.
pub fn show_file(device: &File, file: &File) -> io::Result<()> {
    const FLAGS_AT: usize = 60;
    const READ_ONLY: u32 = 1;
    const AUTO_CLEAR: u32 = 4;
    // struct loop_config: the file's descriptor, the size of a block (0: the kernel's choice), struct loop_info64, of which
    // only lo_flags is said, and room for later.
    let mut config = [0u8; LOOP_CONFIG];
    config[..4].copy_from_slice(&file.as_raw_fd().to_ne_bytes());
    config[FLAGS_AT..FLAGS_AT + 4].copy_from_slice(&(READ_ONLY | AUTO_CLEAR).to_ne_bytes());
    // SAFETY: the request reads a structure of this size, which outlives the call, and takes its own hold of the file.
    unsafe { request::loop_configure(device.as_raw_fd(), &raw const config) }.map(drop).map_err(Into::into)
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_what_was_never_changed_is_given_back() {
        let maps = "1000-2000 r--p 00000000 08:01 1 /init\nAnonymous: 0 kB\n\
            2000-3000 r-xp 00001000 08:01 1 /init\nRss: 4 kB\nAnonymous:             0 kB\n\
            3000-4000 r--p 00002000 08:01 1 /init\nAnonymous:  4 kB\n\
            4000-5000 rw-p 00003000 08:01 1 /init\nAnonymous: 0 kB\n\
            5000-6000 r--p 00000000 08:01 1 /other\nAnonymous: 0 kB\n";
        assert_eq!(super::unchanged(maps, "/init"), [(0x1000, 0x2000), (0x2000, 0x3000)]);
        super::return_memory();
    }

    #[test]
    fn the_kernels_structures_have_their_lengths() {
        assert_eq!(size_of::<super::NvmeCommand>(), 72);
        assert_eq!(size_of::<super::ScsiCommand>(), if size_of::<usize>() == 8 { 88 } else { 64 });
        let nobody = std::fs::File::open("/dev/null").unwrap();
        assert!(super::nvme_page(&nobody, 2).is_err() && super::ata_page(&nobody, 4, 7).is_err());
    }
}
