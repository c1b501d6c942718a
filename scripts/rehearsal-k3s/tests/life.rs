//! The stand-in from outside, as init and the fitter meet it: started under a root of its own, without privilege, with a
//! notify socket that the test owns, and judged by its exit status, its last words and what it leaves on the disk.

#![expect(
    clippy::disallowed_methods,
    reason = "a test of a program from outside has to start it and to spoil its files"
)]

mod machine;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use machine::{Machine, fetch, refused, unpack};
use rusqlite::Connection;
use rustix::process::Signal;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

#[test]
fn a_life_from_first_start_to_restart() {
    let machine = Machine::new();
    let running = machine.start("secret");
    machine.wait_ready(&running);
    running.wait_for("rehearsal is up and running");
    assert_eq!(machine.get("/ping"), "pong");
    assert_eq!((machine.get("/livez"), machine.get("/readyz")), ("ok".to_owned(), "ok".to_owned()));
    let authority = fs::read_to_string(machine.server("tls/server-ca.crt")).unwrap();
    assert_eq!(machine.get("/cacerts"), authority);
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let strict =
        rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
    assert_eq!(fetch(machine.port, "/ping", strict).unwrap(), "pong", "the leaf holds against the CA, by address");
    let kubeconfig = machine.path("etc/rancher/k3s/k3s.yaml");
    assert_eq!(fs::metadata(kubeconfig).unwrap().permissions().mode() & 0o777, 0o600);
    let token = fs::read_to_string(machine.server("token")).unwrap();
    assert!(token.starts_with("K10") && token.trim_end().ends_with("::server:secret"), "{token}");
    assert!(!running.words().contains("k3s is up"), "it never calls itself k3s");

    let first = machine.revision();
    sleep(Duration::from_millis(700));
    let grown = machine.revision();
    assert!(grown >= first + 6, "three writers each 0.2 s: from {first} to {grown}");
    running.stop();
    let wal = fs::metadata(machine.server("db/state.db-wal")).unwrap().len();
    assert!(wal > 0, "k3s leaves its -wal");
    let alone = machine.path("alone.db");
    fs::copy(machine.server("db/state.db"), &alone).unwrap();
    let stale = Connection::open(&alone).unwrap();
    let stale = stale.query_row("SELECT MAX(id) FROM kine", [], |row| row.get::<_, i64>(0)).unwrap_or(0);
    let stopped = machine.revision();
    assert!(stale < stopped, "state.db alone ends at {stale}, with its -wal at {stopped}");

    let again = machine.start_with(&["server", "--disable-agent"], &[]);
    machine.wait_ready(&again);
    assert!(machine.revision() >= stopped);
    assert_eq!(fs::read_to_string(machine.server("token")).unwrap(), token);
    assert_eq!(fs::read_to_string(machine.server("tls/server-ca.crt")).unwrap(), authority);
    again.stop();
    machine.notify.set_nonblocking(true).unwrap();
    assert!(machine.notify.recv(&mut [0; 64]).is_err(), "READY is the only datagram, once a start");
}

#[test]
fn tokens_that_do_not_fit() {
    let machine = Machine::new();
    let running = machine.start("right");
    machine.wait_ready(&running);
    running.stop();
    refused(
        machine.start("wrong"),
        "Error: preparing server: failed to bootstrap cluster data: bootstrap data already found and encrypted with different token",
    );
    refused(machine.start("K10broken"), "failed to normalize server token; must be in format K10<CA-HASH>");
    let file = machine.path("token");
    fs::write(&file, "right\n").unwrap();
    let by_file = machine.start_with(&["server", "--disable-agent", "--token-file=/token"], &[]);
    machine.wait_ready(&by_file);
    by_file.stop();

    fs::remove_file(machine.server("token")).unwrap();
    let from_passwd = machine.start_with(&["server", "--disable-agent"], &[]);
    machine.wait_ready(&from_passwd);
    from_passwd.stop();
    assert!(fs::read_to_string(machine.server("token")).unwrap().trim_end().ends_with("::server:right"));

    for name in ["token", "tls", "cred"] {
        fs::rename(machine.server(name), machine.path(&format!("aside-{name}"))).unwrap();
    }
    sleep(Duration::from_millis(3100));
    refused(
        machine.start_with(&["server", "--disable-agent"], &[]),
        "Error: starting kubernetes: failed to start cluster: bootstrap data already found and encrypted with different token",
    );
    refused(machine.start("right"), "newer than datastore and could cause a cluster outage");
    fs::remove_dir_all(machine.server("tls")).unwrap();
    let mended = machine.start("right");
    machine.wait_ready(&mended);
    mended.stop();
    let kept = fs::read(machine.path("aside-tls/server-ca.crt")).unwrap();
    assert_eq!(fs::read(machine.server("tls/server-ca.crt")).unwrap(), kept, "the cluster's own CA is back");
    fs::copy(machine.server("tls/service.key"), machine.server("tls/serving-kube-apiserver.key")).unwrap();
    refused(machine.start("right"), "tls: private key does not match public key");
    fs::remove_dir_all(machine.server("tls")).unwrap();
    fs::remove_dir_all(machine.server("cred")).unwrap();
    let healed = machine.start("right");
    machine.wait_ready(&healed);
    healed.stop();
    fs::remove_dir_all(machine.server("cred")).unwrap();
    refused(machine.start("right"), "cred/supervisor.kubeconfig: no such file or directory");
}

