//! The kernel's device tree on its way to QEMU, with what the board says that QEMU's machine has otherwise.

use bakelite_spec::board::TreeChange;
use dtoolkit::fdt::Fdt;
use dtoolkit::model::{DeviceTree, DeviceTreeProperty};

/// The changed tree.
///
/// # Errors
/// Words for a tree that can't be read, or that hasn't what is to be changed: then it isn't the tree that was meant.
pub fn changed(tree: &[u8], changes: &[TreeChange]) -> Result<Vec<u8>, String> {
    if changes.is_empty() {
        return Ok(tree.into());
    }
    let read = Fdt::new(tree).map_err(|error| format!("its device tree: {error}"))?;
    let mut tree = DeviceTree::from_fdt(&read);
    for change in changes {
        for path in &change.nodes {
            let node = tree.find_node_mut(path).ok_or_else(|| format!("its device tree has no {path}"))?;
            for (name, text) in &change.set {
                let property = match text.as_str() {
                    "" => DeviceTreeProperty::new(name, Vec::<u8>::new()),
                    text => DeviceTreeProperty::new(name, text),
                };
                node.add_property(property.map_err(|error| format!("a change of its device tree: {error}"))?);
            }
            for name in &change.remove {
                node.remove_property(name).ok_or_else(|| format!("its device tree has no {name} in {path}"))?;
            }
        }
    }
    Ok(tree.to_dtb())
}

#[cfg(test)]
mod tests {
    use super::*;
    use dtoolkit::model::DeviceTreeNode;
    use dtoolkit::{Node, Property};

    /// A board's tree with a serial port and a card's host.
    fn tree() -> Vec<u8> {
        let property = |name: &str, value: &[u8]| DeviceTreeProperty::new(name, value.to_vec()).unwrap();
        let serial = DeviceTreeNode::builder("serial@7e215040").unwrap().property(property("status", b"disabled\0"));
        let card = DeviceTreeNode::builder("mmc@7e300000").unwrap().property(property("non-removable", b""));
        let soc = DeviceTreeNode::builder("soc").unwrap().property(property("#address-cells", &[0, 0, 0, 1]));
        let mut tree = DeviceTree::new();
        tree.root.add_child(soc.child(serial.build()).child(card.build()).build());
        tree.to_dtb()
    }

    fn change(node: &str, set: &[(&str, &str)], remove: &[&str]) -> TreeChange {
        TreeChange {
            nodes: vec![node.into()],
            set: set.iter().map(|(name, text)| ((*name).into(), (*text).into())).collect(),
            remove: remove.iter().map(|name| (*name).into()).collect(),
        }
    }

    #[test]
    fn only_what_is_said_changes() {
        let changes = [
            change("/soc/serial@7e215040", &[("status", "okay")], &[]),
            change("/soc/mmc@7e300000", &[("broken-cd", "")], &["non-removable"]),
        ];
        let changed = changed(&tree(), &changes).unwrap();
        let read = Fdt::new(&changed).unwrap();
        let value =
            |path: &str, name: &str| read.find_node(path).and_then(|node| Some(node.property(name)?.value().to_vec()));
        assert_eq!(value("/soc/serial@7e215040", "status"), Some(b"okay\0".to_vec()));
        assert_eq!(value("/soc/mmc@7e300000", "broken-cd"), Some(Vec::new()));
        assert_eq!(value("/soc/mmc@7e300000", "non-removable"), None);
        assert_eq!(value("/soc", "#address-cells"), Some(vec![0, 0, 0, 1]));
    }

    #[test]
    fn a_tree_that_was_not_meant_is_refused() {
        let refused = |tree: &[u8], change: TreeChange| changed(tree, &[change]).unwrap_err();
        assert_eq!(refused(&tree(), change("/soc/serial@0", &[], &[])), "its device tree has no /soc/serial@0");
        let absent = refused(&tree(), change("/soc", &[], &["ranges"]));
        assert_eq!(absent, "its device tree has no ranges in /soc");
        assert!(refused(&tree(), change("/soc", &[("a b", "")], &[])).starts_with("a change of its device tree: "));
        let whole = tree();
        assert_eq!(changed(b"as it is", &[]).unwrap(), b"as it is");
        assert!(refused(&whole[..whole.len() / 2], change("/soc", &[], &[])).starts_with("its device tree: "));
    }
}
