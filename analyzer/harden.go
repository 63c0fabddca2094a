package analyzer

import (
	"cmp"
	"encoding/json"
	"maps"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	godigest "github.com/opencontainers/go-digest"
	ociidentity "github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	maxFacts       = 1000 // elements of a list of facts
	maxWastedFiles = 20
)

// fileFacts fills in what the final file system says of hardening.
func (m *merger) fileFacts(inv *Inventory) {
	h := &inv.Hardening
	type wasted struct {
		path string
		size int64
	}
	var waste []wasted
	for i, l := range m.layers {
		visible := func(paths []string) []string {
			return slices.DeleteFunc(slices.Clone(paths), func(p string) bool { return m.hidden(i, strings.TrimSuffix(p, "/")) })
		}
		h.WorldWritable = append(h.WorldWritable, visible(l.Hardening.WorldWritable)...)
		h.Shells = append(h.Shells, visible(l.Hardening.Shells)...)
		h.PackageManagers = append(h.PackageManagers, visible(l.Hardening.PackageManagers)...)
		h.SSH = append(h.SSH, visible(l.Hardening.SSH)...)
		for p, size := range l.Hardening.Sizes {
			if m.hidden(i, p) {
				h.Wasted += size
				waste = append(waste, wasted{p, size})
			}
		}
	}
	h.WorldWritable = outermost(h.WorldWritable)
	for _, list := range []*[]string{&h.WorldWritable, &h.Shells, &h.PackageManagers, &h.SSH} {
		*list = few(*list)
	}
	slices.SortFunc(waste, func(a, b wasted) int {
		return cmp.Or(cmp.Compare(b.size, a.size), strings.Compare(a.path, b.path))
	})
	for _, w := range waste[:min(len(waste), maxWastedFiles)] {
		h.WastedFiles = append(h.WastedFiles, w.path)
	}
	for _, p := range inv.Setuid {
		if !usualSetuid(p) && len(h.UnusualSetuid) < maxFacts {
			h.UnusualSetuid = append(h.UnusualSetuid, p)
		}
	}
}

// few sorts a list, drops what stands in it twice, and cuts it.
func few(list []string) []string {
	slices.Sort(list)
	list = slices.Compact(list)
	return list[:min(len(list), maxFacts)]
}

// outermost drops what lies below a directory of the list.
func outermost(paths []string) []string {
	slices.Sort(paths)
	dir := ""
	return slices.DeleteFunc(paths, func(p string) bool {
		if dir != "" && strings.HasPrefix(p, dir) {
			return true
		}
		if strings.HasSuffix(p, "/") {
			dir = p
		}
		return false
	})
}

// usualSetuid knows the setuid and setgid programs of util-linux, shadow, PAM,
// OpenSSH, D-Bus, polkit, sudo's absence of one, and busybox-suid, in the
// directories of distributions.
func usualSetuid(p string) bool {
	if dir, _, _ := strings.Cut(strings.TrimPrefix(p, "usr/"), "/"); strings.HasPrefix(p, "usr/local/") ||
		!slices.Contains([]string{"bin", "sbin", "lib", "lib64", "libexec"}, dir) {
		return false
	}
	switch path.Base(p) {
	case "su", "mount", "umount", "passwd", "chsh", "chfn", "chage", "expiry", "gpasswd", "newgrp", "wall", "write", "write.ul", "bsd-write",
		"unix_chkpwd", "unix2_chkpwd", "pam_extrausers_chkpwd", "pam_timestamp_check", "ssh-agent", "ssh-keysign", "dbus-daemon-launch-helper",
		"polkit-agent-helper-1", "crontab", "utempter", "bbsuid", "userhelper", "grub2-set-bootflag", "newuidmap", "newgidmap", "ping", "ping6":
		return true
	}
	return false
}

