//! What a manifest has, by the names that k3s's database has it under: workloads, and what isn't deleted lightly.

use serde::Deserialize;
use serde_json::Value;

/// The kinds that say how available they are, and their folders in the database.
const KINDS: [(&str, &str); 3] =
    [("DaemonSet", "daemonsets"), ("Deployment", "deployments"), ("StatefulSet", "statefulsets")];
/// The namespace of what names none.
const NAMESPACE: &str = "default";

/// The kinds with which more goes than themselves: data, or all that is of them. And whether they are of a namespace.
const HOLDERS: [(&str, &str, bool); 3] = [
    ("CustomResourceDefinition", "customresourcedefinitions", false),
    ("Namespace", "namespaces", false),
    ("PersistentVolumeClaim", "persistentvolumeclaims", true),
];

/// The workloads of a manifest, such as `deployments/default/till`. What can't be read has none: k3s says so.
pub fn names(manifest: &str) -> Vec<String> {
    objects(manifest).iter().filter_map(workload).collect()
}

/// What a manifest has that holds more than itself, such as `persistentvolumeclaims/default/till`.
pub fn holders(manifest: &str) -> Vec<String> {
    objects(manifest).iter().filter_map(holder).collect()
}

fn objects(manifest: &str) -> Vec<Value> {
    let mut found = Vec::new();
    for document in serde_yaml::Deserializer::from_str(manifest) {
        let Ok(value) = Value::deserialize(document) else { break };
        match value["items"].as_array() {
            Some(items) => found.extend(items.iter().cloned()),
            None => found.push(value),
        }
    }
    found
}

/// The name of an object that is a workload. One whose name is made at its start has none.
pub fn workload(object: &Value) -> Option<String> {
    let is_of_apps = object["apiVersion"].as_str()?.starts_with("apps/");
    let (_, folder) = KINDS.iter().find(|(kind, _)| is_of_apps && object["kind"] == *kind)?;
    Some(format!("{folder}/{}/{}", namespace(object), object["metadata"]["name"].as_str()?))
}

fn holder(object: &Value) -> Option<String> {
    let (_, folder, is_in_one) = HOLDERS.iter().find(|(kind, ..)| object["kind"] == *kind)?;
    let name = object["metadata"]["name"].as_str()?;
    Some(if *is_in_one { format!("{folder}/{}/{name}", namespace(object)) } else { format!("{folder}/{name}") })
}

fn namespace(object: &Value) -> &str {
    object["metadata"]["namespace"].as_str().unwrap_or(NAMESPACE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_how_available_it_is_has_a_name_in_the_database() {
        let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: till}\n---\n# nothing\n---\n\
                    apiVersion: v1\nkind: List\nitems:\n  - {apiVersion: apps/v1, kind: StatefulSet, metadata: {name: db, namespace: shop}}\n\
                    ---\napiVersion: v1\nkind: Secret\nmetadata: {name: x}\nstringData: {a: {secret: b}}\n---\n\
                    apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: probe, namespace: shop}\n";
        assert_eq!(names(text), ["deployments/default/till", "statefulsets/shop/db", "daemonsets/shop/probe"]);
        assert!(names("kind: Deployment\nmetadata: {name: x}\n").is_empty());
        assert!(names("a: [").is_empty() && names("").is_empty());
        assert!(names(crate::apps::NOTHING_TEXT).is_empty());
        let text = "kind: Namespace\nmetadata: {name: shop}\n---\nkind: PersistentVolumeClaim\nmetadata: {name: db, namespace: shop}\n\
                    ---\nkind: PersistentVolumeClaim\nmetadata: {name: till}\n---\nkind: ConfigMap\nmetadata: {name: x}\n";
        let expected = ["namespaces/shop", "persistentvolumeclaims/shop/db", "persistentvolumeclaims/default/till"];
        assert_eq!(holders(text), expected);
    }
}
