//! The forms of texts: what a host name, a key, a path or a version has to look like, and what to type instead.

use crate::backup::{Every, Keep};
use crate::cmdline::Cmdline;
use crate::finding::nearest;
use crate::keys::Form;
use crate::window::Window;
use std::net::IpAddr;

/// Whether a text has its form; else what is wrong and what to try.
pub(crate) fn form_of(form: Form, text: &str) -> Result<(), (String, String)> {
    let (good, what, example): (bool, &str, &str) = match form {
        Form::Any => (!text.trim().is_empty(), "empty", "a value, or leave the key out"),
        Form::BoardName => {
            (is_word(text, "-_"), "not the name of a board", "`bakelite new --list` for the boards there are")
        }
        Form::HostnamePattern => return hostname_pattern(text),
        Form::K3sVersion => {
            (is_k3s_version(text), "not a k3s release", "a version such as `v1.36.2+k3s1`, `rehearsal` or `none`")
        }
        Form::K3sServer => {
            let host = text.strip_prefix("https://").unwrap_or_default();
            let good = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.:[]".contains(&b));
            (good, "not the address of a k3s server", "`https://192.168.1.100:6443`")
        }
        Form::SshKey => (
            is_ssh_key(text),
            "not a public ssh key",
            "the whole line of a `.pub` file, such as `ssh-ed25519 AAAA… me@laptop`",
        ),
        Form::OwnerKey => {
            (is_owner_key(text), "not an owner's public key", "the `ed25519:…` that `bakelite new` printed")
        }
        Form::AgeRecipient => (
            text.len() == 62
                && text
                    .strip_prefix("age1")
                    .is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())),
            "not an age recipient",
            "the `age1…` that `bakelite new` printed",
        ),
        Form::BackupEvery => (
            text.parse::<Every>().is_ok(),
            "not how often a backup is made",
            "`auto`, `off`, a duration such as `6h`, or hours in UTC such as `03:00`, `03:00, 15:00` or `sunday 03:00`; ten minutes apart at least",
        ),
        Form::BackupKeep => (
            text.parse::<Keep>().is_ok(),
            "not a rule for which backups are kept",
            "`24 hourly, 7 daily, 4 weekly`, a count such as `\"720\"`, or an age such as `7 days`",
        ),
        Form::Claim => (
            text.len() <= 150 && text.split('/').count() == 2 && text.split('/').all(|part| is_word(part, "-.")),
            "not a volume claim",
            "its namespace and name, such as `shop/till-data`",
        ),
        // ext4's labels are the longest of those that are looked for.
        Form::Label => (
            (1..=16).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
                && text == text.trim(),
            "not the label of a file system",
            "at most 16 letters, such as the `BACKUPS` of `mkfs.vfat -n BACKUPS`",
        ),
        Form::Country => (
            text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_uppercase()),
            "not a country's two letters",
            "`DE`, `US` and the like",
        ),
        Form::Ssid => (
            (1..=32).contains(&text.len()) && !text.contains(char::is_control),
            "not the name of a wireless network",
            "1 to 32 letters on one line",
        ),
        Form::Mac => (
            text.split(':').count() == 6
                && text.split(':').all(|pair| pair.len() == 2 && u8::from_str_radix(pair, 16).is_ok()),
            "not a MAC address",
            "six pairs such as `dc:a6:32:01:02:03`",
        ),
        Form::Cidr => (is_cidr(text), "not an address with a prefix length", "`192.168.1.10/24`"),
        Form::Address => (text.parse::<IpAddr>().is_ok(), "not an address", "an address such as `192.168.1.1`"),
        Form::Host => (
            text.parse::<IpAddr>().is_ok() || is_word(&text.to_lowercase(), ".-"),
            "not a host name or address",
            "`pool.ntp.org` or `192.168.1.1`",
        ),
        Form::Network => (
            is_cidr(text) || text.parse::<IpAddr>().is_ok(),
            "not an address or a network",
            "`192.168.1.0/24` or `192.168.1.7`",
        ),
        Form::Port => (is_port(text), "not a port with its protocol", "`80/tcp` or `5000-5100/udp`"),
        Form::Version => {
            (crate::update::is_version(text), "not a version", "one to four numbers with dots, such as `\"1.4.2\"`")
        }
        Form::Window => (
            text.parse::<Window>().is_ok(),
            "not a part of the day",
            "two times that are a quarter of an hour apart at least, such as `02:00-04:00`",
        ),
        Form::UsbQuirk => (
            is_usb_quirk(text),
            "not a USB device with its quirks",
            "`152d:0578:u`: maker, product and the letters of `usb-storage.quirks`",
        ),
        Form::Package => {
            (text.len() >= 2 && is_word(text, "+.-"), "not a package name", "the name that `apt-cache policy` knows")
        }
        Form::Proxy if has_password(text) => {
            let problem = "holds a user's name and password, which would be in the image";
            return Err((problem.into(), "`{secret: NAME}`, a secret that holds all of the address".into()));
        }
        Form::Proxy => {
            let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")).unwrap_or_default();
            let host = host.trim_end_matches('/');
            let good = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.:[]".contains(&b));
            (good, "not the address of a proxy", "`http://proxy.shop.lan:3128`")
        }
        Form::Download if has_password(text) => {
            let problem = "holds a user's name and password, which would be in the image";
            return Err((
                problem.into(),
                "an address that asks for none: what is there is signed, and no secret".into(),
            ));
        }
        Form::Download => {
            let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or_default();
            let good = rest.split_once('/').is_some_and(|(host, path)| !host.is_empty() && !path.is_empty())
                && rest.bytes().all(|b| b.is_ascii_graphic() && !b"\"'\\`<>{}|^#".contains(&b));
            (good, "not the address of a file", "`https://updates.example/shop.bundle`")
        }
        Form::NoProxy => (
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.:/*".contains(&b)),
            "not a host, domain or network",
            "`.shop.lan` or `10.0.0.0/8`",
        ),
        Form::Mirror if has_password(text) => {
            // The text itself must not stand in a message: it holds the password.
            let hint = "the address alone; a mirror that asks for a password isn't supported";
            return Err(("holds a user's name and password, which would stand in locks and logs".into(), hint.into()));
        }
        Form::Mirror => (
            ["http://", "https://", "file://", "/"].iter().any(|start| text.starts_with(start)),
            "not a mirror",
            "an http:// or https:// address, or the absolute path of a local mirror",
        ),
        Form::DevicePath => (
            is_device_path(text),
            "not an absolute path on the device",
            "a path such as `/etc/shop/till.conf`, without `.`, `..` and a slash at its end",
        ),
        Form::Mode => (
            text.len() == 4 && text.starts_with('0') && text.bytes().all(|b| (b'0'..=b'7').contains(&b)),
            "not a file's mode",
            "`\"0644\"`, or `\"0755\"` for a program; set-id bits are not given",
        ),
        Form::Sum => (is_hexadecimal(text, &[64]), "not a SHA-256 sum", "the 64 digits that `sha256sum FILE` prints"),
        Form::Fingerprint => (
            is_hexadecimal(&text.replace(' ', ""), &[40, 64]),
            "not a key's fingerprint",
            "the 40 digits that `gpg --show-keys FILE` prints",
        ),
        Form::Name => (
            text.len() <= 63 && is_word(text, "-"),
            "not a name",
            "lower-case letters, digits and `-`, such as `till-display`",
        ),
        Form::Module => (
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)),
            "not the name of a module",
            "the name that `modinfo` knows",
        ),
        Form::KernelArgument => (
            is_kernel_argument(text),
            "not an argument of the kernel's that can be set here",
            "one argument such as `nomodeset`, in quotes where its value has blanks; `root`, `init`, `initrd` and `bakelite.…` are the boot loader's",
        ),
        Form::Argument => (!text.contains('\0'), "a text with a zero byte", "leaving that byte out"),
    };
    if good { Ok(()) } else { Err((format!("`{text}` is {what}"), example.into())) }
}

fn is_word(text: &str, also: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || also.contains(c))
}

fn is_k3s_version(text: &str) -> bool {
    let Some((version, build)) = text.strip_prefix('v').and_then(|rest| rest.split_once('+')) else { return false };
    let release = version.split_once('-').map_or(version, |(release, _)| release);
    let number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    release.split('.').count() == 3
        && release.split('.').all(number)
        && version.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-')
        && build.strip_prefix("k3s").is_some_and(number)
}

fn is_ssh_key(text: &str) -> bool {
    let mut words = text.split_ascii_whitespace();
    let (Some(kind), Some(body)) = (words.next(), words.next()) else { return false };
    let known = ["ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa"];
    !text.contains(['\n', '\r'])
        && known.contains(&kind)
        && body.starts_with("AAAA")
        && body.len() >= 40
        && body.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b))
}

fn is_owner_key(text: &str) -> bool {
    text.strip_prefix("ed25519:")
        .is_some_and(|key| key.len() == 43 && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/".contains(&b)))
}

fn is_cidr(text: &str) -> bool {
    let Some((address, prefix)) = text.split_once('/') else { return false };
    match (address.parse::<IpAddr>(), prefix.parse::<u8>()) {
        (Ok(IpAddr::V4(_)), Ok(prefix)) => prefix <= 32,
        (Ok(IpAddr::V6(_)), Ok(prefix)) => prefix <= 128,
        _ => false,
    }
}

fn is_port(text: &str) -> bool {
    let Some((ports, "tcp" | "udp")) = text.split_once('/') else { return false };
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0 && port.to_string() == text);
    match ports.split_once('-') {
        Some((low, high)) => number(low).zip(number(high)).is_some_and(|(low, high)| low < high),
        None => number(ports).is_some(),
    }
}

fn has_password(text: &str) -> bool {
    text.split_once("://").is_some_and(|(_, rest)| rest.split('/').next().is_some_and(|host| host.contains('@')))
}

fn is_kernel_argument(text: &str) -> bool {
    let line = Cmdline::parse(text);
    let keys: Vec<&str> = line.keys().collect();
    let is_loaders = |key: &str| matches!(key, "root" | "init" | "rdinit" | "initrd") || key.starts_with("bakelite.");
    matches!(keys[..], [key] if !key.is_empty() && !is_loaders(key) && !key.starts_with(['#', '-']))
        && text.len() <= 256
        && text.bytes().all(|b| (b' '..=b'~').contains(&b))
        && text.matches('"').count().is_multiple_of(2)
}

fn is_device_path(text: &str) -> bool {
    text.strip_prefix('/').is_some_and(|rest| rest.split('/').all(|part| !matches!(part, "" | "." | "..")))
        && !text.contains(['\0', '\n'])
        && text.len() < 4096
}

fn is_hexadecimal(text: &str, lengths: &[usize]) -> bool {
    lengths.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The placeholders that a host name may hold.
pub const HOSTNAME_PLACEHOLDERS: &[&str] = &["serial", "mac", "board"];

fn hostname_pattern(text: &str) -> Result<(), (String, String)> {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((name, after)) = after.split_once('}') else {
            return Err((format!("`{text}` opens a brace and doesn't close it"), "`{serial}`".into()));
        };
        let of_seed = name.strip_prefix("seed.").is_some_and(|name| is_word(name, "-_"));
        if !of_seed && !HOSTNAME_PLACEHOLDERS.contains(&name) {
            let hint = nearest(name, HOSTNAME_PLACEHOLDERS.iter().copied()).unwrap_or("serial");
            return Err((format!("`{{{name}}}` is not a known placeholder"), format!("`{{{hint}}}`")));
        }
        plain.push_str(before);
        plain.push('0');
        rest = after;
    }
    plain.push_str(rest);
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && is_word(label, "-")
    };
    if plain.len() <= 63 && label(&plain) && plain != "localhost" {
        Ok(())
    } else {
        Err((
            format!("`{text}` is not a node name"),
            "lower-case letters, digits and `-`, such as `shop-{serial}`".into(),
        ))
    }
}

/// Maker and product as four hexadecimal digits each, and letters (kernel: Documentation/admin-guide/kernel-parameters).
fn is_usb_quirk(text: &str) -> bool {
    let parts: Vec<&str> = text.split(':').collect();
    let is_number = |part: &str| part.len() == 4 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_letters = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase());
    matches!(parts[..], [maker, product, letters] if is_number(maker) && is_number(product) && is_letters(letters))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let good = |form, text| form_of(form, text).is_ok();
        assert!(good(Form::HostnamePattern, "shop-{serial}"));
        assert!(!good(Form::HostnamePattern, "shop-{seriel}"));
        assert!(good(Form::HostnamePattern, "shop-{seed.number}") && !good(Form::HostnamePattern, "shop-{seed.}"));
        assert!(!good(Form::HostnamePattern, "Shop"));
        assert!(!good(Form::HostnamePattern, "a.b"));
        assert!(!good(Form::HostnamePattern, "localhost"));
        assert!(good(Form::K3sVersion, "v1.36.2+k3s1"));
        assert!(good(Form::K3sVersion, "v1.36.2-rc1+k3s1"));
        assert!(!good(Form::K3sVersion, "1.36.2"));
        assert!(!good(Form::K3sVersion, "v1.36.2/../+k3s1"));
        assert!(good(Form::K3sServer, "https://[fd00::1]:6443") && good(Form::K3sServer, "https://shop-1.lan:6443"));
        assert!(!good(Form::K3sServer, "http://shop-1:6443") && !good(Form::K3sServer, "https://a/b"));
        assert!(good(Form::Cidr, "10.0.0.1/8") && !good(Form::Cidr, "10.0.0.1/33") && !good(Form::Cidr, "10.0.0.1"));
        assert!(!good(Form::SshKey, "ssh-ed25519 AAAA\ncommand"));
        assert!(good(Form::Network, "10.0.0.0/8") && good(Form::Network, "fd00::1") && !good(Form::Network, "shop"));
        assert!(good(Form::Country, "DE") && !good(Form::Country, "de") && !good(Form::Country, "DEU"));
        assert!(good(Form::Ssid, "Café \"2\"") && !good(Form::Ssid, "a\nb"));
        assert!(!good(Form::Ssid, "a name with more than 32 bytes in it"));
        assert!(good(Form::UsbQuirk, "152d:0578:u") && !good(Form::UsbQuirk, "152d:578:u"));
        assert!(!good(Form::UsbQuirk, "152d:0578") && !good(Form::UsbQuirk, "152d:0578:u,1:2:u"));
        assert!(good(Form::Port, "80/tcp") && good(Form::Port, "5000-5100/udp"));
        for bad in ["80", "0/tcp", "80/icmp", "5100-5000/udp", "80/tcp; accept", "080/tcp", "+80/tcp", "65536/tcp"] {
            assert!(!good(Form::Port, bad), "{bad}");
        }
    }

    #[test]
    fn forms_of_a_users_own_things() {
        let good = |form, text| form_of(form, text).is_ok();
        assert!(good(Form::DevicePath, "/etc/shop/till.conf"));
        for bad in ["etc/x", "/", "/etc/", "/etc/../x", "/etc//x", "/a\nb"] {
            assert!(!good(Form::DevicePath, bad), "{bad}");
        }
        assert!(good(Form::Mode, "0644") && !good(Form::Mode, "644") && !good(Form::Mode, "4755"));
        let sum = "0a".repeat(32);
        assert!(form_of(Form::Sum, &sum).is_ok() && !good(Form::Sum, "0a"));
        assert!(good(Form::Fingerprint, "04B5 4C3C DCA7 9751 B16B  C6B5 2256 29DF 75B1 88BD"));
        assert!(good(Form::Name, "till-2") && !good(Form::Name, "Till") && !good(Form::Name, ""));
        assert!(good(Form::Module, "ip6t_REJECT") && !good(Form::Module, "a/b"));
        for argument in ["nomodeset", "a.b=1,2", "dyndbg=\"file a +p\""] {
            assert!(good(Form::KernelArgument, argument), "{argument}");
        }
        for bad in ["", "a b", "init=/bin/sh", "bakelite.slot=b", "a\nb", "x=\"y", "#set", "=1"] {
            assert!(!good(Form::KernelArgument, bad), "{bad}");
        }
        assert!(good(Form::Argument, "") && !good(Form::Argument, "a\0b"));
    }

    #[test]
    fn a_password_in_an_address_is_refused_and_not_repeated() {
        let (problem, hint) = form_of(Form::Mirror, "https://me:hunter2@mirror.example/debian").unwrap_err();
        assert!(problem.contains("password") && !format!("{problem}{hint}").contains("hunter2"));
        assert!(form_of(Form::Mirror, "https://mirror.example/a@b").is_ok());
        let (problem, hint) = form_of(Form::Proxy, "http://me:hunter2@proxy:3128").unwrap_err();
        assert!(hint.contains("{secret: NAME}") && !format!("{problem}{hint}").contains("hunter2"));
        assert!(form_of(Form::Proxy, "http://[fd00::1]:3128/").is_ok() && form_of(Form::Proxy, "proxy:3128").is_err());
        let (problem, hint) = form_of(Form::Download, "https://me:hunter2@a.example/b").unwrap_err();
        assert!(problem.contains("password") && !format!("{problem}{hint}").contains("hunter2"));
        for good in ["https://a.example/shop.bundle", "http://[fd00::1]:8080/b/shop.bundle?board=rpi4"] {
            assert!(form_of(Form::Download, good).is_ok(), "{good}");
        }
        for bad in [
            "shop.bundle",
            "ftp://a/b",
            "file:///b",
            "https://a",
            "https:///b",
            "https://a/",
            "https://a/b c",
            "https://a/b#c",
        ] {
            assert!(form_of(Form::Download, bad).is_err(), "{bad}");
        }
        assert!(form_of(Form::NoProxy, ".shop.lan").is_ok() && form_of(Form::NoProxy, "a,b").is_err());
    }
}
