//! dhcpcd's configuration: the frame that holds whatever the settings are, for firstboot and for init's own fallback.

/// Links that k3s makes and that are none of DHCP's business.
const NOT_OURS: &str = "cni* flannel* veth* kube* dummy* tunl* wg* docker* cali* lo";

/// The lines before those of single links. `nodev`: without it dhcpcd waits for a udev that isn't here and sees no link.
pub fn frame() -> String {
    format!(
        "nodev\ndenyinterfaces {NOT_OURS}\nhostname\nclientid\npersistent\nnoipv4ll\nnohook hostname, ntp, timesyncd, wpa_supplicant, yp\n\
         option domain_name_servers, domain_name, domain_search, classless_static_routes, interface_mtu\n"
    )
}
