package vex

import (
	"slices"
	"strings"
)

// cpe is a name of the Common Platform Enumeration (NISTIR 7695): part, vendor,
// product, version, update and edition, in lower case; "" is any.
type cpe [6]string

const (
	cpePart = iota
	cpeVendor
	cpeProduct
	cpeVersion
)

// parseCPE reads a name in either binding, cpe:/o:redhat:enterprise_linux:8::baseos
// or cpe:2.3:o:…. It does not read names with escapes, patterns or packed
// editions, and not those that say more than a cpe holds: ok is false.
func parseCPE(text string) (c cpe, ok bool) {
	text = strings.ToLower(text)
	rest, formatted := strings.CutPrefix(text, "cpe:2.3:")
	if !formatted {
		if rest, ok = strings.CutPrefix(text, "cpe:/"); !ok {
			return c, false
		}
	}
	for i, attribute := range strings.Split(rest, ":") {
		if formatted && attribute == "*" {
			attribute = ""
		}
		if strings.ContainsAny(attribute, `%\~*?`) || i >= len(c) && attribute != "" {
			return cpe{}, false
		}
		if i < len(c) {
			c[i] = attribute
		}
	}
	return c, c[cpePart] != "" && c[cpeVendor] != "" && c[cpeProduct] != ""
}

// release reports whether c names the release of an operating system.
func (c *cpe) release() bool { return c[cpePart] == "o" && c[cpeVersion] != "" }

// includes reports whether other is what c names: c says nothing of it that is
// otherwise (NISTIR 7696, "superset").
func (c *cpe) includes(other *cpe) bool {
	for i := range c {
		if c[i] != "" && c[i] != other[i] {
			return false
		}
	}
	return true
}

// apart reports whether c and other are certainly of two releases of one
// operating system, such as RHEL 7 and RHEL 8.6 EUS.
func (c *cpe) apart(other *cpe) bool {
	product, major := c.line()
	otherProduct, otherMajor := other.line()
	return c[cpeVendor] == other[cpeVendor] && product == otherProduct && major != "" && otherMajor != "" && major != otherMajor
}

// rhelStreams are the products under which Red Hat goes on with minor releases of
// RHEL (access.redhat.com/support/policy/updates/errata).
var rhelStreams = []string{"rhel_eus", "rhel_aus", "rhel_e4s", "rhel_tus", "rhel_els"}

// line is the product and the major version.
func (c *cpe) line() (product, major string) {
	product = c[cpeProduct]
	if c[cpeVendor] == "redhat" && slices.Contains(rhelStreams, product) {
		product = "enterprise_linux"
	}
	major, _, _ = strings.Cut(c[cpeVersion], ".")
	return product, major
}