// configFacts fills in what the config and its history say of hardening.
func configFacts(inv *Inventory, config *configFile) {
	h := &inv.Hardening
	h.Root = rootUser(config.Config.User)
	h.Ports = few(slices.Collect(maps.Keys(config.Config.ExposedPorts)))
	if slices.Contains(h.Ports, "22/tcp") || slices.Contains(h.Ports, "22") {
		h.SSH = append(h.SSH, "port 22")
	}
	h.Healthcheck = config.healthcheck
	for _, step := range config.History {
		h.AddedURLs = append(h.AddedURLs, addedURLs(step.CreatedBy)...)
	}
	h.AddedURLs = few(h.AddedURLs)
}

// hasHealthcheck reports a health check in a config, which is Docker's own
// addition to it: {"Test": ["NONE"]} switches a base's off (moby, "Docker image
// specification v1.2").
func hasHealthcheck(config []byte) bool {
	var doc struct {
		Config struct {
			Healthcheck struct{ Test []string }
		} `json:"config"`
	}
	if json.Unmarshal(config, &doc) != nil {
		return false
	}
	test := doc.Config.Healthcheck.Test
	return len(test) > 0 && test[0] != "NONE"
}

// rootUser reports a user, "name", "uid", or either with ":group", that is root.
func rootUser(user string) bool {
	name, _, _ := strings.Cut(user, ":")
	uid, err := strconv.Atoi(name)
	return name == "" || name == "root" || err == nil && uid == 0
}

// addedURLs are the remote sources of an ADD in a line of history, as BuildKit
// and the classic builder write it, without credentials.
func addedURLs(step string) []string {
	step = strings.TrimPrefix(strings.TrimPrefix(step, "/bin/sh -c "), "#(nop) ")
	rest, ok := strings.CutPrefix(strings.TrimSpace(step), "ADD ")
	if !ok {
		return nil
	}
	var urls []string
	for _, word := range strings.Fields(rest) {
		if strings.HasPrefix(word, "http://") || strings.HasPrefix(word, "https://") || strings.HasPrefix(word, "git://") || strings.HasPrefix(word, "git@") {
			urls = append(urls, withoutUser(word))
		}
	}
	return urls
}

func withoutUser(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.User == nil {
		return s
	}
	u.User = nil
	return u.String()
}

// baseOf says what an image is built on, and what it claims to be built on.
func baseOf(inv *Inventory, annotations, labels map[string]string) Base {
	var b Base
	claim := func(key string) string {
		if v := annotations[key]; v != "" {
			return v
		}
		return labels[key]
	}
	b.Name = claim(ocispec.AnnotationBaseImageName)
	if d := godigest.Digest(claim(ocispec.AnnotationBaseImageDigest)); d.Validate() == nil {
		b.Digest = d
	}
	if _, after, ok := strings.Cut(b.Name, "@"); ok && b.Digest == "" && godigest.Digest(after).Validate() == nil {
		b.Digest = godigest.Digest(after)
	}
	b.Pinned = b.Digest != ""
	distribution := inv.OS.ID != "" || slices.ContainsFunc(inv.Packages, func(p Package) bool { return IsDistribution(p.Type) })
	switch h := inv.Hardening; {
	case inv.ArtifactType != "":
	case !distribution:
		b.Kind = BaseScratch
	case len(h.PackageManagers) > 0:
		b.Kind = BaseDistribution
	case len(h.Shells) > 0:
		b.Kind = BaseMinimal
	default:
		b.Kind = BaseDistroless
	}
	return b
}

// ChainIDs returns the chainID of each of the image's layers with all below it
// (OCI image-spec, config.md, "Layer ChainID"); nil if a diffID is not known or
// is not what the config says.
func (inv *Inventory) ChainIDs() []godigest.Digest {
	ids := make([]godigest.Digest, len(inv.Layers))
	for i, l := range inv.Layers {
		if ids[i] = l.DiffID; l.DiffID == "" {
			return nil
		}
	}
	if inv.DiffIDBroken != "" {
		return nil
	}
	return ociidentity.ChainIDs(ids)
}
