package report

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"path"
	"strings"

	packageurl "github.com/package-url/packageurl-go"

	"github.com/sluiceproxy/sluice/analyzer"
)

// What other tools know this one by.
const (
	toolName = "Sluice"
	toolURL  = "https://github.com/sluiceproxy/sluice"
)

// shown is the id that people know a finding by: its one CVE, else the feed's.
func shown(f *Finding) string {
	cve := ""
	for _, a := range f.Aliases {
		if strings.HasPrefix(a, "CVE-") {
			if cve != "" {
				return f.Advisory
			}
			cve = a
		}
	}
	if cve == "" || strings.HasPrefix(f.Advisory, "CVE-") {
		return f.Advisory
	}
	return cve
}

// headline is, in one printable line, "CVE-2021-23337 (critical, known exploited) in npm lodash
// 4.17.20; fixed in 4.17.21".
func headline(f *Finding) string {
	rating := f.Severity.String()
	switch {
	case f.Class == analyzer.ClassMalware:
		rating = "malware"
	case f.Severity == analyzer.SeverityUnknown:
		rating = "unrated"
	}
	if f.KEV {
		rating += ", known exploited"
	}
	s := fmt.Sprintf("%s (%s) in %s", shown(f), rating, join(" ", f.Type, f.Package, f.Version))
	switch {
	case f.Fixed != "":
		s += "; fixed in " + f.Fixed
	case f.Class != analyzer.ClassMalware:
		s += "; no fixed version is known"
	}
	return clean(s)
}

// location is where f's package is, for people.
func (f *Finding) location() string {
	if f.Inner == "" {
		return f.Path
	}
	return f.Path + "!" + f.Inner
}

// osvPrefixes are those of the databases that osv.dev republishes (OSV schema
// 1.7, "id, modified fields"), as far as its pages are named after their ids.
var osvPrefixes = [...]string{
	"A-", "ALBA-", "ALEA-", "ALPINE-", "ALSA-", "ASB-A-", "BELL-", "BIT-", "CGA-", "CLEANSTART-", "CURL-", "DEBIAN-", "DLA-",
	"DRUPAL-", "DSA-", "DTSA-", "ECHO-", "EEF-", "GO-", "GSD-", "HSEC-", "JLSEC-", "KUBE-", "LBSEC-", "LSN-", "MAL-", "MGASA-",
	"MINI-", "OESA-", "OSV-", "PHSA-", "PSF-", "PYSEC-", "RHBA-", "RHEA-", "RHSA-", "RLSA-", "RLBA-", "RXSA-", "RSEC-", "RUSTSEC-",
	"SUSE-", "UBUNTU-", "USN-", "UVI-", "V8-", "openSUSE-",
}

// source names the publisher of an advisory and where it can be read; both are
// "" for an id of nobody that is known, such as that of a private advisory.
func source(id string) (name, url string) {
	switch {
	case strings.HasPrefix(id, "CVE-"):
		return "NVD", "https://nvd.nist.gov/vuln/detail/" + id
	case strings.HasPrefix(id, "GHSA-"):
		return "GitHub", "https://github.com/advisories/" + id
	}
	for _, p := range osvPrefixes {
		if strings.HasPrefix(id, p) && plainID(id) {
			return "OSV", "https://osv.dev/vulnerability/" + id
		}
	}
	return "", ""
}

// plainID reports whether id can stand in a URL as it is.
func plainID(id string) bool {
	return strings.IndexFunc(id, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-._:", r))
	}) < 0
}

// link is where an advisory can be read, "" where that is not known.
func link(id string) string {
	if !plainID(id) {
		return ""
	}
	_, url := source(id)
	return url
}

// hash is a sha256 over texts, so that no two lists of texts give the same.
func hash(texts ...string) [sha256.Size]byte {
	var b []byte
	for _, s := range texts {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	return sha256.Sum256(b)
}

// fingerprint names texts in 32 hexadecimal digits.
func fingerprint(texts ...string) string {
	h := hash(texts...)
	return hex.EncodeToString(h[:16])
}

// uuid makes a UUID of texts (RFC 9562, version 8).
func uuid(texts ...string) string {
	h := hash(texts...)
	h[6], h[8] = h[6]&0x0f|0x80, h[8]&0x3f|0x80
	s := hex.EncodeToString(h[:16])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

// ref names a package within one document.
func ref(p *analyzer.Package) string {
	return "pkg-" + fingerprint(p.Type, p.Name, p.Version, p.Arch, p.Path, p.Inner)[:20]
}

// name is the image's name for other tools: canonical with its tag where those
// are known, else what the user typed.
func (r *Result) name() string {
	switch {
	case r.Verdict.Image == "":
		return r.Image
	case len(r.Verdict.Tags) > 0:
		return r.Verdict.Image + ":" + r.Verdict.Tags[0]
	}
	return r.Verdict.Image
}

// purl is the image's package URL, "" without a digest (purl-spec, type oci).
func (r *Result) purl() string {
	if r.Digest == "" || r.Verdict.Image == "" {
		return ""
	}
	q := map[string]string{"repository_url": r.Verdict.Image}
	if len(r.Verdict.Tags) > 0 {
		q["tag"] = r.Verdict.Tags[0]
	}
	if _, arch, ok := strings.Cut(r.Facts.Platform, "/"); ok {
		q["arch"] = arch
	}
	return packageurl.NewPackageURL("oci", "", strings.ToLower(path.Base(r.Verdict.Image)), r.Digest.String(), packageurl.QualifiersFromMap(q), "").ToString()
}

// purlOf is p's package URL for other tools, which learn the source package
// from it (purl-spec, qualifier "upstream", as Syft writes it) and the module
// (rpmmod).
func purlOf(p *analyzer.Package) string {
	if p.Source == "" && p.SourceVersion == "" && p.Modularity == "" || !analyzer.IsDistribution(p.Type) {
		return p.PURL
	}
	u, err := packageurl.FromString(p.PURL)
	if err != nil {
		return p.PURL
	}
	q := u.Qualifiers.Map()
	if p.Type != "rpm" { // whose upstream is the file name of a source rpm, which is not known
		if q["upstream"] = cmp.Or(p.Source, p.Name); p.SourceVersion != "" {
			q["upstream"] += "@" + p.SourceVersion
		}
	}
	if p.Modularity != "" {
		q["rpmmod"] = p.Modularity
	}
	u.Qualifiers = packageurl.QualifiersFromMap(q)
	return u.ToString()
}

// owners are the packages that can own the files of others, by purl.
func (r *Result) owners() map[string]*analyzer.Package {
	out := map[string]*analyzer.Package{}
	for i := range r.Packages {
		if p := &r.Packages[i]; analyzer.IsDistribution(p.Type) && p.PURL != "" {
			out[p.PURL] = p
		}
	}
	return out
}

// join joins the parts that are not empty.
func join(sep string, parts ...string) string {
	var kept []string
	for _, p := range parts {
		if p != "" {
			kept = append(kept, p)
		}
	}
	return strings.Join(kept, sep)
}
