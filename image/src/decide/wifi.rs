//! What wpa_supplicant reads: a template whose secrets only the device fills in, in memory.
//!
//! wpa_supplicant and not iwd, as it needs no D-Bus daemon: an operator gets in by radio with nothing but this program.

use bakelite_spec::appliance::Wifi;

/// Where the image has it; what is there leads to where the device makes it.
pub const CONFIG: &str = "/etc/wpa_supplicant/bakelite.conf";
/// The radio's link: without udev the kernel's own name stays.
pub const LINK: &str = "wlan0";

/// The template; `None` where no network is to be joined.
pub fn config(wifi: &Wifi) -> Option<String> {
    let ssid = wifi.ssid.as_ref()?;
    let mut text = String::new();
    if let Some(country) = &wifi.country {
        text += &format!("country={country}\n");
    }
    // Of a text in quotes the last one counts, so that those in a name or password are part of it.
    text += &format!("network={{\n\tssid=\"{ssid}\"\n");
    if wifi.hidden {
        text += "\tscan_ssid=1\n";
    }
    text += &match &wifi.password {
        // WPA2 and WPA3 with one password; frames are protected where the network can.
        Some(secret) => {
            format!("\tkey_mgmt=WPA-PSK WPA-PSK-SHA256 SAE\n\tieee80211w=1\n\tpsk=\"{secret}\"\n")
        }
        None => "\tkey_mgmt=NONE\n".into(),
    };
    Some(text + "}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn text(value: serde_json::Value) -> Option<String> {
        config(&serde_json::from_value(value).unwrap())
    }

    #[test]
    fn a_network_is_a_template_without_a_secret() {
        assert_eq!(text(json!({})), None);
        let shop = json!({"country": "DE", "ssid": {"seed": "wifi-name"}, "password": {"secret": "wifi"}});
        assert_eq!(
            text(shop).unwrap(),
            "country=DE\nnetwork={\n\tssid=\"{seed: wifi-name}\"\n\tkey_mgmt=WPA-PSK WPA-PSK-SHA256 SAE\n\tieee80211w=1\n\t\
             psk=\"{secret: wifi}\"\n}\n"
        );
        let open = text(json!({"country": "US", "ssid": "a \"b\"", "hidden": true})).unwrap();
        assert_eq!(open, "country=US\nnetwork={\n\tssid=\"a \"b\"\"\n\tscan_ssid=1\n\tkey_mgmt=NONE\n}\n");
    }
}
