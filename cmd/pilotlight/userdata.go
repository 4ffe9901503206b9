package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/pilotlight/pilotlight/boot/userdata"
	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/api"
	"github.com/pilotlight/pilotlight/cluster/join"
)

const userdataLong = `Make what a cloud, or a plain virtual machine, is given so that it becomes a host.

It is small whatever the host's config is: a pointer, with which the machine
fetches its config over HTTPS, from the server whose authority is in it, and
verifies its hash. It holds a token for one machine, so it is a secret: whoever has
it can become the host until the token ends or is used. Each call makes a new one.

A config of several parts (cloud_parts:) is given whole in the pointer's place, for
cloud-init, and packed by gzip where it is longer than the place takes.

The machine has to reach the server's ports 8443 and 2379 at the address that is in
it. When the host's config is changed after, make it again.

What to do with it:
  ec2          aws ec2 run-instances --user-data file://FILE ...    (aws and the
               console encode it; in the API's field it is base64 -w0 < FILE;
               fileb://FILE where it is packed)
  gce          gcloud compute instances create NAME --metadata-from-file user-data=FILE ...
  vsphere      lines for the machine's .vmx; for govc, which takes values from files:
               sed -n 's/^KEY = "\(.*\)"/\1/p' FILE > VALUE
               govc vm.change -vm NAME -e KEY.encoding=base64 -f KEY=$PWD/VALUE
               with KEY guestinfo.metadata and guestinfo.userdata (cloud-init),
               guestinfo.ignition.config.data (Ignition). Never as -e KEY=VALUE: the
               arguments of a program can be read by everybody on its machine
  nocloud-iso  a CD for cloud-init, for any hypervisor. As a virtio disk every image
               finds it; in an IDE CD drive the kernels of some clouds' images do not:
               virt-install --disk path=FILE,format=raw,bus=virtio,readonly=on ...
               qemu-system-x86_64 -drive file=FILE,format=raw,if=virtio,readonly=on ...
  qemu         for Ignition:
               qemu-system-x86_64 -fw_cfg name=opt/com.coreos/config,file=FILE ...
               (Flatcar: name=opt/org.flatcar-linux/config)
  raw          as it is, for any other way`

// userdataCall is how userdata is asked for.
type userdataCall struct {
	api.UserdataRequest
	file  string // -o
	allOf string

	revoke bool
}

func newUserdata(c *cli) *cobra.Command {
	var u userdataCall
	cmd := &cobra.Command{
		Use:   "userdata HOST --for PLACE [-o FILE]",
		Short: "Make what a cloud or a plain virtual machine is given so that it becomes a host",
		Long:  userdataLong,
		Example: `  pilotlight userdata web1 --for ec2 -o web1.userdata
  pilotlight userdata web1 --for nocloud-iso -o web1.iso
  pilotlight userdata web1 --for gce --url https://203.0.113.5:8443 --life 24h -o web1.userdata
  pilotlight userdata --all-of frontends --for qemu -o DIR
  pilotlight userdata web1 --revoke`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			if u.revoke {
				if len(a) != 1 || cmd.Flags().NFlag() > 1 {
					return usageError{errors.New("--revoke takes one HOST, and nothing else: it ends all userdata of it")}
				}
				return c.revokeUserdata(cmd.Context(), a[0])
			}
			place, err := userdata.ParsePlace(u.For)
			switch {
			case err != nil:
				return usageError{fmt.Errorf("--for: %w", err)}
			case (len(a) == 1) == (u.allOf != ""):
				return usageError{errors.New("name one HOST, or a group with --all-of GROUP -o DIR")}
			case u.allOf != "":
				return c.userdataOfGroup(cmd.Context(), place, u)
			}
			return c.userdata(cmd.Context(), place, a[0], u)
		},
	}
	f := cmd.Flags()
	f.StringVar(&u.For, "for", "", "who gives it to the machine: ec2, gce, vsphere, nocloud-iso, qemu or raw")
	f.StringVarP(&u.file, "output", "o", "", "the file that it is written to, for its owner alone; - is standard output")
	f.DurationVar(&u.Life, "life", join.UserdataLife, "how long it is good for, at most 168h")
	f.StringVar(&u.URL, "url", "", "where the machine finds the server, https://ADDRESS:PORT; default: where the network's hosts do")
	f.StringVar(&u.allOf, "all-of", "", "a group: one file for each of its hosts, in the directory -o")
	f.BoolVar(&u.revoke, "revoke", false, "end all userdata of the host that no machine has used yet")
	return cmd
}

