package ignition

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pilotlight/pilotlight/cluster"
)

// cloudInitKeys are all that cloud-init reads at the top of a #cloud-config: the
// properties of cloudinit/config/schemas/schema-cloud-config-v1.json of 26.2,
// which are those of Debian 12's 22.4.2 and nine more. That schema allows no
// others; cloud-init itself warns of them in a log, and boots without them.
var cloudInitKeys = strings.Fields(`
	allow_public_ssh_keys ansible apk_repos apt apt_pipelining apt_reboot_if_required apt_update apt_upgrade authkey_hash
	autoinstall bootcmd byobu_by_default ca-certs ca_certs chef chpasswd cloud_config_modules cloud_final_modules
	cloud_init_modules create_hostname_file device_aliases disable_ec2_metadata disable_root disable_root_opts disk_setup
	drivers fan final_message fqdn fs_setup groups growpart grub-dpkg grub_dpkg hostname keyboard landscape launch-index
	locale locale_configfile lxd manage_etc_hosts manage_resolv_conf mcollective merge_how merge_type migrate
	mount_default_fields mounts no_ssh_fingerprints ntp output package_reboot_if_required package_update package_upgrade
	packages password phone_home power_state prefer_fqdn_over_hostname preserve_hostname puppet random_seed reporting
	resize_rootfs resolv_conf rh_subscription rpi rsyslog runcmd salt_minion snap spacewalk ssh ssh_authorized_keys
	ssh_deletekeys ssh_fp_console_blacklist ssh_genkeytypes ssh_import_id ssh_key_console_blacklist ssh_keys
	ssh_publish_hostkeys ssh_pwauth ssh_quiet_keygen swap system_info timezone ubuntu_advantage ubuntu_pro updates user
	users vendor_data version wireguard write_files yum_repo_dir yum_repos zypper`)

// checkCloudInit refuses what cloud-init would pass over. Keys that begin with x-
// are the operator's own, for anchors, as in manifests.
func (e *cloudEditor) checkCloudInit() {
	for i := 0; i+1 < len(e.root.Content); i += 2 {
		k := e.root.Content[i]
		if k.Value == "<<" || strings.HasPrefix(k.Value, "x-") || slices.Contains(cloudInitKeys, k.Value) {
			continue
		}
		hint := "take it out, or write it as x-" + k.Value
		if near := cluster.Nearest(k.Value, cloudInitKeys); near != "" {
			hint = fmt.Sprintf("did you mean %s:?", near)
		}
		e.refuse(k, k.Value, "cloud-init has no such key; %s", hint)
	}
}
