//! The table of units that init keeps running, for one appliance.

use super::wifi;
use bakelite_spec::appliance::{Appliance, K3sRole, Payload, UnitKind, UnitReady, UserUnit};
use bakelite_spec::board::Board;
use bakelite_spec::manifest::PayloadManifest;
use bakelite_spec::status::paths;
use bakelite_spec::unit::{Kind, Readiness, Role, Unit};
use std::collections::BTreeMap;

/// k3s's own service file gives it this many open files (install.sh).
const K3S_OPEN_FILES: u64 = 1_048_576;
/// The first start imports images from an SD card: minutes are normal (k3s.md 2.6).
const K3S_START_SECONDS: u64 = 1800;

/// Settle may have to move everything from an SD card to a data disk, and compare it.
const SETTLE_SECONDS: u64 = 6 * 3600;

/// An old copy on a slow card takes its time to go.
const UPKEEP_SECONDS: u64 = 2 * 3600;
/// Once a day: what is due is decided there.
const UPKEEP_EACH: u64 = 24 * 3600;

/// All units.
pub fn units(appliance: &Appliance, board: &Board, payload: &PayloadManifest) -> Vec<Unit> {
    let firstboot = format!("{}/firstboot", paths::LIBRARY);
    let oneshot = |name: &str, role, after: &[&str]| Unit {
        kind: Kind::Oneshot,
        start_seconds: Some(300),
        ..unit(name, role, &[&firstboot, name], after)
    };
    let mut units = vec![
        oneshot("early", Role::Early, &[]),
        Unit {
            reads: vec!["/run/bakelite/dhcpcd.conf".into()],
            ..unit("network", Role::Access, &["/usr/sbin/dhcpcd", "-B", "-f", "/run/bakelite/dhcpcd.conf"], &["early"])
        },
        Unit {
            needs_file: Some("/run/bakelite/chrony.conf".into()),
            reads: vec!["/run/bakelite/chrony.conf".into()],
            ..unit(
                "time",
                Role::Access,
                &["/usr/sbin/chronyd", "-d", "-u", "_chrony", "-f", "/run/bakelite/chrony.conf"],
                &["early"],
            )
        },
        Unit {
            needs_file: Some(paths::AUTHORIZED_KEYS.into()),
            oom_score: -500,
            ..unit(
                "ssh",
                Role::Access,
                &[
                    "/usr/sbin/dropbear",
                    "-F",
                    "-E",
                    "-s",
                    "-r",
                    "/var/lib/dropbear/dropbear_ed25519_host_key",
                    "-P",
                    "",
                ],
                &["early"],
            )
        },
    ];
    if appliance.wifi.ssid.is_some() {
        let command = ["/usr/sbin/wpa_supplicant", "-D", "nl80211", "-i", wifi::LINK, "-c", wifi::CONFIG];
        units.push(Unit {
            needs_file: Some(wifi::CONFIG.into()),
            reads: vec![wifi::CONFIG.into()],
            ..unit("wifi", Role::Access, &command, &["early"])
        });
    }
    if let (true, Some(terminal)) = (appliance.debug, &board.console.shell) {
        let command = ["/usr/bin/busybox", "getty", "-n", "-l", "/bin/sh", "-L", "115200", terminal, "vt100"];
        units.push(unit("shell", Role::Access, &command, &[]));
    }
    units.push(Unit { start_seconds: Some(SETTLE_SECONDS), ..oneshot("settle", Role::Settle, &["early"]) });
    if payload.kind != Payload::None {
        let k3s = &appliance.k3s;
        units.push(Unit {
            // containerd's own log is not rotated small enough for flash; k3s's log says what matters.
            environment: BTreeMap::from([("CONTAINERD_LOG_LEVEL".into(), "warn".into())]),
            environment_files: [paths::PAYLOAD_ENVIRONMENT, paths::PROXY_ENVIRONMENT].map(String::from).into(),
            readiness: Readiness::Notify,
            stop_seconds: 60,
            start_seconds: Some(K3S_START_SECONDS),
            alive_port: (k3s.role == K3sRole::Server).then(|| k3s.api_port()),
            open_files: Some(K3S_OPEN_FILES),
            ..unit(
                payload.kind.unit().unwrap_or("none"),
                Role::Payload,
                &[&payload.program, k3s.role.name()],
                &["settle"],
            )
        });
        units.push(oneshot("born", Role::Born, &[payload.kind.unit().unwrap_or("none")]));
    }
    // Without a payload it has sticks to look at, and the line that made the machine to report to.
    let after = if payload.kind == Payload::None { "settle" } else { "born" };
    units.push(unit("keeper", Role::User, &[&firstboot, "keeper"], &[after]));
    units.push(Unit {
        needs_file: Some(paths::GOOD.into()),
        start_seconds: Some(UPKEEP_SECONDS),
        every_seconds: Some(UPKEEP_EACH),
        ..oneshot("upkeep", Role::Upkeep, &["settle"])
    });
    units.extend(appliance.units.iter().map(|own| user(own, payload.kind.unit().unwrap_or("none"))));
    units
}