// revokeUserdata ends what was made of a host's userdata, wherever it is.
func (c *cli) revokeUserdata(ctx context.Context, host string) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	n, err := client.RevokeUserdata(ctx, host)
	if err != nil {
		return err
	}
	if n == 0 {
		fmt.Fprintf(c.out, "host %s: there was no userdata that opens anything\n", host)
		return nil
	}
	fmt.Fprintf(c.out, "host %s: %d revoked; whoever has it gets nothing by it\n", host, n)
	return nil
}

// userdata makes that of one host. Nothing is asked for, since that makes a token,
// before it is known where it goes.
func (c *cli) userdata(ctx context.Context, place userdata.Place, host string, u userdataCall) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	to, err := c.secretFile(u.file)
	if err != nil {
		return err
	}
	defer to.abandon()
	made, err := client.Userdata(ctx, host, u.UserdataRequest)
	if err != nil {
		return err
	}
	body, err := place.Encode(userdata.Seed{
		Host: string(made.Host), InstanceID: made.InstanceID, Language: userdata.Language(made.Language),
		Pointer: made.Pointer, NetworkConfig: made.NetworkConfig,
	})
	if err != nil {
		return err
	}
	if err := to.write(body); err != nil {
		return err
	}
	fmt.Fprintf(c.err, "host %s: for one machine that reads %s and reaches %s, until %s\n", made.Host, made.Language, made.URL, made.Expires.UTC().Format(time.RFC3339))
	return nil
}

// userdataOfGroup makes a file for each host of a group, of as many as it can.
func (c *cli) userdataOfGroup(ctx context.Context, place userdata.Place, u userdataCall) error {
	if info, err := os.Stat(u.file); err != nil || !info.IsDir() {
		return usageError{fmt.Errorf("-o %q is no directory: --all-of writes a file for each host of the group there", u.file)}
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	if err := c.mustBe(ctx, client, cluster.KindGroup, u.allOf); err != nil {
		return err
	}
	hosts, err := client.Hosts(ctx)
	if err != nil {
		return err
	}
	var errs []error
	n := 0
	for _, h := range hosts {
		if h.Group != u.allOf {
			continue
		}
		n++
		one := u
		one.file = filepath.Join(u.file, h.Name+endings[place])
		errs = append(errs, c.userdata(ctx, place, h.Name, one))
	}
	if n == 0 {
		return fmt.Errorf("group %s has no hosts: apply one that its match: takes", u.allOf)
	}
	return errors.Join(errs...)
}

// endings are those of the files of a group.
var endings = map[userdata.Place]string{
	userdata.EC2: ".userdata", userdata.GCE: ".userdata", userdata.Raw: ".userdata", userdata.QEMU: ".userdata",
	userdata.VSphere: ".vmx", userdata.NoCloudISO: ".iso",
}

// secretFile is where a secret goes: a file that its owner alone may read, which is
// there whole or not at all; or what is no file, and stays what it is: standard output,
// where that is no terminal, a pipe, /dev/null.
type secretFile struct {
	out  io.Writer
	open *os.File // what is no file; else nil
	temp *os.File // what becomes the file; else nil
	path string
}

func (c *cli) secretFile(path string) (*secretFile, error) {
	switch {
	case path == "" && isTerminal(c.out):
		return nil, usageError{errors.New("it holds a token, which is not for a terminal to keep: write it to a file with -o FILE, or give it to a program; -o - shows it all the same")}
	case path == "" || path == "-":
		return &secretFile{out: c.out}, nil
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		open, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return nil, fmt.Errorf("write the userdata: %w", err)
		}
		return &secretFile{out: open, open: open, path: path}, nil
	}
	temp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", path, err)
	}
	return &secretFile{out: temp, temp: temp, path: path}, nil
}

func (s *secretFile) write(body []byte) error {
	if _, err := s.out.Write(body); err != nil {
		return fmt.Errorf("write %s: %w", strings.TrimSpace("the userdata "+s.path), err)
	}
	if s.open != nil {
		if err := s.open.Close(); err != nil {
			return fmt.Errorf("write the userdata %s: %w", s.path, err)
		}
		s.open = nil
	}
	if s.temp == nil {
		return nil
	}
	if err := errors.Join(s.temp.Sync(), s.temp.Close(), os.Rename(s.temp.Name(), s.path)); err != nil {
		return fmt.Errorf("write %s: %w", s.path, err)
	}
	s.temp = nil
	return nil
}

// abandon removes what was begun and not written.
func (s *secretFile) abandon() {
	if s.open != nil {
		s.open.Close()
	}
	if s.temp != nil {
		s.temp.Close()
		os.Remove(s.temp.Name())
	}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
