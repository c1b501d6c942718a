//! Names: which objects are in a database, but for those that come and go by themselves.
//!
//! Read where k3s has it, in one read transaction; nothing is written.

use crate::{DatastoreError, connect, failed};
use rusqlite::Connection;
use std::collections::BTreeSet;
use std::path::Path;

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

fn read(connection: &Connection) -> rusqlite::Result<BTreeSet<String>> {
    let query = "SELECT name FROM kine JOIN (SELECT max(id) AS newest FROM kine GROUP BY name) ON id = newest \
                 WHERE deleted = 0";
    let mut statement = connection.prepare(query)?;
    let names = statement.query_map([], |row| row.get::<_, String>(0))?;
    // kine's column has the affinity of numbers: SQL itself would compare the names with a number.
    let lasts = |name: &String| name.starts_with('/') && !PASSING.iter().any(|prefix| name.starts_with(prefix));
    names.filter(|name| name.as_ref().map_or(true, lasts)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::database;

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
