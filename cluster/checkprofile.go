package cluster

import (
	"fmt"
	"strings"
)

func (c *checker) profile(p *Profile) {
	oneOf(c, "boot", p.Boot, BootLive, BootInstall, BootLocal)
	oneOf(c, "loader", p.Loader, LoaderIPXE, LoaderGRUB, LoaderPXELINUX)
	c.installation(p)
	if p.Image != "" {
		c.needs("image", KindImage, string(p.Image))
	} else if p.Boot != BootLocal {
		c.add("image", "is missing; name an image, or set boot: local for machines that boot from their disk")
	}
	for i, w := range p.Introduce {
		oneOf(c, fmt.Sprintf("introduce[%d]", i), w, IntroduceToken)
	}
	c.config("config", p.Config)
	c.common(p)
	c.firewall(p)
	c.sshKeys(p.SSHKeys)
	c.readBy(p)
}

// readBy refuses configs that the system which the profile boots does not read: its
// machines would ask for another for ever.
func (c *checker) readBy(p *Profile) {
	d, ok := c.snap.Get(Ref{KindImage, string(p.Image)})
	if !ok {
		return
	}
	os := d.(*Image).OS()
	if os == FedoraCoreOS && p.Config.ForCloudInit() {
		c.add(cloudField("config", p.Config), "is not read by Fedora CoreOS, which image %s is: write butane:", p.Image)
	}
	if os == Flatcar && len(p.Config.CloudParts) > 0 {
		c.add("config.cloud_parts", "is not read by coreos-cloudinit, which image %s has: write cloud_config: with coreos: in it, or butane:", p.Image)
	}
	if os != "" && p.Install != nil && p.Install.Config.ForCloudInit() {
		c.add(cloudField("install.config", p.Install.Config), "is not read by the installer of image %s: write butane:", p.Image)
	}
}

func (c *checker) config(field string, g Config) {
	set := 0
	for _, text := range []string{g.Butane, g.Ignition, g.CloudConfig, g.Text} {
		if text != "" {
			set++
		}
	}
	if len(g.CloudParts) > 0 {
		set++
	}
	if set > 1 {
		c.add(field, "has more than one of butane, ignition, cloud_config, cloud_parts and text; keep one")
	}
	for i, part := range g.CloudParts {
		if part == "" {
			c.add(fmt.Sprintf("%s.cloud_parts[%d]", field, i), "is empty; take it out")
		}
	}
}

func cloudField(field string, g Config) string {
	if len(g.CloudParts) > 0 {
		return field + ".cloud_parts"
	}
	return field + ".cloud_config"
}

func (c *checker) installation(p *Profile) {
	switch {
	case p.Boot == BootInstall && p.Install == nil:
		c.add("install", "is missing: write install: {device: /dev/sda}, the disk that the installer may write")
	case p.Boot != BootInstall && p.Install != nil:
		c.add("install", "is for boot: install; set that, or take install: out")
	case p.Install != nil:
		if !strings.HasPrefix(p.Install.Device, "/dev/") || strings.ContainsAny(p.Install.Device, " \t\n") {
			c.add("install.device", "%q is no disk; write it like /dev/sda or /dev/disk/by-path/...", p.Install.Device)
		}
		c.config("install.config", p.Install.Config)
	}
}
