//! A whole piece of work as a person asks for it: `bakelite lock` and `bakelite build`, from a file's name to a result.
//!
//! Here it is chosen which mirror, which lock and which payload a build uses; `apply` then only does as it is told.
//! The lock is the one given, else the one beside the configuration, else the one beside the output, else a new one
//! that is written beside the output.

use crate::apply::{self, Built};
use crate::binaries::Binaries;
use crate::bundle::{self, MakeError};
use crate::config::{self, Config};
use crate::decide::packages;
use crate::derived::Derived;
use crate::error::{BuildError, io_error};
use crate::host::file;
use crate::outputs;
use crate::payload::{self, Payload};
use crate::plan::{self, Plan};
use crate::prepare::{Inputs, Prepared, add_index};
use crate::progress::{BuildEvent, Listen};
use crate::recovery::{self, Installer};
use crate::source::cache::{Cache, default_folder};
use crate::source::http::Fetcher;
use crate::source::k3s;
use crate::source::lock::{Lock, LockRequest, make_lock};
use crate::source::mirror::{MIRROR_VARIABLE, MirrorChoice, Mirrors, choose};
use crate::source::trust::TrustedKeys;
use crate::user::User;
use crate::{repositories, user};
use bakelite_spec::appliance::Payload as Kind;
use bakelite_spec::board::Arch;
use bakelite_spec::finding::Finding;
use bakelite_spec::layers::Layer;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The Debian release that appliances are made of.
const SUITE: &str = "trixie";
/// How long a mirror may say nothing.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long k3s's release site may take to say whether it has a release.
const SITE_PATIENCE: Duration = Duration::from_secs(5);
/// The variable that names another place with the layout of k3s's release site.
pub const SITE_VARIABLE: &str = "BAKELITE_K3S_SITE";

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The appliance's YAML.
    pub config: PathBuf,
    /// Debian's mirror.
    pub mirror: Option<String>,
    /// Endings of Debian's suites to do without, `-security` or `-updates`.
    pub without_suites: Vec<String>,
    /// The lock to obey, or to write.
    pub lock: Option<PathBuf>,
    /// The cache's folder.
    pub cache: Option<PathBuf>,
    /// Take everything from the cache.
    pub offline: bool,
    /// Replace an output that is there.
    pub force: bool,
}

/// An open workshop: the configuration is checked, cache and mirrors are chosen.
struct Workshop {
    config: Config,
    mirror: Option<String>,
    without_suites: Vec<String>,
    cache: Cache,
}

impl Workshop {
    fn open(options: &Options) -> Result<Self, BuildError> {
        let config = config::load(&options.config).map_err(|findings| BuildError::Config { findings })?;
        let folder = options.cache.clone().or_else(default_folder).ok_or(BuildError::NoCacheFolder)?;
        let cache = Cache::open(&folder, Fetcher::new(PATIENCE), options.offline)?;
        Ok(Self { config, mirror: options.mirror.clone(), without_suites: options.without_suites.clone(), cache })
    }

    /// The mirrors, or why there are none: with a full cache none is needed.
    fn mirrors(&self) -> Result<Mirrors, BuildError> {
        let environment = std::env::var(MIRROR_VARIABLE).ok();
        let chosen = choose(&MirrorChoice {
            option: self.mirror.as_deref(),
            config: self.config.appliance.mirror.as_deref(),
            environment: environment.as_deref(),
            apt: Path::new("/etc/apt"),
        })?;
        Ok(Mirrors { without: self.without_suites.clone(), ..chosen })
    }

    fn request(&self) -> LockRequest {
        LockRequest {
            suite: SUITE.into(),
            arch: self.config.board.arch.debian().into(),
            packages: packages::wanted(&self.config.board, &self.config.appliance),
            backports: packages::backports(&self.config.board),
            without: packages::without(&self.config.appliance),
            build_arch: build_arch().into(),
            tools: packages::TOOLS.iter().map(ToString::to_string).collect(),
            repositories: repositories::requested(&self.config),
        }
    }

