//! What the proofs share: the command, one full cache with its lock and a reference image, and a bench for each test.
//!
//! A bench has a folder of its own with a configuration, a place for outputs, one for temporary files, and a cache whose
//! entries are links into the shared one. So a test may spoil whatever it likes by replacing files, never by writing
//! into them.

use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use tempfile::TempDir;

/// The appliance of most tests: no payload, so that a build takes seconds.
pub const PLAIN: &str = "board: qemu-x86_64\nk3s: none\n";

/// What all tests use and none may change.
pub struct Bakery {
    /// The command.
    pub program: PathBuf,
    /// The lock for every appliance on this board without an official payload.
    pub lock: String,
    /// The sum of the image of [`PLAIN`].
    pub image: String,
    /// That image, which nobody may change.
    pub path: PathBuf,
    /// Its configuration, with the lock beside it.
    pub config: PathBuf,
    /// The cache, with all that was made for the image.
    pub cache: PathBuf,
}

/// The bakery, made once; `None`, with the reason on standard error, where this host has none.
pub fn bakery() -> Option<&'static Bakery> {
    static BAKERY: OnceLock<Result<Bakery, String>> = OnceLock::new();
    match BAKERY.get_or_init(open) {
        Ok(bakery) => Some(bakery),
        Err(reason) => {
            skip(reason);
            None
        }
    }
}

/// Says loudly that something wasn't tried.
pub fn skip(reason: &str) {
    eprintln!("SKIPPED: {reason}");
}

/// Whether all counts were asked for.
pub fn full() -> bool {
    std::env::var_os("BAKELITE_TEST_FULL").is_some_and(|value| value == "1")
}

/// Whether this process is root.
pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// A command on this host, with what it says kept.
#[expect(clippy::disallowed_methods, reason = "a test runs programs as a person would")]
pub fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Whether a program is installed; if not, that is said.
pub fn installed(program: &str, package: &str) -> bool {
    let found = command("sh").args(["-c", &format!("command -v {program}")]).status().unwrap().success();
    if !found {
        skip(&format!("{program} is not installed (package {package})"));
    }
    found
}

/// Puts a file in place of whatever is there; never writes into that, which may be a link into the shared cache.
pub fn put(path: &Path, content: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let _ = fs::remove_file(path);
    fs::File::create_new(path).unwrap().write_all(content.as_ref()).unwrap();
}

/// The sum of some bytes, as text.
pub fn sum(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The sum of a file, as text.
pub fn sum_of(path: &Path) -> String {
    sum_read(fs::File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

/// The sum of all that a reader gives, as text.
pub fn sum_read(mut reader: impl Read) -> String {
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match reader.read(&mut buffer).unwrap() {
            0 => return hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect(),
            count => hasher.update(&buffer[..count]),
        }
    }
}

/// Links a folder's files into another, folder by folder.
pub fn link_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            link_tree(&entry.path(), &target);
        } else if fs::hard_link(entry.path(), &target).is_err() {
            fs::copy(entry.path(), &target).unwrap();
        }
    }
}

fn open() -> Result<Bakery, String> {
    let program = std::env::var_os("BAKELITE_BIN")
        .ok_or("BAKELITE_BIN is not set, so the builder was not tried; scripts/test sets it")?;
    let program = fs::canonicalize(&program).map_err(|error| format!("{}: {error}", program.display()))?;
    let folder = Path::new(DISK).join("builder");
    let (cache, config, image) = (folder.join("cache"), folder.join("plain.yaml"), folder.join("plain.img"));
    put(&config, PLAIN);
    let run = |arguments: &[&str]| {
        let done = command(&program)
            .args(arguments)
            .args([&config, Path::new("--cache"), &cache])
            .output()
            .map_err(|error| format!("{} does not run: {error}", program.display()))?;
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        if done.status.success() { Ok(()) } else { Err(said) }
    };
    run(&["lock"])
        .map_err(|error| format!("no lock could be made with this host's Debian mirror: {}", error.trim()))?;
    // Past this point nothing may fail: it would be a fault of the builder, and is no reason to skip.
    run(&["build", "--force", "--output", image.to_str().unwrap()]).unwrap();
    let lock = fs::read_to_string(config.with_extension("lock")).unwrap();
    Ok(Bakery { program, lock, image: sum_of(&image), path: image, config, cache })
}

/// Where benches are: in memory where there is room for that, as each bake makes some ten thousand files durable.
pub fn workplace() -> &'static Path {
    static PLACE: OnceLock<&Path> = OnceLock::new();
    PLACE.get_or_init(|| {
        let free = command("df").args(["--output=avail", "--block-size=1G", "/dev/shm"]).output();
        let free = free.map(|done| String::from_utf8_lossy(&done.stdout).into_owned()).unwrap_or_default();
        let gibibytes: u64 = free.lines().nth(1).and_then(|line| line.trim().parse().ok()).unwrap_or(0);
        Path::new(if gibibytes >= 6 { "/dev/shm" } else { DISK })
    })
}

/// A folder on disk.
pub const DISK: &str = env!("CARGO_TARGET_TMPDIR");

