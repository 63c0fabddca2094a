package vex

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	godigest "github.com/opencontainers/go-digest"
	packageurl "github.com/package-url/packageurl-go"

	"github.com/sluiceproxy/sluice/analyzer"
)

// Product is what a statement is about: an image, or a package, or some
// packages in one of them. Exactly one of image and pkg is set.
type Product struct {
	image         *imagePattern
	pkg           *packagePattern
	release       *cpe             // of the operating system that pkg is a part of; nil = any
	subcomponents []packagePattern // none = all of it
}

// packagePattern names packages by a purl.
type packagePattern struct {
	base       string // type/namespace/name
	version    string // "" = every version
	source     bool   // the source package is meant
	module     string // name:stream of an rpm module, or more of its label; "" = any, or none
	qualifiers map[string]string
}

// imagePattern names images.
type imagePattern struct {
	digest     godigest.Digest // "" = by its repository
	repository string          // canonical name, "" = by its digest only
	tag        string          // "" = any
	arch       string          // "" = any
}

// parseProduct reads the purl of a product.
func parseProduct(purl string) (Product, error) {
	if strings.HasPrefix(strings.ToLower(purl), "pkg:oci/") {
		i, err := parseImage(purl)
		return Product{image: &i}, err
	}
	p, err := parsePURL(purl)
	return Product{pkg: &p}, err
}

func parsePURL(purl string) (packagePattern, error) {
	u, err := packageurl.FromString(purl)
	if err != nil {
		return packagePattern{}, fmt.Errorf("purl %q: %w", clip(purl), err)
	}
	p := packagePattern{base: base(u), version: version(u), qualifiers: u.Qualifiers.Map()}
	if arch := p.qualifiers["arch"]; arch == "source" || arch == "src" {
		p.source = true
		delete(p.qualifiers, "arch")
	}
	p.module = p.qualifiers["rpmmod"]
	delete(p.qualifiers, "rpmmod")
	return p, nil
}

func base(u packageurl.PackageURL) string {
	namespace := u.Namespace
	if vendor, ok := rpmVendors[namespace]; ok && u.Type == "rpm" {
		namespace = vendor
	}
	return u.Type + "/" + namespace + "/" + u.Name
}

// rpmVendors are the IDs of distributions (os-release), which are the namespaces
// of their packages here, and the vendors' names that documents use instead
// (purl-spec, types/rpm; the documents of Red Hat and SUSE).
var rpmVendors = map[string]string{
	"rhel": "redhat", "sles": "suse", "opensuse-leap": "opensuse", "opensuse-tumbleweed": "opensuse", "ol": "oracle",
}

// version is that of the package; Go's are written with and without their v.
func version(u packageurl.PackageURL) string {
	if u.Type == "golang" {
		return strings.TrimPrefix(u.Version, "v")
	}
	return u.Version
}

// parseImage reads pkg:oci/NAME@DIGEST?repository_url=…&tag=…&arch=… (purl-spec,
// types/oci).
func parseImage(purl string) (imagePattern, error) {
	u, err := packageurl.FromString(purl)
	if err != nil {
		return imagePattern{}, fmt.Errorf("purl %q: %w", clip(purl), err)
	}
	var i imagePattern
	if u.Version != "" {
		if i.digest, err = godigest.Parse(u.Version); err != nil {
			return i, fmt.Errorf("purl %q: the version of an image is its digest: %w", clip(purl), err)
		}
	}
	q := u.Qualifiers.Map()
	if repository := q["repository_url"]; repository != "" {
		i.repository = canonical(repository, u.Name)
	}
	i.tag, i.arch = q["tag"], q["arch"]
	return i, nil
}