/// A user's own program. `k3s` in its `after` means the payload, whatever that is.
fn user(own: &UserUnit, payload: &str) -> Unit {
    let after = own.after.iter().map(|name| if name == "k3s" { payload } else { name });
    Unit {
        name: own.name.clone(),
        role: Role::User,
        command: own.command.clone(),
        environment: own.environment.clone(),
        after: after.map(ToString::to_string).collect(),
        kind: match own.kind {
            UnitKind::Service => Kind::Service,
            UnitKind::Oneshot => Kind::Oneshot,
        },
        readiness: match own.ready {
            UnitReady::Started => Readiness::Started,
            UnitReady::Notify => Readiness::Notify,
        },
        stop_seconds: own.stop.0,
        ..unit(&own.name, Role::User, &[], &[])
    }
}

fn unit(name: &str, role: Role, command: &[&str], after: &[&str]) -> Unit {
    Unit {
        name: name.into(),
        role,
        command: command.iter().map(ToString::to_string).collect(),
        environment: BTreeMap::new(),
        environment_files: Vec::new(),
        reads: Vec::new(),
        after: after.iter().map(ToString::to_string).collect(),
        needs_file: None,
        kind: Kind::Service,
        readiness: Readiness::Started,
        stop_seconds: 10,
        start_seconds: None,
        every_seconds: None,
        alive_port: None,
        open_files: None,
        oom_score: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bakelite_spec::rules::user::UNITS;
    use std::path::PathBuf;

    #[test]
    fn a_users_units_come_last_under_names_that_are_free() {
        let text = "board: {name: qemu-x86_64, with: [wifi]}\nk3s: rehearsal\ndebug: true\nwifi: {country: DE, ssid: shop}\nunits:\n  - name: till\n    command: [/usr/bin/till, -v]\n    after: [k3s]\n    \
                    kind: oneshot\n    stop: 30\n    environment: {MODE: shop}\n";
        let config = crate::config::read("a.yaml", text, PathBuf::new()).unwrap();
        let manifest = PayloadManifest {
            kind: Payload::Rehearsal,
            version: String::new(),
            program: "/p".into(),
            files: Vec::new(),
        };
        let mut units = units(&config.appliance, &config.board, &manifest);
        let till = units.pop().unwrap();
        assert_eq!(
            (till.name.as_str(), till.role, till.kind, till.stop_seconds),
            ("till", Role::User, Kind::Oneshot, 30)
        );
        assert_eq!((till.command.len(), till.after.as_slice()), (2, &["rehearsal".to_string()][..]));
        assert_eq!(till.environment["MODE"], "shop");
        for unit in &units {
            assert!(UNITS.contains(&unit.name.as_str()), "a user's unit could be called {}", unit.name);
        }
    }
}