    fn make_lock(&self, listen: &dyn Listen) -> Result<Lock, BuildError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let keys = TrustedKeys::debian().map_err(BuildError::Key)?;
        let further = repositories::load(&self.config).map_err(|findings| BuildError::Config { findings })?;
        let mut lock = make_lock(&self.request(), &self.mirrors()?, &keys, &further, &self.cache, now, listen)?;
        if let Some(official) = self.official(&[], listen)? {
            lock.payload = official.locked();
        }
        Ok(lock)
    }

    /// k3s's release files, where the configuration asks for them.
    fn official(
        &self,
        locked: &[crate::source::lock::LockedFile],
        listen: &dyn Listen,
    ) -> Result<Option<k3s::Payload>, BuildError> {
        let k3s = &self.config.appliance.k3s;
        if k3s.payload != Kind::Official {
            return Ok(None);
        }
        let arch = self.config.board.arch.debian();
        let found = match &k3s.files {
            Some(folder) => {
                // A default is no word about these files; they tell their version themselves.
                let told = self.config.effective.set_by.get("k3s.version") == Some(&Layer::Appliance);
                let version = told.then_some(k3s.version.as_str());
                k3s::from_folder(&self.config.folder.join(folder), arch, version)?
            }
            None => k3s::from_site(&site(), &k3s.version, arch, locked, &self.cache, listen)?,
        };
        let changed = found.locked().into_iter().find(|file| {
            !locked.is_empty() && !locked.iter().any(|other| other.name == file.name && other.sha256 == file.sha256)
        });
        match changed {
            Some(file) => Err(BuildError::PayloadChanged { name: file.name }),
            None => Ok(Some(found)),
        }
    }

    fn payload(&self, lock: &Lock, binaries: &Binaries, listen: &dyn Listen) -> Result<Payload, BuildError> {
        match self.config.appliance.k3s.payload {
            Kind::None => Ok(payload::none()),
            Kind::Rehearsal => payload::rehearsal(binaries.rehearsal()?),
            Kind::Official => Ok(self.official(&lock.payload, listen)?.map_or_else(payload::none, payload::official)),
        }
    }

    /// Whether a lock is for this configuration.
    fn fits(&self, lock: &Lock) -> bool {
        let payload_fits = lock.payload.is_empty() == (self.config.appliance.k3s.payload != Kind::Official);
        lock.matches(&self.request()) && payload_fits
    }

    /// The lock of a build; one that had to be made is written beside the output, if there is to be one.
    fn lock_for(&self, options: &Options, output: Option<&Path>, listen: &dyn Listen) -> Result<Lock, BuildError> {
        let fitting = |path: &Path, lock: Lock| {
            if self.fits(&lock) { Ok(lock) } else { Err(BuildError::LockIsStale(path.into())) }
        };
        for path in [options.lock.clone(), Some(options.config.with_extension("lock"))].into_iter().flatten() {
            if options.lock.is_some() || path.exists() {
                return fitting(&path, read_lock(&path)?);
            }
        }
        let Some(beside) = output.map(|output| outputs::beside(output, "lock")) else { return self.make_lock(listen) };
        if beside.exists() {
            // Nobody asked for this one by name: made by an earlier build, and made anew when it no longer fits.
            if let Ok(lock) = read_lock(&beside).and_then(|lock| fitting(&beside, lock)) {
                return Ok(lock);
            }
            listen.event(&BuildEvent::Note { text: format!("{} no longer fits, making it anew", beside.display()) });
        }
        let lock = self.make_lock(listen)?;
        file::write(&beside, lock.to_text()?.as_bytes())?;
        Ok(lock)
    }
}

