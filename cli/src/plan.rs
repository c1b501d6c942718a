//! `bakelite plan`: what a build would put where, as words or as one JSON value.

use crate::progress::Screen;
use bakelite_image::plan::{Entry, Plan};
use bakelite_spec::layers::Layer;
use bakelite_spec::quantity::Size;
use std::collections::BTreeMap;

pub fn show(plan: &Plan, screen: &Screen) {
    if screen.json {
        return screen.value(&serde_json::json!({ "event": "plan", "plan": plan }));
    }
    let line = |text: String| screen.line(&text);
    line(format!("board       {}, payload {}", plan.board, plan.payload.title()));
    let bytes = plan.packages.iter().map(|package| package.size).sum();
    let suites: Vec<&str> = plan.suites.iter().map(|suite| suite.name.as_str()).collect();
    line(format!("packages    {}, {} packed, from {}", plan.packages.len(), Size(bytes).human(), suites.join(", ")));
    for package in &plan.packages {
        let why = package.required_by.as_ref().map_or_else(String::new, |by| format!(", for {by}"));
        line(format!("  {} {}{why}", package.name, package.version));
    }
    for left in &plan.left_out {
        line(format!("  not: {} ({}), wanted by {}", left.name, left.why, left.wanted_by));
    }
    line(format!("kernel      {}", plan.kernel));
    line(format!("  {}", plan.cmdline));
    let modules = &plan.modules;
    line(format!(
        "modules     {}, {} of them in the initramfs as well; {} wishes for firmware, {} of them unmet",
        modules.root.len(),
        modules.initramfs.len(),
        modules.firmware.len(),
        modules.missing_firmware.len()
    ));
    tree("root", &plan.root, screen);
    tree("dropped", &plan.dropped, screen);
    tree("initramfs", &plan.initramfs, screen);
    tree("boot", &plan.boot, screen);
    let grow = if plan.slots_grow { "; slots: twice the packed system where that is more" } else { "" };
    line(format!("partitions  {}{grow}", plan.partitions.len()));
    for partition in &plan.partitions {
        line(format!("  {:<14} {:>10}", partition.name, Size(partition.length).human()));
    }
    line(format!("units       {}", plan.units.len()));
    for unit in &plan.units {
        line(format!("  {:<10} {}", unit.name, unit.command.join(" ")));
    }
    let told: Vec<_> = plan.settings.iter().filter(|setting| setting.set_by != Layer::Defaults).collect();
    line(format!("settings    {}, of them {} not by default", plan.settings.len(), told.len()));
    for setting in told {
        line(format!("  {} = {} ({})", setting.key, setting.value, setting.set_by.name()));
    }
    line("every entry: --json".into());
}

/// How many files and bytes of a tree come from where.
fn tree(name: &str, entries: &[Entry], screen: &Screen) {
    let mut from: BTreeMap<&str, (usize, u64)> = BTreeMap::new();
    for entry in entries {
        if let (Some(origin), Some(size)) = (&entry.from, entry.size) {
            let sum = from.entry(origin).or_default();
            *sum = (sum.0 + 1, sum.1 + size);
        }
    }
    let (files, bytes) = from.values().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    screen.line(&format!("{name:<11} {files} files, {}", Size(bytes).human()));
    let mut from: Vec<_> = from.into_iter().collect();
    from.sort_by_key(|(_, (_, bytes))| std::cmp::Reverse(*bytes));
    for (origin, (files, bytes)) in from {
        screen.line(&format!("  {origin:<28} {files:>6} files {:>10}", Size(bytes).human()));
    }
}