#[test]
fn a_missing_database_is_a_new_cluster_that_says_ready() {
    let machine = Machine::new();
    let running = machine.start("secret");
    machine.wait_ready(&running);
    let authority = fs::read(machine.server("tls/server-ca.crt")).unwrap();
    sleep(Duration::from_millis(1500));
    running.stop();
    let before = machine.revision();
    fs::remove_dir_all(machine.server("db")).unwrap();
    let empty = machine.start_with(&["server", "--disable-agent"], &[("REHEARSAL_PACE", "1")]);
    machine.wait_ready(&empty);
    assert!(machine.revision() < before, "another, emptier cluster");
    assert_eq!(fs::read(machine.server("tls/server-ca.crt")).unwrap(), authority, "with the old face");
}

#[test]
fn a_pulled_plug_loses_nothing_that_was_seen() {
    let machine = Machine::new();
    let mut seen = 0;
    for _ in 0..5 {
        let running = machine.start("secret");
        machine.wait_ready(&running);
        sleep(Duration::from_millis(250));
        let now = machine.revision();
        assert!(now > seen);
        seen = now;
        running.signal(Signal::KILL);
        drop(running);
        let database = Connection::open(machine.server("db/state.db")).unwrap();
        let check: String = database.query_row("PRAGMA quick_check", [], |row| row.get(0)).unwrap();
        assert_eq!(check, "ok");
        assert!(machine.revision() >= seen);
    }
}

#[test]
fn a_database_that_is_none_is_knocked_at_and_sigterm_ignored() {
    let machine = Machine::new();
    fs::create_dir_all(machine.server("db")).unwrap();
    fs::write(machine.server("db/state.db"), [7; 8192]).unwrap();
    let mut running = machine.start("secret");
    running.wait_for("Failed to ping database connection: file is not a database");
    running.signal(Signal::TERM);
    running.signal(Signal::TERM);
    assert_eq!(running.status_within(Duration::from_millis(400)), None);
    sleep(Duration::from_secs(7));
    let lines = || running.words().matches("Failed to ping database connection").count();
    assert_eq!(lines(), 300);
    sleep(Duration::from_millis(200));
    assert_eq!(lines(), 300, "then silence");
    running.child.kill().unwrap();
    assert_eq!(running.status(), -1);
}

#[test]
fn damage_ends_in_the_words_that_were_logged() {
    let machine = Machine::new();
    let running = machine.start("secret");
    machine.wait_ready(&running);
    running.stop();
    let path = machine.server("db/state.db");
    let folding = Connection::open(&path).unwrap();
    folding.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(folding);
    let whole = fs::read(&path).unwrap();

    let mut zeroed = whole.clone();
    zeroed[4096..11 * 4096].fill(0);
    fs::write(&path, zeroed).unwrap();
    refused(
        machine.start("secret"),
        "creating storage endpoint: starting kine backend: database disk image is malformed",
    );

    for name in ["db/state.db-wal", "db/state.db-shm"] {
        drop(fs::remove_file(machine.server(name)));
    }
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    machine.start("secret").wait_for("Failed to ping database connection: database disk image is malformed");
}

#[test]
fn habits_show_as_they_were_seen() {
    let machine = Machine::new();
    let start =
        |habits: &str| machine.start_with(&["server", "--disable-agent", "--token=t"], &[("REHEARSAL_HABITS", habits)]);
    refused(start("crash-loop@1"), "failed to find host-local");
    let mut well = start("crash-loop@1,ignore-sigterm");
    machine.wait_ready(&well);
    well.signal(Signal::TERM);
    well.signal(Signal::TERM);
    assert_eq!(well.status_within(Duration::from_millis(400)), None, "deaf");
    drop(well);
    for (habit, status, words) in [
        ("die-after-ready", 1, "listen tcp 127.0.0.1:10257: bind: address already in use"),
        ("port-taken", 0, "Shutdown request received: \\\"controller-manager exited: "),
        ("exit-zero-with-error", 0, "Shutdown request received: \\\"containerd exited: signal: killed\\\""),
    ] {
        let mut running = start(habit);
        machine.wait_ready(&running);
        assert_eq!(running.status(), status, "{habit}");
        assert!(running.words().contains(words), "{habit}: {}", running.words());
    }
    refused(start("wrong-token"), "encrypted with different token");
    let full = start("full-disk-while-running");
    machine.wait_ready(&full);
    full.wait_for("database or disk is full");
    assert_eq!(machine.get("/livez"), "ok");
    full.stop();
    for habit in ["hang-at-start", "slow-start=9999"] {
        machine.put("proc/cmdline", &format!("quiet rehearsal.habits={habit}\n"));
        let mut running = machine.start("t");
        running.wait_for("Bad habits of this start");
        sleep(Duration::from_millis(300));
        running.signal(Signal::TERM);
        assert_eq!(running.status(), 0, "{habit}");
        assert!(!running.words().contains("up and running"), "{habit}");
    }
}

