//! What people attach to a machine besides disks, as QEMU shows it.

/// One thing, by the word that `board.with` has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    /// A touch screen, as far as QEMU has one: a tablet that tells where it is touched.
    Touch,
    /// A sound card on the PCI bus, and one on USB.
    Audio,
    /// A serial adapter (FTDI's), whose other end is open.
    UsbSerial,
}

impl Attached {
    /// What a word stands for.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "touch" => Some(Self::Touch),
            "audio" => Some(Self::Audio),
            "usb-serial" => Some(Self::UsbSerial),
            _ => None,
        }
    }

    /// QEMU's arguments.
    pub(crate) fn arguments(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Touch => &[("-device", "usb-tablet,id=touch,bus=xhci.0")],
            Self::Audio => &[
                ("-audiodev", "none,id=sound"),
                ("-device", "intel-hda,id=hda"),
                ("-device", "hda-duplex,bus=hda.0,audiodev=sound"),
                ("-device", "usb-audio,id=usb-sound,bus=xhci.0,audiodev=sound"),
            ],
            Self::UsbSerial => &[
                ("-chardev", "null,id=adapter"),
                ("-device", "usb-serial,id=serial-adapter,bus=xhci.0,chardev=adapter,always-plugged=on"),
            ],
        }
    }
}
