//! `server`: k3s's order of a start, each step in its own module. Datastore and decision table, certificates, the port,
//! the row saved, files written, ready; then the idle load until a signal. It keeps what k3s keeps and mends nothing more.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom, SystemRandom};
use rusqlite::Connection;

use crate::bootstrap::{self, Known};
use crate::certificates::{self, Certificates};
use crate::config::Settings;
use crate::datastore::Datastore;
use crate::deploy::Deployer;
use crate::environment::{node_address, node_name};
use crate::error::Error;
use crate::habits::{Habit, Habits};
use crate::images::{self, Images};
use crate::load::{self, Machine, Otherwise};
use crate::paths::{Root, link, make_directory, read_if_there, write};
use crate::run::{End, announce_ready, die, touch_memory};
use crate::serve::{self, Answers};
use crate::stop::Stop;
use crate::token;

const PING_ATTEMPTS: u32 = 300;
const SECOND: Duration = Duration::from_secs(1);

/// One start, from settings to exit.
pub fn run(settings: &Settings, root: &Root, habits: &Habits, stop: &Stop) -> Result<End, Error> {
    let data = root.at(settings.data_dir());
    let server = data.join("server");
    make_directory(&server)?;
    make_directory(&server.join("db"))?;
    let connection = connect(&server.join("db/state.db"), habits, stop);
    let datastore = Datastore::start(connection).map_err(|error| Error::StartDatastore(error).in_bootstrap())?;
    let given = known_token(settings, root, &server)?;
    let found = bootstrap::prepare(&datastore, &server, given.as_ref(), stop).map_err(Error::in_bootstrap)?;
    if stop.is_asked() {
        return Ok(End::Stopped);
    }

    let (node, address) = (node_name(settings, root), node_address(settings));
    let port = settings.text("https-listen-port").and_then(|text| text.parse().ok()).unwrap_or(6443);
    let certificates = Certificates {
        server: &server,
        names: certificates::serving_names(&node, address, &settings.split_list("tls-san")),
        port,
        now: SystemTime::now(),
    };
    let authority = certificates.complete()?;
    let password = match given {
        Some(known) => known.password,
        None => random_hex(16)?,
    };
    write_credentials(&server, &password, settings.is_on("secrets-encryption"))?;
    let bind = settings.text("bind-address").and_then(|text| text.parse().ok());
    let listener = serve::listen(bind.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), port)?;
    if !found {
        bootstrap::save(&datastore, &server, &password)?;
    }
    write_token(&server, &token::full(&authority, &password))?;
    write_kubeconfig(settings, root, &certificates, &authority)?;
    write_node_password(root)?;
    let answers = Arc::new(Answers { authority, ready: AtomicBool::new(false) });
    serve::start(listener, certificates.serving()?, answers.clone())?;
    certificates.check_kubeconfigs()?;
    if let Some(fault) = load::api_server_fault(settings) {
        eprintln!("Error: {fault}");
        return Ok(End::ShutdownRequested(format!("apiserver exited: {fault}")));
    }
    let deployer = match settings.is_on("disable-agent") {
        true => None,
        false => {
            certificates.write_kubelet(&data.join("agent"), &node)?;
            Some(Deployer::new(&server.join("manifests"), start_images(&data, stop)?))
        }
    };
    let _held = touch_memory();
    if !wait_until_ready(&certificates, &datastore, habits, port, stop)? {
        // Whoever hears READY may ask at once.
        answers.ready.store(true, Ordering::Relaxed);
        announce_ready();
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let drop_ins = data.join("agent/etc/kubelet.conf.d");
        let machine = Machine {
            node: &node,
            address,
            kubelet_drop_ins: &drop_ins,
            boot: boot.trim(),
            deployer: deployer.as_ref(),
        };
        if let Some(end) = live(&datastore, settings, &machine, habits, stop) {
            return end;
        }
    }
    log::info!("Waiting up to 2s for graceful shutdown of the datastore's listener...");
    stop.sleep(SECOND);
    log::info!("Closing database connections...");
    drop(datastore);
    Ok(End::Stopped)
}

/// k3s tries each second, 300 times, deaf to signals, and then hangs without a word (k3s.md 11.1).
fn connect(path: &Path, habits: &Habits, stop: &Stop) -> Connection {
    for _ in 0..PING_ATTEMPTS {
        let error = if habits.has(Habit::PingDatabaseLoop) {
            "file is not a database".to_owned()
        } else {
            match Datastore::ping(path) {
                Ok(connection) => {
                    stop.ignore_signals(habits.has(Habit::IgnoreSigterm));
                    return connection;
                }
                Err(error) => error.to_string(),
            }
        };
        stop.ignore_signals(true);
        log::error!("Failed to ping database connection: {error}");
        stop.sleep(SECOND);
    }
    loop {
        stop.wait_for_ever();
    }
}

/// The token in k3s's order: flag or environment, token-file, server/token, and last what server/cred/passwd remembers.
fn known_token(settings: &Settings, root: &Root, server: &Path) -> Result<Option<Known>, Error> {
    let read = |path: PathBuf| -> Result<Option<String>, Error> {
        let text = read_if_there(&path)?.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned());
        Ok(text.filter(|text| !text.is_empty()))
    };
    let mut full = settings.text("token");
    if full.is_none()
        && let Some(path) = settings.text("token-file")
    {
        let path = root.at(path);
        full = Some(fs::read_to_string(&path).map_err(|source| Error::Read { path, source })?.trim().to_owned());
    }
    if full.is_none() {
        full = read(server.join("token"))?;
    }
    if full.is_none() && !bootstrap::is_bare(&server.join("tls")) {
        let passwd = read(server.join("cred/passwd"))?.unwrap_or_default();
        full = passwd.lines().find_map(|line| line.strip_suffix(",server,server,k3s:server")).map(str::to_owned);
    }
    match full {
        Some(full) => {
            let password = token::password(&full).map_err(Error::in_bootstrap)?;
            Ok(Some(Known { full, password }))
        }
        None => Ok(None),
    }
}

