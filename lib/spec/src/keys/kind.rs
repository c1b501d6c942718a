//! The types of values: what the table of keys says about each key, and the check and the schemas obey.

use crate::quantity::{Seconds, Size};

/// What a scalar text has to look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Anything but an empty text.
    Any,
    /// The name of a board: lower-case letters, digits, `-` and `_`.
    BoardName,
    /// A host name with placeholders such as `{serial}`; RFC 1123 letters else.
    HostnamePattern,
    /// An official k3s release, such as `v1.36.2+k3s1`.
    K3sVersion,
    /// The address of a k3s server, `https://HOST:PORT`.
    K3sServer,
    /// One line of an `authorized_keys` file.
    SshKey,
    /// `ed25519:` and 43 letters of unpadded base64 (32 bytes).
    OwnerKey,
    /// An age recipient, `age1…`.
    AgeRecipient,
    /// How often a backup is made ([`crate::backup::Every`]).
    BackupEvery,
    /// Which backups are kept ([`crate::backup::Keep`]).
    BackupKeep,
    /// The label of a file system.
    Label,
    /// A volume claim, `namespace/name`.
    Claim,
    /// A country's two capital letters (ISO 3166).
    Country,
    /// The name of a wireless network, 1 to 32 bytes.
    Ssid,
    /// A MAC address, six pairs of hexadecimal digits with colons.
    Mac,
    /// An address with its prefix length, such as `192.168.1.10/24`.
    Cidr,
    /// An IPv4 or IPv6 address.
    Address,
    /// A host name or an address, as time servers are given.
    Host,
    /// An address, or a network with its prefix length, such as `10.0.0.0/8`.
    Network,
    /// A port or a range of ports with its protocol, such as `80/tcp` or `5000-5100/udp`.
    Port,
    /// The address of a proxy, `http://HOST:PORT`; without a password.
    Proxy,
    /// The address of a file, `http://…` or `https://…`; without a password.
    Download,
    /// What a proxy is not asked for: a host, a domain with a dot before it, an address or a network.
    NoProxy,
    /// An entry of the kernel's `usb-storage.quirks`, such as `152d:0578:u`.
    UsbQuirk,
    /// A Debian package name.
    Package,
    /// An `http://`, `https://` or `file://` address, or a folder; without a password.
    Mirror,
    /// An absolute path on the device, without `.`, `..` and a slash at its end.
    DevicePath,
    /// Permission bits as four octal digits, such as `0644`.
    Mode,
    /// A SHA-256 sum, 64 hexadecimal digits.
    Sum,
    /// The fingerprint of an OpenPGP key, 40 or 64 hexadecimal digits; spaces are allowed.
    Fingerprint,
    /// An appliance's own version: one to four numbers with dots.
    Version,
    /// A part of the day.
    Window,
    /// A short name: lower-case letters, digits and `-`.
    Name,
    /// A module's or a set's name: letters, digits, `-` and `_`.
    Module,
    /// One argument of the kernel, with or without a value; none that says what is booted.
    KernelArgument,
    /// The name of an environment variable's value or of an argument: anything, also empty, but no zero byte.
    Argument,
}

/// The type of a key's value.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A mapping whose keys are in this table.
    Section,
    /// A text of the given form.
    Text(Form),
    /// `true` or `false`.
    Flag,
    /// A number of bytes between two bounds, both included.
    Size(Size, Size),
    /// A duration between two bounds, both included.
    Duration(Seconds, Seconds),
    /// One of some words.
    Choice(&'static [&'static str]),
    /// A whole number between two bounds, both included.
    Number(u64, u64),
    /// A reference `{secret: name}` or `{seed: name}`; a literal is a finding.
    Secret,
    /// A text of a form, or a reference as above where it holds a secret.
    SecretOr(Form),
    /// A list of scalars.
    List(&'static Kind),
    /// A mapping from names of the person's choosing to scalars.
    Map(&'static Kind),
    /// A list of sections; their keys stand in the table as `path[].key`.
    Records,
    /// A mapping from names of the person's choosing to sections; their keys stand in the table as `path{}.key`.
    Named,
    /// A mapping that is handed on as it is.
    Free,
}