// canonical is the name of a repository as the proxy has it: with the
// upstream's canonical host, and "library/" on Docker Hub. A repository_url may
// end with the image's name or not.
func canonical(repository, name string) string {
	repository = strings.ToLower(strings.Trim(repository, "/"))
	for _, scheme := range []string{"https://", "http://", "oci://"} {
		repository = strings.TrimPrefix(repository, scheme)
	}
	name = strings.ToLower(name)
	host, path, _ := strings.Cut(repository, "/")
	if path != name && !strings.HasSuffix(path, "/"+name) {
		path = strings.TrimPrefix(path+"/"+name, "/")
	}
	switch host {
	case "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com", "docker.io":
		host = "docker.io"
		if !strings.Contains(path, "/") {
			path = "library/" + path
		}
	}
	return host + "/" + path
}

// imageOfHash is the image whose manifest has the sha-256.
func imageOfHash(text string) (*imagePattern, error) {
	if b, err := hex.DecodeString(text); err != nil || len(b) != 32 {
		return nil, errors.New("sha-256 is not 64 hexadecimal digits")
	}
	return &imagePattern{digest: godigest.NewDigestFromEncoded(godigest.SHA256, strings.ToLower(text))}, nil
}

// unmatchable says why the product matches nothing; "" if it can.
func (p *Product) unmatchable() string {
	if p.image != nil && p.image.digest == "" && p.image.repository == "" {
		return "the image has neither a digest nor a repository_url: it matches nothing"
	}
	return ""
}

// exact reports whether the product names one build.
func (p *Product) exact() bool {
	if p.image != nil && p.image.digest != "" {
		return true
	}
	if len(p.subcomponents) > 0 {
		return !slices.ContainsFunc(p.subcomponents, func(s packagePattern) bool { return s.version == "" })
	}
	return p.pkg != nil && p.pkg.version != ""
}

// subject is a package of an image, as patterns compare it.
type subject struct {
	pkg      *analyzer.Package
	purl     packageurl.PackageURL
	rep      *analyzer.Report
	img      *analyzer.VEXImage
	platform string
}

// matches reports whether the product is, or holds, the subject.
func (p *Product) matches(s *subject) bool {
	inside := func() bool {
		return slices.ContainsFunc(p.subcomponents, func(sub packagePattern) bool { return sub.matches(s.pkg, s.purl) })
	}
	switch {
	case p.image != nil:
		return p.image.matches(s) && (len(p.subcomponents) == 0 || inside())
	case p.release != nil:
		os, ok := parseCPE(s.rep.OS.CPE)
		return ok && p.release.includes(&os) && (p.pkg.module != "" || s.pkg.Modularity == "") && p.pkg.matches(s.pkg, s.purl)
	case len(p.subcomponents) == 0:
		return p.pkg.matches(s.pkg, s.purl)
	}
	return inside() && slices.ContainsFunc(s.rep.Packages, func(whole analyzer.Package) bool {
		if whole.PURL == "" || whole.PURL != s.pkg.Owner && whole.Path != s.pkg.Path {
			return false
		}
		u, err := packageurl.FromString(whole.PURL)
		return err == nil && p.pkg.matches(&whole, u)
	})
}

func (i *imagePattern) matches(s *subject) bool {
	if i.arch != "" && !strings.EqualFold(i.arch, s.platform) {
		return false
	}
	if i.digest != "" {
		return slices.Contains(s.img.Digests, i.digest)
	}
	return i.repository != "" && i.repository == s.img.Name && (i.tag == "" || slices.Contains(s.img.Tags, i.tag))
}

func (p *packagePattern) matches(pkg *analyzer.Package, u packageurl.PackageURL) bool {
	have := version(u)
	if p.source {
		name, v := pkg.SourcePackage()
		if u.Name = name; v != pkg.Version {
			have = v
		}
	}
	if base(u) != p.base || p.version != "" && have != p.version {
		return false
	}
	if p.module != "" && p.module != pkg.Modularity && !strings.HasPrefix(pkg.Modularity, p.module+":") {
		return false
	}
	if len(p.qualifiers) == 0 {
		return true
	}
	q := u.Qualifiers.Map()
	for k, v := range p.qualifiers {
		if q[k] != v {
			return false
		}
	}
	return true
}