fn random_hex(bytes: usize) -> Result<String, Error> {
    let mut random = vec![0; bytes];
    SystemRandom::new().fill(&mut random).map_err(|_| Error::Random)?;
    Ok(token::hex(&random))
}

fn write_credentials(server: &Path, password: &str, encrypts_secrets: bool) -> Result<(), Error> {
    let passwd = format!("{password},node,node,k3s:agent\n{password},server,server,k3s:server\n");
    write_if_other(&server.join("cred/passwd"), passwd.as_bytes())?;
    let psk = server.join("cred/ipsec.psk");
    if !psk.exists() {
        write(&psk, random_hex(48)?.as_bytes(), 0o600)?;
    }
    let encryption = server.join("cred/encryption-config.json");
    if encrypts_secrets && !encryption.exists() {
        let secret = STANDARD.encode(&random_hex(16)?);
        let config = format!(
            "{{\"kind\":\"EncryptionConfiguration\",\"apiVersion\":\"apiserver.config.k8s.io/v1\",\"resources\":[{{\"resources\":[\"secrets\"],\"providers\":[{{\"aescbc\":{{\"keys\":[{{\"name\":\"aescbckey\",\"secret\":\"{secret}\"}}]}}}},{{\"identity\":{{}}}}]}}]}}"
        );
        write(&encryption, config.as_bytes(), 0o600)?;
        let state = format!("start-{}", token::sha256_hex(config.as_bytes()));
        write(&server.join("cred/encryption-state.json"), state.as_bytes(), 0o600)?;
    }
    Ok(())
}

fn write_if_other(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    if read_if_there(path)?.as_deref() == Some(bytes) { Ok(()) } else { write(path, bytes, 0o600) }
}

fn write_token(server: &Path, full: &str) -> Result<(), Error> {
    let path = server.join("token");
    write_if_other(&path, format!("{full}\n").as_bytes())?;
    link(&path, &server.join("node-token"))?;
    link(&path, &server.join("agent-token"))
}

/// Rewritten at every start, as k3s does.
fn write_kubeconfig(
    settings: &Settings,
    root: &Root,
    certificates: &Certificates<'_>,
    authority: &[u8],
) -> Result<(), Error> {
    let path = root.at(settings.text("write-kubeconfig").unwrap_or_else(|| "/etc/rancher/k3s/k3s.yaml".to_owned()));
    let (certificate, key) = certificates.administrator()?;
    let text = format!(
        "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {}\n    server: https://127.0.0.1:{}\n  name: default\ncontexts:\n- context:\n    cluster: default\n    user: default\n  name: default\ncurrent-context: default\nkind: Config\nusers:\n- name: default\n  user:\n    client-certificate-data: {}\n    client-key-data: {}\n",
        STANDARD.encode(authority),
        certificates.port,
        STANDARD.encode(certificate),
        STANDARD.encode(key),
    );
    write(&path, text.as_bytes(), 0o600)
}

fn write_node_password(root: &Root) -> Result<(), Error> {
    let path = root.at("/etc/rancher/node/password");
    if path.exists() { Ok(()) } else { write(&path, format!("{}\n", random_hex(16)?).as_bytes(), 0o600) }
}

fn start_images(data: &Path, stop: &Stop) -> Result<Images, Error> {
    let (folder, stop, known) = (data.join("agent/images"), stop.clone(), Images::default());
    let knows = known.clone();
    make_directory(&folder)?;
    let importing = thread::Builder::new().name("images".into()).stack_size(128 * 1024);
    importing.spawn(move || images::run(&folder, &knows, &stop)).map_err(Error::Spawn)?;
    Ok(known)
}

/// True where a stop was asked for before ready came.
fn wait_until_ready(
    certificates: &Certificates<'_>,
    datastore: &Datastore,
    habits: &Habits,
    port: u16,
    stop: &Stop,
) -> Result<bool, Error> {
    while let Some(fault) = certificates.fault(SystemTime::now())? {
        let url = format!("https://127.0.0.1:{port}");
        log::error!(
            "Failed to validate connection to cluster at {url}: CA cert validation failed: Get \"{url}/cacerts\": {fault}"
        );
        if stop.wait(2 * SECOND) {
            return Ok(true);
        }
    }
    while let Err(error) = load::seed(datastore) {
        log::error!("Failed to write the first objects: {error}");
        if stop.wait(SECOND) {
            return Ok(true);
        }
    }
    Ok(stop.wait(Duration::from_secs(habits.slow_start())))
}

/// The time after ready. `None` is a clean stop.
fn live(
    datastore: &Datastore,
    settings: &Settings,
    machine: &Machine<'_>,
    habits: &Habits,
    stop: &Stop,
) -> Option<Result<End, Error>> {
    let death = habits.death();
    let otherwise = Otherwise {
        at_most: death.map(|_| SECOND),
        disk_is_full: habits.has(Habit::FullDiskWhileRunning),
        no_workload: habits.has(Habit::NoWorkload),
    };
    load::run(datastore, settings, machine, stop, &otherwise);
    death.filter(|_| !stop.is_asked()).map(die)
}
