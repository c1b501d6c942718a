//! The models of the Raspberry Pi, as far as their firmware differs: which files it loads and which filters it obeys.
//!
//! From the makers' documentation of config.txt and the kernel's names of device trees. Models with an ARMv6 processor
//! aren't in the table: nothing here runs on them.

/// A family of chips, whose firmware loads files of the same names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chip {
    /// Pi 2.
    Bcm2836,
    /// Pi 3, Zero 2 W.
    Bcm2837,
    /// Pi 4.
    Bcm2711,
    /// Pi 5.
    Bcm2712,
}

/// One model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Model {
    /// Its name in a board's `boot.models`.
    pub name: &'static str,
    /// What people call it.
    pub title: &'static str,
    /// Its chip.
    pub chip: Chip,
    /// The filters of config.txt that it obeys besides `[all]`.
    pub filters: &'static [&'static str],
    /// Its number for `[board-type=…]`.
    pub board_type: u32,
    /// The device tree by the kernel's own name.
    pub upstream: &'static str,
    /// The device tree by the makers' name.
    pub downstream: &'static str,
}

const fn model(
    (name, title): (&'static str, &'static str),
    chip: Chip,
    filters: &'static [&'static str],
    board_type: u32,
    (upstream, downstream): (&'static str, &'static str),
) -> Model {
    Model { name, title, chip, filters, board_type, upstream, downstream }
}

/// All models.
pub const MODELS: &[Model] = &[
    model(("2b", "Pi 2 B"), Chip::Bcm2836, &["pi2"], 0x04, ("bcm2836-rpi-2-b.dtb", "bcm2709-rpi-2-b.dtb")),
    model(("3b", "Pi 3 B"), Chip::Bcm2837, &["pi3"], 0x08, ("bcm2837-rpi-3-b.dtb", "bcm2710-rpi-3-b.dtb")),
    model(
        ("3b+", "Pi 3 B+"),
        Chip::Bcm2837,
        &["pi3", "pi3+"],
        0x0d,
        ("bcm2837-rpi-3-b-plus.dtb", "bcm2710-rpi-3-b-plus.dtb"),
    ),
    model(
        ("3a+", "Pi 3 A+"),
        Chip::Bcm2837,
        &["pi3", "pi3+"],
        0x0e,
        ("bcm2837-rpi-3-a-plus.dtb", "bcm2710-rpi-3-b-plus.dtb"),
    ),
    model(("cm3", "CM3, CM3+"), Chip::Bcm2837, &["pi3"], 0x0a, ("bcm2837-rpi-cm3-io3.dtb", "bcm2710-rpi-cm3.dtb")),
    model(
        ("zero-2-w", "Zero 2 W"),
        Chip::Bcm2837,
        &["pi0", "pi0w", "pi02"],
        0x12,
        ("bcm2837-rpi-zero-2-w.dtb", "bcm2710-rpi-zero-2-w.dtb"),
    ),
    model(("4b", "Pi 4 B"), Chip::Bcm2711, &["pi4"], 0x11, ("bcm2711-rpi-4-b.dtb", "bcm2711-rpi-4-b.dtb")),
    model(("400", "Pi 400"), Chip::Bcm2711, &["pi4", "pi400"], 0x13, ("bcm2711-rpi-400.dtb", "bcm2711-rpi-400.dtb")),
    model(
        ("cm4", "CM4"),
        Chip::Bcm2711,
        &["pi4", "cm4"],
        0x14,
        // Debian's kernel has the module only together with the makers' own carrier board.
        ("bcm2711-rpi-cm4-io.dtb", "bcm2711-rpi-cm4.dtb"),
    ),
    model(("5", "Pi 5"), Chip::Bcm2712, &["pi5"], 0x17, ("bcm2712-rpi-5-b.dtb", "bcm2712-rpi-5-b.dtb")),
];

/// The names of all models, for the table of keys.
pub const NAMES: &[&str] = &["2b", "3b", "3b+", "3a+", "cm3", "zero-2-w", "4b", "400", "cm4", "5"];

/// The model with a name.
pub fn find(name: &str) -> Option<&'static Model> {
    MODELS.iter().find(|model| model.name == name)
}

impl Model {
    /// The kernel that it loads without a word, with 64 bits or with 32.
    pub fn kernel(&self, sixty_four: bool) -> &'static str {
        match (self.chip, sixty_four) {
            (Chip::Bcm2712, true) => "kernel_2712.img",
            (_, true) => "kernel8.img",
            (Chip::Bcm2711 | Chip::Bcm2712, false) => "kernel7l.img",
            (_, false) => "kernel7.img",
        }
    }

    /// What the kernel's package calls its device tree: one of the makers' own kernels, or any other.
    pub fn device_tree(&self, of_makers: bool) -> &'static str {
        if of_makers { self.downstream } else { self.upstream }
    }

    /// The names under which the kernel's device tree is to be there. Of the later chips firmware has no second kind of
    /// tree, so whichever name it asks for gets the same; for the earlier ones it would apply an overlay to the makers' kind.
    pub fn device_trees(&self, of_makers: bool) -> Vec<&'static str> {
        match self.chip {
            _ if of_makers => vec![self.downstream],
            Chip::Bcm2836 | Chip::Bcm2837 => vec![self.upstream],
            Chip::Bcm2711 | Chip::Bcm2712 if self.upstream == self.downstream => vec![self.upstream],
            Chip::Bcm2711 | Chip::Bcm2712 => vec![self.upstream, self.downstream],
        }
    }

    /// Whether it starts with 64 bits without a word.
    pub fn prefers_64_bits(&self) -> bool {
        matches!(self.chip, Chip::Bcm2711 | Chip::Bcm2712)
    }

    /// The files that make it read anything at all; the first is in ROM on the later ones, and all of it on the last.
    pub fn loader(&self) -> &'static [&'static str] {
        match self.chip {
            Chip::Bcm2836 | Chip::Bcm2837 => &["bootcode.bin"],
            Chip::Bcm2711 | Chip::Bcm2712 => &[],
        }
    }

    /// What its main firmware and that one's fix-ups are called, with a variant's letters; `None` where both are in ROM.
    pub fn start(&self, variant: &str) -> Option<(String, String)> {
        match self.chip {
            Chip::Bcm2836 | Chip::Bcm2837 => {
                let joint = if variant.is_empty() { "" } else { "_" };
                Some((format!("start{joint}{variant}.elf"), format!("fixup{joint}{variant}.dat")))
            }
            Chip::Bcm2711 => Some((format!("start4{variant}.elf"), format!("fixup4{variant}.dat"))),
            Chip::Bcm2712 => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_of_the_table() {
        assert_eq!(MODELS.iter().map(|model| model.name).collect::<Vec<_>>(), NAMES);
    }

    #[test]
    fn files_are_called_by_chip_and_variant() {
        let start = |name: &str, variant: &str| find(name).unwrap().start(variant).map(|(start, _)| start);
        assert_eq!(start("3b", "").as_deref(), Some("start.elf"));
        assert_eq!(start("3b", "cd").as_deref(), Some("start_cd.elf"));
        assert_eq!(start("cm4", "cd").as_deref(), Some("start4cd.elf"));
        assert_eq!(start("5", ""), None);
    }
}
