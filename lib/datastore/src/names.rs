//! Names: which objects are in a database, but for those that come and go by themselves.
//!
//! Read where k3s has it, in one read transaction; nothing is written.

use crate::{DatastoreError, LIVE, connect, failed};
use rusqlite::Connection;
use std::collections::BTreeSet;
use std::path::Path;

/// Of these also a changed one is lost; what others say is written again by whoever watches over them.
const OF_PEOPLE: &[&str] = &["/registry/configmaps/", "/registry/secrets/"];
/// The namespace whose objects k3s itself keeps up.
const OF_K3S: &str = "/kube-system/";

/// Prefixes of what k3s and its controllers make and remove all the time: events, leases, pods and the like.
const PASSING: &[&str] = &[
    "/bootstrap/",
    "/registry/events/",
    "/registry/leases/",
    "/registry/masterleases/",
    "/registry/peerserverleases/",
    "/registry/pods/",
    "/registry/replicasets/",
    "/registry/endpointslices/",
    "/registry/services/endpoints/",
];

/// The names of all live objects but such as pass.
///
/// # Errors
/// SQLite's.
pub fn lasting(path: &Path) -> Result<BTreeSet<String>, DatastoreError> {
    connect(path).and_then(|connection| read(&connection)).map_err(failed("reading", path))
}

/// The names of what was lost when one database took the place of another: the lasting objects that the other has and this one
/// hasn't, and what people write that was changed behind the revision at which they part.
///
/// # Errors
/// SQLite's.
pub fn lost(other: &Path, here: &Path, revision: u64) -> Result<Vec<String>, DatastoreError> {
    let remains = lasting(here)?;
    let (all, changed) = connect(other)
        .and_then(|connection| Ok((read(&connection)?, changed(&connection, revision)?)))
        .map_err(failed("reading", other))?;
    let is_of_people = |name: &&String| OF_PEOPLE.iter().any(|kind| name.starts_with(kind)) && !name.contains(OF_K3S);
    let changed: BTreeSet<&String> = changed.iter().filter(is_of_people).collect();
    Ok(all.iter().filter(|name| !remains.contains(*name) || changed.contains(name)).cloned().collect())
}

/// The names that were written behind a revision.
fn changed(connection: &Connection, revision: u64) -> rusqlite::Result<BTreeSet<String>> {
    let mut statement = connection.prepare("SELECT DISTINCT name FROM kine WHERE id > ?1")?;
    let names = statement.query_map([i64::try_from(revision).unwrap_or(i64::MAX)], |row| row.get::<_, String>(0))?;
    names.collect()
}

fn read(connection: &Connection) -> rusqlite::Result<BTreeSet<String>> {
    let mut statement = connection.prepare(LIVE)?;
    let names = statement.query_map([], |row| row.get::<_, String>(0))?;
    // kine's column has the affinity of numbers: SQL itself would compare the names with a number.
    let lasts = |name: &String| name.starts_with('/') && !PASSING.iter().any(|prefix| name.starts_with(prefix));
    names.filter(|name| name.as_ref().map_or(true, lasts)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;
    use crate::tests::database;

    #[test]
    fn lost_is_what_the_other_has_or_what_people_changed_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let (here, other) = (folder.path().join("here.db"), folder.path().join("other.db"));
        let before = ["configmaps/a/same", "configmaps/a/changed", "deployments/a/till", "secrets/kube-system/k3s"];
        let fill = |path: &Path, more: &[(&str, i64)]| {
            let connection = fixtures::kine(path);
            let all = before.iter().map(|name| (*name, 0)).chain(more.iter().copied());
            for (name, deleted) in all {
                let row = "INSERT INTO kine (name, deleted) VALUES (?1, ?2)";
                connection.execute(row, (format!("/registry/{name}"), deleted)).unwrap();
            }
        };
        fill(&here, &[]);
        let since = [
            ("configmaps/a/changed", 0),
            ("deployments/a/till", 0),
            ("secrets/kube-system/k3s", 0),
            ("configmaps/a/same", 1),
            ("secrets/a/new", 0),
            ("secrets/a/short", 0),
            ("secrets/a/short", 1),
            ("pods/a/till-1", 0),
        ];
        fill(&other, &since);
        let revision = before.len() as u64;
        assert_eq!(
            lost(&other, &here, revision).unwrap(),
            ["/registry/configmaps/a/changed", "/registry/secrets/a/new"]
        );
        assert!(lost(&here, &here, revision).unwrap().is_empty());
    }

    #[test]
    fn what_passes_and_what_is_gone_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let (path, running) = database(folder.path(), 3);
        for (name, deleted) in [
            ("/registry/events/a/b", 0),
            ("/registry/pods/a/b", 0),
            ("/registry/secrets/a/b", 0),
            ("compact_rev_key", 0),
        ] {
            running.execute("INSERT INTO kine (name, deleted) VALUES (?1, ?2)", (name, deleted)).unwrap();
        }
        let names = |expected: &[&str]| assert_eq!(lasting(&path).unwrap().iter().collect::<Vec<_>>(), expected);
        names(&["/registry/secrets/a/b", "/registry/x"]);
        running.execute("INSERT INTO kine (name, deleted) VALUES ('/registry/secrets/a/b', 1)", []).unwrap();
        names(&["/registry/x"]);
    }
}
