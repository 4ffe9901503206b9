package manifest

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"

	"github.com/pilotlight/pilotlight/cluster"
)

// inline takes into a document what it names beside its manifest: the text of
// templates, and the absolute place of image files.
func (d *decoder) inline(doc cluster.Document) {
	switch doc := doc.(type) {
	case *cluster.Profile:
		d.template("config.butane", &doc.Config.Butane)
		d.template("config.ignition", &doc.Config.Ignition)
		d.template("config.cloud_config", &doc.Config.CloudConfig)
		d.parts("config.cloud_parts", doc.Config.CloudParts)
		d.template("config.text", &doc.Config.Text)
		d.template("generic", &doc.Generic)
		if doc.NetworkConfig != cluster.StaticNetwork {
			d.template("network_config", &doc.NetworkConfig)
		}
		if doc.Common != nil {
			d.common(doc.Common)
		}
		if i := doc.Install; i != nil {
			d.template("install.config.butane", &i.Config.Butane)
			d.template("install.config.ignition", &i.Config.Ignition)
			d.template("install.config.cloud_config", &i.Config.CloudConfig)
			d.parts("install.config.cloud_parts", i.Config.CloudParts)
			d.template("install.config.text", &i.Config.Text)
		}
	case *cluster.Image:
		d.locate("kernel.url", &doc.Kernel.URL)
		for i := range doc.Initrd {
			d.locate(fmt.Sprintf("initrd[%d].url", i), &doc.Initrd[i].URL)
		}
		for _, f := range []struct {
			field string
			file  *cluster.File
		}{{"rootfs", doc.Rootfs}, {"fdt", doc.FDT}, {"disk", doc.Disk}, {"disk_signature", doc.DiskSignature}} {
			if f.file != nil {
				d.locate(f.field+".url", &f.file.URL)
			}
		}
	}
}

func (d *decoder) parts(field string, parts []string) {
	for i := range parts {
		d.template(fmt.Sprintf("%s[%d]", field, i), &parts[i])
	}
}

func (d *decoder) common(c *cluster.Common) {
	for i := range c.Files {
		d.template(fmt.Sprintf("common.files[%d].contents", i), &c.Files[i].Contents)
	}
	for i := range c.Units {
		u := &c.Units[i]
		d.template(fmt.Sprintf("common.units[%d].contents", i), &u.Contents)
		for j := range u.Dropins {
			d.template(fmt.Sprintf("common.units[%d].dropins[%d].contents", i, j), &u.Dropins[j].Contents)
		}
	}
}

// template replaces the name of a file by its text. Text of more than one line
// is the template itself.
func (d *decoder) template(field string, value *string) {
	if *value == "" || strings.Contains(*value, "\n") {
		return
	}
	path := d.beside(*value)
	text, err := readText(path)
	if err != nil {
		d.wrong(field, "%v; write a path beside %s, or the text itself below a |", err, filepath.Base(d.file))
		return
	}
	if !strings.HasSuffix(string(text), "\n") {
		text = append(text, '\n') // so that it stays a text, not a name, when it is applied again
	}
	*value = string(text)
	d.origin.texts[field] = path
}

// readText reads a file, which has to be text: what is applied is kept as JSON, in
// which other bytes would become a sign for what is broken.
func readText(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	switch {
	case err != nil:
	case strings.HasPrefix(string(text), "\x1f\x8b"):
		err = fmt.Errorf("%s is packed by gzip: name the file that it was packed of; what has to be small pilotlight packs itself", path)
	case !utf8.Valid(text):
		err = fmt.Errorf("%s is no text in UTF-8: convert it (iconv -f latin1 -t utf-8), or serve what is no text by URL", path)
	}
	return text, err
}

// locate makes a relative path or a file: URL absolute. http and https stay.
func (d *decoder) locate(field string, value *string) {
	if *value == "" {
		return
	}
	u, err := url.Parse(*value)
	switch {
	case err != nil:
		d.wrong(field, "%q is not a URL or a path: %v", *value, err)
	case u.Scheme == "http" || u.Scheme == "https" || u.Scheme == "file" && filepath.IsAbs(u.Path):
	case u.Scheme == "":
		path, err := filepath.Abs(d.beside(*value))
		if err != nil {
			d.wrong(field, "%v", err)
			return
		}
		*value = "file://" + path
	default:
		d.wrong(field, "%q is not a path, a file:///, an http:// or an https:// URL", *value)
	}
}

func (d *decoder) beside(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(d.file), path)
}

// wrong notes a mistake at a field that has been decoded already.
func (d *decoder) wrong(field, format string, args ...any) {
	p := d.origin.find(field)
	d.mistakes = append(d.mistakes, Mistake{File: d.file, Line: p.line, Column: p.column, Field: field, Message: fmt.Sprintf(format, args...)})
}

// toYAML writes a document as Load reads it. A site's services go back to
// Compose's own form.
func toYAML(doc cluster.Document, body []byte) ([]byte, error) {
	decoded, err := decodeOrdered(body)
	if err != nil {
		return nil, err
	}
	fields, ok := decoded.(yaml.MapSlice)
	if !ok {
		return nil, errors.New("is no mapping")
	}
	if site, ok := doc.(*cluster.Site); ok {
		fields = slices.DeleteFunc(fields, func(i yaml.MapItem) bool { return i.Key == "services" })
		services, err := ordered(composeServices(site.Services))
		if err != nil {
			return nil, err
		}
		fields = append(fields, yaml.MapItem{Key: "services", Value: services})
	}
	return []byte(strings.Join(block(fields), "\n") + "\n"), nil
}