/// All findings of a configuration that need no network; of k3s's own files just for which processor they are.
///
/// # Errors
/// All findings, when one of them stops a build.
pub fn check(path: &Path) -> Result<(Config, Vec<Finding>), BuildError> {
    let findings = |findings| BuildError::Config { findings };
    let config = config::load(path).map_err(findings)?;
    repositories::load(&config).map_err(findings)?;
    let user = user::load(&config).map_err(findings)?;
    let looked_up = user.look_up(&config, None).map_err(findings)?;
    let files = config.appliance.k3s.files.as_ref().filter(|_| config.appliance.k3s.payload == Kind::Official);
    let arch = config.board.arch.debian();
    if let Some(problem) = files.and_then(|folder| k3s::misfit(&config.folder.join(folder), arch)) {
        let finding = Finding::error("k3s.files", problem, "the release's files for the board");
        return Err(findings(vec![config.placed(finding)]));
    }
    let warnings = config.warnings.iter().chain(&user.warnings).cloned().chain(looked_up).collect();
    Ok((config, warnings))
}

/// Asks k3s's release site, for a few seconds, whether it has the release that a configuration names.
///
/// # Errors
/// When it doesn't answer, or has no such release.
pub fn ask_site(config: &Config) -> Result<(), BuildError> {
    let (site, version) = (site(), &config.appliance.k3s.version);
    if k3s::site_answers(&Fetcher::new(SITE_PATIENCE), &site, version, config.board.arch.debian()) {
        return Ok(());
    }
    Err(BuildError::SiteIsSilent { site, version: version.clone() })
}

fn site() -> String {
    std::env::var(SITE_VARIABLE).unwrap_or_else(|_| k3s::RELEASE_SITE.into())
}

/// Makes a lock and writes it: to the place given, else beside the configuration.
///
/// # Errors
/// Whatever stopped it; an older lock is then as it was.
pub fn lock(options: &Options, listen: &dyn Listen) -> Result<(PathBuf, Lock), BuildError> {
    let workshop = Workshop::open(options)?;
    let lock = workshop.make_lock(listen)?;
    let path = options.lock.clone().unwrap_or_else(|| options.config.with_extension("lock"));
    file::write(&path, lock.to_text()?.as_bytes())?;
    Ok((path, lock))
}

/// Brings everything that a build needs into the cache, so that it can then be done with `--offline`. The lock is the
/// one given, else the one beside the configuration; where there is none it is made and written there.
///
/// # Errors
/// Whatever stopped it; what was fetched until then stays in the cache.
pub fn fetch(options: &Options, listen: &dyn Listen) -> Result<(PathBuf, Lock), BuildError> {
    let workshop = Workshop::open(options)?;
    let path = options.lock.clone().unwrap_or_else(|| options.config.with_extension("lock"));
    let lock = if path.exists() {
        let lock = read_lock(&path)?;
        if !workshop.fits(&lock) {
            return Err(BuildError::LockIsStale(path));
        }
        lock
    } else {
        let lock = workshop.make_lock(listen)?;
        file::write(&path, lock.to_text()?.as_bytes())?;
        lock
    };
    workshop.official(&lock.payload, listen)?;
    lock.fetch(workshop.mirrors().ok().as_ref(), &workshop.cache, listen)?;
    Ok((path, lock))
}

/// A build with all that it is made from.
struct Ready {
    workshop: Workshop,
    user: User,
    binaries: Binaries,
    lock: Lock,
    payload: Payload,
    mirrors: Option<Mirrors>,
}

impl Ready {
    fn new(options: &Options, output: Option<&Path>, listen: &dyn Listen) -> Result<Self, BuildError> {
        let workshop = Workshop::open(options)?;
        let user = user::load(&workshop.config).map_err(|findings| BuildError::Config { findings })?;
        let note = |warning: &Finding| listen.event(&BuildEvent::Note { text: warning.to_string() });
        workshop.config.warnings.iter().chain(&user.warnings).for_each(note);
        let binaries = Binaries::find(workshop.config.board.arch)?;
        let lock = workshop.lock_for(options, output, listen)?;
        let mut payload = workshop.payload(&lock, &binaries, listen)?;
        let looked_up = user.look_up(&workshop.config, Some(&payload));
        looked_up.map_err(|findings| BuildError::Config { findings })?.iter().for_each(note);
        user.add_images(&mut payload);
        let mirrors = workshop.mirrors().ok();
        lock.fetch(mirrors.as_ref(), &workshop.cache, listen)?;
        Ok(Self { workshop, user, binaries, lock, payload, mirrors })
    }

