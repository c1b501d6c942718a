//! `bakelite inspect`: what is in an image, as words or as one JSON value. Exit status 1: something couldn't be read.

use crate::progress::Screen;
use bakelite_image::BuildError;
use bakelite_image::inspect::{self, Entry, Inspected, Told};
use bakelite_spec::layers::Layer;
use bakelite_spec::quantity::Size;
use std::path::Path;
use std::process::ExitCode;

/// Shows an image, a path of it, or a file's content.
pub fn inspect(image: &Path, at: Option<&str>, wants_content: bool, screen: &Screen) -> Result<ExitCode, BuildError> {
    let seen = match at {
        None => {
            let inspected = inspect::inspect(image)?;
            if screen.json {
                screen.value(&serde_json::json!({ "event": "image", "image": inspected }));
            } else {
                show(&inspected, screen);
            }
            Ok(())
        }
        Some(at) if wants_content => inspect::content(image, at, &mut std::io::stdout().lock())?,
        Some(at) => inspect::look(image, at)?.map(|entries| list(&entries, screen)),
    };
    match seen {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(why) => {
            screen.problem(&why);
            Ok(ExitCode::FAILURE)
        }
    }
}

fn show(image: &Inspected, screen: &Screen) {
    let line = |text: String| screen.line(&text);
    told("image", &image.manifest, screen, |manifest| {
        line(format!(
            "image       {} for {}, by bakelite {}, {}",
            manifest.image,
            manifest.board_name,
            manifest.version,
            Size(image.length).human()
        ));
        line(format!("payload     {}", manifest.payload.title()));
        for file in &manifest.payload.files {
            line(format!("  {:>10} {} {}", Size(file.size).human(), file.sha256, file.path));
        }
        line(format!("kernel      {}", manifest.system.kernel));
    });
    told("partitions", &image.partitions, screen, |partitions| {
        line(format!("partitions  {}", partitions.len()));
        for partition in partitions {
            let used = partition.used.map_or_else(String::new, |used| format!(", used {}", Size(used).human()));
            let size = Size(partition.length).human();
            line(format!("  {} {:<14} {size:>10} at {}{used}", partition.number, partition.name, partition.start));
        }
    });
    told("boot", &image.boot, screen, |files| {
        line(format!("boot        {} files", files.len()));
        files.iter().for_each(|file| line(format!("  {:>10} {}", Size(file.size).human(), file.path)));
    });
    told("starts", &image.starts, screen, |starts| {
        for start in starts {
            let tries = if start.tries { ", trying" } else { "" };
            line(format!("{:<11} {}", format!("{}{tries}", start.model), start.loads.kernel));
            let tree = start.loads.device_tree.iter();
            tree.chain(&start.loads.initramfs).chain(&start.loads.cmdline).for_each(|path| line(format!("  {path}")));
            line(format!("  {}", start.cmdline));
            start.problems.iter().for_each(|problem| line(format!("  WRONG: {problem}")));
        }
    });
    told("packages", &image.packages, screen, |packages| {
        line(format!("packages    {}", packages.len()));
        packages.iter().for_each(|package| line(format!("  {} {}", package.name, package.version)));
    });
    told("system", &image.folders, screen, |folders| {
        line(format!("system      {} unpacked", Size(folders.values().sum()).human()));
        folders.iter().for_each(|(path, bytes)| line(format!("  {:>10} {path}", Size(*bytes).human())));
    });
    told("units", &image.units, screen, |units| {
        line(format!("units       {}", units.len()));
        units.iter().for_each(|unit| line(format!("  {:<10} {}", unit.name, unit.command.join(" "))));
    });
    told("settings", &image.settings, screen, |settings| {
        line(format!("settings    {}", settings.len()));
        for setting in settings.iter().filter(|setting| setting.set_by != Layer::Defaults) {
            line(format!("  {} = {} ({})", setting.key, setting.value, setting.set_by.name()));
        }
    });
}

fn told<T>(name: &str, part: &Told<T>, screen: &Screen, show: impl Fn(&T)) {
    match part {
        Told::Is(value) => show(value),
        Told::Unreadable(why) => screen.line(&format!("{name:<11} unreadable: {why}")),
    }
}

fn list(entries: &[Entry], screen: &Screen) {
    if screen.json {
        return screen.value(&serde_json::json!({ "event": "entries", "entries": entries }));
    }
    for entry in entries {
        let kind = match entry.kind {
            "folder" => 'd',
            "file" => '-',
            "link" => 'l',
            _ => '?',
        };
        let mode = entry.mode.as_deref().unwrap_or("-");
        let target = entry.target.as_ref().map_or_else(String::new, |target| format!(" -> {target}"));
        let sum = entry.sha256.as_ref().map_or_else(String::new, |sum| format!(" sha256 {sum}"));
        let owner =
            entry.owner.zip(entry.group).map_or_else(|| "-".into(), |(owner, group)| format!("{owner}:{group}"));
        let size = Size(entry.size).human();
        screen.line(&format!("{kind} {mode:<4} {owner:<9} {size:>10} {}{target}{sum}", entry.path));
    }
}