#[test]
fn a_second_sigterm_ends_it_at_once() {
    let machine = Machine::new();
    let mut running = machine.start_with(&["server", "--disable-agent", "--token=t"], &[("REHEARSAL_PACE", "1")]);
    machine.wait_ready(&running);
    running.signal(Signal::TERM);
    running.wait_for("Waiting up to 2s");
    running.signal(Signal::TERM);
    assert_eq!(running.status_within(Duration::from_millis(500)), Some(1));
}

#[test]
fn an_agent_joins_and_imports_and_a_taken_port_is_named() {
    let machine = Machine::new();
    machine.put("var/lib/rancher/k3s/agent/images/airgap.tar.zst", "not unpacked, only read");
    let server = machine.start_with(&["server", "--token=t"], &[]);
    machine.wait_ready(&server);
    server.wait_for("agent/images/airgap.tar.zst: airgap.tar.zst, 23 bytes in ");
    let token = fs::read_to_string(machine.server("token")).unwrap();

    let other = Machine::new();
    let url = format!("--server=https://127.0.0.1:{}", machine.port);
    let full = format!("--token={}", token.trim());
    other.put("etc/rancher/k3s/config.yaml", "no-such-key: 1\n");
    refused(other.start_with(&["agent", &url, &full], &[]), "Error: flag provided but not defined: -no-such-key");
    other.put("etc/rancher/k3s/config.yaml", "node-name: second\n");
    let strange = format!("--token=K10{}::server:t", "0".repeat(64));
    let waiting = other.start_with(&["agent", &url, &strange], &[]);
    waiting.wait_for("token CA hash does not match");
    drop(waiting);
    let mut agent = other.start_with(&["agent", &url, &full], &[]);
    other.wait_ready(&agent);
    agent.signal(Signal::TERM);
    assert_eq!(agent.status(), 0);

    let port = format!("--https-listen-port={}", machine.port);
    refused(
        other.start_with(&["server", "--disable-agent", "--token=t", &port], &[]),
        &format!("failed to start supervisor listener: listen tcp :{}: bind: address already in use", machine.port),
    );
}

#[test]
fn the_machine_itself_is_checked() {
    let machine = Machine::new();
    machine.put("sys/fs/cgroup/cgroup.controllers", "cpuset cpu pids\n");
    refused(machine.start_with(&["server", "--token=t"], &[]), "Error: failed to find memory cgroup (v2)");
    machine.put("sys/fs/cgroup/cgroup.controllers", "cpuset cpu memory pids\n");
    machine.put("proc/net/route", "Iface\tDestination\n");
    refused(machine.start_with(&["server", "--token=t"], &[]), "no default routes found in");
    let with_address = machine.start_with(&["server", "--token=t", "--node-ip=10.0.0.7"], &[]);
    machine.wait_ready(&with_address);
    let gate = "--kube-apiserver-arg=feature-gates=APIServerIdentity=false";
    drop(with_address);
    let mut alone = machine.start_with(&["server", "--disable-agent", "--token=t", gate], &[]);
    assert_eq!(alone.status(), 0);
    assert!(alone.words().contains("Shutdown request received: \\\"apiserver exited: "), "{}", alone.words());
}