/// One test's place to work.
pub struct Bench {
    /// The folder that everything is in.
    pub folder: TempDir,
    /// The configuration.
    pub config: PathBuf,
    /// The output that [`Bench::build`] asks for, in a folder of its own.
    pub output: PathBuf,
    /// The cache.
    pub cache: PathBuf,
    /// Where temporary files go.
    pub temporary: PathBuf,
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status; none after a signal.
    pub code: Option<i32>,
    /// All that it said.
    pub said: String,
}

impl Bench {
    /// A bench with a configuration, the shared lock beside it, and a full cache.
    pub fn new(bakery: &Bakery, config: &str) -> Self {
        let bench = Self::empty(config);
        // Inputs only: what builds make of them, each bench makes itself.
        for part in ["sha256", "address"] {
            link_tree(&bakery.cache.join(part), &bench.cache.join(part));
        }
        put(&bench.lock(), &bakery.lock);
        bench
    }

    /// A bench with a configuration, without a lock and with an empty cache.
    pub fn empty(config: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("bench-").tempdir_in(workplace()).unwrap();
        let at = |name: &str| folder.path().join(name);
        let bench = Self {
            config: at("shop.yaml"),
            output: at("out/shop.img"),
            cache: at("cache"),
            temporary: at("temporary"),
            folder,
        };
        put(&bench.config, config);
        fs::create_dir_all(bench.output.parent().unwrap()).unwrap();
        fs::create_dir_all(&bench.temporary).unwrap();
        bench
    }

    /// A path in the bench's folder.
    pub fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The lock beside the configuration.
    pub fn lock(&self) -> PathBuf {
        self.config.with_extension("lock")
    }

    /// The lock that a build writes beside its output where it was given none.
    pub fn made_lock(&self) -> PathBuf {
        self.output.with_extension("img.lock")
    }

    /// `bakelite build` with everything of this bench; arguments can be added.
    pub fn build(&self, bakery: &Bakery) -> Command {
        let mut build = command(&bakery.program);
        self.arguments(&mut build);
        build
    }

    /// Puts the arguments and the environment of this bench's build on a command that ends in `bakelite`.
    pub fn arguments(&self, build: &mut Command) {
        build.arg("build").arg(&self.config).arg("--output").arg(&self.output).arg("--cache").arg(&self.cache);
        build.env("TMPDIR", &self.temporary).env_remove("BAKELITE_MIRROR").env_remove("BAKELITE_K3S_SITE");
    }

    /// Takes the image away, with what came beside it.
    pub fn take_away(&self) {
        for path in [&self.output, &self.beside("bmap"), &self.beside("spdx.json")] {
            fs::remove_file(path).unwrap();
        }
    }

    /// A file beside the image.
    pub fn beside(&self, ending: &str) -> PathBuf {
        self.output.with_extension(format!("img.{ending}"))
    }

    /// After a failure: there is no image, nothing half-made, nothing temporary, and the cache is whole.
    pub fn nothing_left(&self) {
        for folder in [self.output.parent().unwrap(), &self.temporary] {
            let left: Vec<_> = fs::read_dir(folder)
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .filter(|path| path.extension().is_none_or(|extension| extension != "lock"))
                .collect();
            assert!(left.is_empty(), "left behind: {left:?}");
        }
        let work = self.cache.join("work");
        let working = work.exists() && fs::read_dir(work).unwrap().next().is_some();
        assert!(!working, "a work folder was left");
        self.cache_is_whole();
    }

    /// Every entry of the cache has the sum that it is named by, and no download lies about.
    pub fn cache_is_whole(&self) {
        let partial = self.cache.join("partial");
        assert!(!partial.exists() || fs::read_dir(partial).unwrap().next().is_none(), "a download was left");
        let Ok(folders) = fs::read_dir(self.cache.join("sha256")) else { return };
        for folder in folders {
            for entry in fs::read_dir(folder.unwrap().path()).unwrap() {
                let path = entry.unwrap().path();
                assert_eq!(path.file_name().unwrap().to_str(), Some(sum_of(&path).as_str()), "in the cache");
            }
        }
    }

    /// Changes the lock.
    pub fn change_lock(&self, change: impl FnOnce(&mut Value)) {
        let mut lock: Value = serde_json::from_str(&fs::read_to_string(self.lock()).unwrap()).unwrap();
        change(&mut lock);
        put(&self.lock(), serde_json::to_string_pretty(&lock).unwrap());
    }

    /// The place in the cache of a sum.
    pub fn entry(&self, sum: &str) -> PathBuf {
        self.cache.join("sha256").join(&sum[..2]).join(sum)
    }
}

/// Runs a command to its end.
pub fn end(command: &mut Command) -> Ended {
    let done = command.output().unwrap();
    let said = [done.stdout, done.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    Ended { code: done.status.code(), said }
}

/// Runs a command that has to be refused with an exit status and some words.
pub fn refused(command: &mut Command, code: i32, words: &[&str]) -> String {
    let ended = end(command);
    assert_eq!(ended.code, Some(code), "{}", ended.said);
    for word in words {
        assert!(ended.said.contains(word), "no {word:?} in: {}", ended.said);
    }
    assert!(!ended.said.contains("panicked"), "{}", ended.said);
    ended.said
}

/// Runs a command that has to succeed.
pub fn good(command: &mut Command) -> String {
    let ended = end(command);
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    ended.said
}