    fn inputs(&self) -> Inputs<'_> {
        Inputs {
            config: &self.workshop.config,
            binaries: &self.binaries,
            lock: &self.lock,
            mirrors: self.mirrors.as_ref(),
            cache: &self.workshop.cache,
            payload: &self.payload,
            user: &self.user,
        }
    }
}

/// Builds an image.
///
/// # Errors
/// Whatever stopped it; then there is no image, and an older one is as it was.
pub fn build(options: &Options, output: &Path, listen: &dyn Listen) -> Result<Built, BuildError> {
    outputs::check(output, options.force)?;
    let ready = Ready::new(options, Some(output), listen)?;
    apply::build(&apply::Request { inputs: ready.inputs(), output, force: options.force }, listen)
}

/// Builds a recovery stick that an owner's key file signs, or one that installs besides.
///
/// # Errors
/// Whatever stopped it; then there is no stick, and an older one is as it was.
pub fn build_recovery(
    options: &Options,
    key: &Path,
    installer: Option<&Installer>,
    output: &Path,
    listen: &dyn Listen,
) -> Result<Built, BuildError> {
    outputs::check(output, options.force)?;
    let ready = Ready::new(options, Some(output), listen)?;
    let keys = recovery::owner(key, &ready.workshop.config)?;
    let request = apply::Request { inputs: ready.inputs(), output, force: options.force };
    recovery::build(&request, &keys, installer, listen)
}

/// Makes a bundle of a configuration: builds its image, proves it, and takes the bundle from that. The image itself goes.
///
/// # Errors
/// Whatever stopped it; then there is no bundle, and an older one is as it was.
pub fn bundle(options: &Options, wanted: &bundle::Wanted<'_>, listen: &dyn Listen) -> Result<bundle::Made, MakeError> {
    wanted.check()?;
    let ready = Ready::new(options, Some(wanted.output), listen)?;
    let derived = Derived::open(ready.workshop.cache.folder())?;
    let work = derived.work()?;
    let image = work.path().join("bundled.img");
    apply::build(&apply::Request { inputs: ready.inputs(), output: &image, force: false }, listen)?;
    bundle::make(&image, wanted)
}

/// What a build would write, decided in the same way; only the cache is written.
///
/// # Errors
/// Whatever would stop the build.
pub fn plan(options: &Options, listen: &dyn Listen) -> Result<Plan, BuildError> {
    let ready = Ready::new(options, None, listen)?;
    let derived = Derived::open(ready.workshop.cache.folder())?;
    let work = derived.work()?;
    let mut prepared = Prepared::new(&ready.inputs(), &derived, &work, listen)?;
    let (root, initramfs) = prepared.indices(&derived, &work)?;
    add_index(&mut prepared.root, root);
    add_index(&mut prepared.initramfs, initramfs);
    Ok(plan::plan(&ready.inputs(), &prepared))
}

fn read_lock(path: &Path) -> Result<Lock, BuildError> {
    let text = std::fs::read_to_string(path).map_err(io_error("reading the lock", path))?;
    Ok(Lock::parse(&text)?)
}

/// Debian's name of the architecture that this program runs on.
fn build_arch() -> &'static str {
    [Arch::X86_64, Arch::Aarch64, Arch::Armv7]
        .into_iter()
        .find(|arch| arch.name().trim_end_matches("v7") == std::env::consts::ARCH)
        .map_or(std::env::consts::ARCH, Arch::debian)
}