#[test]
fn a_nodes_conditions_are_patched_by_the_node_itself() {
    let machine = Machine::new();
    let data = machine.path("var/lib/rancher/k3s");
    let kubelet = data.join("agent/kubelet.kubeconfig");
    let kubelet = kubelet.to_str().unwrap();
    let kubectl = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_rehearsal-k3s"))
            .args([&["kubectl"], arguments].concat())
            .arg(format!("--root={}", machine.root.path().display()))
            .output()
            .unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code(), text)
    };
    let patch = |node: &str, conditions: &str| {
        let patch = format!("{{\"status\":{{\"conditions\":[{conditions}]}}}}");
        let subject = ["--kubeconfig", kubelet, "--request-timeout=5s", "patch", "node", node];
        kubectl(&[&subject[..], &["--subresource=status", "--type=strategic", "--patch", &patch]].concat())
    };
    let ill = r#"{"type":"A","status":"True","reason":"Full","message":"no room","lastHeartbeatTime":"2026-11-22T10:00:00Z","lastTransitionTime":"2026-11-22T09:00:00Z"}"#;
    let running = machine.start_with(&["server", "--token=t", "--node-name=shop-1", "--node-ip=10.0.0.7"], &[]);
    machine.wait_ready(&running);
    let deadline = SystemTime::now() + Duration::from_secs(20);
    let mut first = patch("shop-1", ill);
    while first.1.contains("NotFound") && SystemTime::now() < deadline {
        sleep(Duration::from_millis(50));
        first = patch("shop-1", ill);
    }
    assert_eq!(first, (Some(0), "node/shop-1 patched\n".to_owned()));
    assert_eq!(patch("shop-1", ill), (Some(0), "node/shop-1 patched (no change)\n".to_owned()));
    let (status, words) = patch("shop-2", ill);
    assert_eq!(status, Some(1));
    assert!(words.contains("node \"shop-1\" is not allowed to modify node \"shop-2\""), "{words}");
    let asked = |what: &str| {
        let path = format!("jsonpath={{.status.conditions[?(@.type==\"{what}\")].reason}}");
        kubectl(&["get", "node", "shop-1", "-o", &path])
    };
    assert_eq!(asked("A"), (Some(0), "Full".to_owned()));
    assert_eq!(asked("B"), (Some(0), String::new()));
    // The kubelet's next word about its node leaves it alone.
    let words_of_node = || {
        let database = Connection::open(machine.server("db/state.db")).unwrap();
        let query = "SELECT count(*) FROM kine WHERE name = '/registry/minions/shop-1'";
        database.query_row(query, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    let before = words_of_node();
    let deadline = SystemTime::now() + Duration::from_secs(120);
    while words_of_node() == before && SystemTime::now() < deadline {
        sleep(Duration::from_millis(200));
    }
    assert!(words_of_node() > before);
    assert_eq!(asked("A").1, "Full");
    running.stop();
    let (status, words) = patch("shop-1", ill);
    assert_eq!(status, Some(1));
    assert!(words.contains("was refused - did you specify the right host or port?"), "{words}");
}

#[test]
fn words_without_a_start() {
    for (arguments, status, words) in [
        (vec!["kubectl", "get", "pods"], 1, "the rehearsal stand-in has no kubectl get pods\n"),
        (vec!["crictl"], 1, "the rehearsal stand-in has no crictl\n"),
        (vec!["--version"], 0, "rehearsal stand-in (not k3s) version v"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_rehearsal-k3s")).args(&arguments).output().unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(output.status.code(), Some(status));
        assert!(text.starts_with(words), "{text}");
    }
}

#[test]
fn a_tree_that_k3s_left_is_carried_on() {
    let Some(fixtures) = std::env::var_os("BAKELITE_FIXTURES") else {
        eprintln!("SKIPPED: BAKELITE_FIXTURES isn't set, no tree of k3s's own is started");
        return;
    };
    let made = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_300_000);
    if SystemTime::now() < made {
        eprintln!("SKIPPED: the clock is before the fixture's certificates");
        return;
    }
    for (name, revision) in [("after-clean-stop", 377), ("after-kill", 414)] {
        let machine = Machine::new();
        let config = fs::read(machine.path("etc/rancher/k3s/config.yaml")).unwrap();
        unpack(&Path::new(&fixtures).join(format!("{name}.tar.zst")), machine.root.path());
        fs::write(machine.path("etc/rancher/k3s/config.yaml"), config).unwrap();
        let token = fs::read(machine.server("token")).unwrap();
        let passwd = fs::read(machine.server("cred/passwd")).unwrap();
        assert_eq!(machine.revision(), revision);
        let running = machine.start_with(&["server", "--disable-agent"], &[]);
        machine.wait_ready(&running);
        assert!(!running.words().contains("level=warn"), "nothing differs: {}", running.words());
        assert_eq!(machine.get("/ping"), "pong");
        assert!(machine.revision() > revision);
        running.stop();
        assert_eq!(fs::read(machine.server("token")).unwrap(), token, "the same token form");
        assert_eq!(fs::read(machine.server("cred/passwd")).unwrap(), passwd);
        fs::remove_dir_all(machine.server("tls")).unwrap();
        let restored = machine.start_with(&["server", "--disable-agent"], &[]);
        machine.wait_ready(&restored);
        assert_eq!(machine.get("/ping"), "pong", "leaves issued below k3s's own CA");
        restored.stop();
        refused(machine.start("another"), "bootstrap data already found and encrypted with different token");
    }
}
