package configs

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Validate returns Problems with every value that cannot work, nil when there
// is none. Load has done it; call it again after changing a Config.
func (c *Config) Validate() error { return c.problems().err() }

// Warnings returns what works and is likely not what one wants.
func (c *Config) Warnings() []Problem {
	k := checker{c: c}
	switch {
	case c.Release.Hold >= 30*second:
		k.bad("release.hold", "%s is longer than containerd waits for a manifest (30s)", c.Release.Hold)
	case c.Release.Hold == 0:
		k.bad("release.hold", "0 lets the first pull of an image that is denied be cut off, without a reason; the next one gets it")
	}
	if c.Log.Level == "debug" {
		k.bad("log.level", "debug writes several lines for each request")
	}
	if c.Analysis.Isolation == "off" {
		k.bad("analysis.isolation", "off lets parsers of foreign bytes run with all that the server may do")
	}
	for _, name := range slices.Sorted(maps.Keys(c.Upstreams)) {
		u := c.Upstreams[name]
		if v, err := url.Parse(u.URL); err == nil && v.Scheme == "http" && !loopback(v.Hostname()) {
			k.bad("upstreams."+name+".url", "http is not protected on the way to %s", v.Host)
		}
	}
	return k.found
}

// checker collects problems and knows where each value was set.
type checker struct {
	c     *Config
	found Problems
}

func (k *checker) bad(path, format string, args ...any) {
	o := k.c.origin[path]
	for p := path; o == (origin{}) && strings.Contains(p, "."); { // the section that holds it
		p = p[:strings.LastIndexByte(p, '.')]
		o = k.c.origin[p]
	}
	k.found = append(k.found, Problem{Source: o.source, Line: o.line, Path: path, Message: fmt.Sprintf(format, args...)})
}

func (c *Config) problems() Problems {
	k := checker{c: c}
	k.listeners()
	k.upstreams()
	k.advisories()
	k.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	k.oneOf("log.format", c.Log.Format, "console", "json")
	if c.Data == "" {
		k.bad("data", "a directory is wanted")
	}
	k.oneOf("dockerConfig", c.DockerConfig, "auto", "none")
	if c.Release.Hold < 0 || c.Release.Hold == 0 && !c.Release.Stream {
		k.bad("release.hold", "more than 0 is wanted, or 0 with release.stream: true")
	}
	k.registry()
	if c.Waivers.Longest < 0 {
		k.bad("waivers.longest", "%s is negative; 0 means any time", c.Waivers.Longest)
	}
	k.attest()
	k.positive("analysis.maxEntries", int64(c.Analysis.MaxEntries))
	k.positive("analysis.maxBytes", int64(c.Analysis.MaxBytes))
	k.positive("analysis.timeout", int64(c.Analysis.Timeout))
	k.oneOf("analysis.isolation", c.Analysis.Isolation, "auto", "process", "off")
	if c.Analysis.Parallel < 0 {
		k.bad("analysis.parallel", "%d is negative; 0 means one for each CPU", c.Analysis.Parallel)
	}
	return k.found
}

func (k *checker) attest() {
	a := &k.c.Attest
	k.time("attest.notBefore", a.NotBefore)
	k.time("attest.notAfter", a.NotAfter)
	for i, o := range a.Older {
		path := fmt.Sprintf("attest.older.%d", i)
		if o.File == "" {
			k.bad(path+".file", "the file of a public key is wanted")
		}
		k.time(path+".notBefore", o.NotBefore)
		k.time(path+".notAfter", o.NotAfter)
	}
	if a.Key != "" && !k.c.Registry.Enabled {
		k.bad("attest.key", "attestations are kept in the gated registry, which is switched off (registry.enabled)")
	}
	if a.Key != "" && !strings.Contains(a.Verifier, ":") {
		k.bad("attest.verifier", "%q is not a URI", a.Verifier)
	}
	if a.Password != "" && a.PasswordFile != "" {
		k.bad("attest.passwordFile", "there is a password already")
	}
}

// time checks a time that may be left out.
func (k *checker) time(path, s string) {
	if s == "" {
		return
	}
	if _, err := time.Parse(time.RFC3339, s); err != nil {
		k.bad(path, "%q is not a time such as 2026-12-01T00:00:00Z", s)
	}
}

func (k *checker) positive(path string, n int64) {
	if n <= 0 {
		k.bad(path, "more than 0 is wanted")
	}
}

func (k *checker) oneOf(path, value string, valid ...string) {
	if slices.Contains(valid, value) {
		return
	}
	hint := ""
	if n := nearest(value, valid); n != "" && value != "" {
		hint = fmt.Sprintf("; did you mean %q?", n)
	}
	k.bad(path, "%q is not one of %s%s", value, strings.Join(valid, ", "), hint)
}

func (k *checker) listeners() {
	c := k.c
	k.address("listen", c.Listen)
	if (c.TLS.Cert == "") != (c.TLS.Key == "") {
		k.bad("tls", "cert and key are wanted together, or neither")
	}
	host, ok := k.address("ops.listen", c.Ops.Listen)
	if ok && !loopback(host) && c.Ops.TokenFile == "" && c.Ops.Token == "" {
		k.bad("ops.listen", "%q can be reached from other machines: set ops.tokenFile (or SLUICE_OPS_TOKEN), or listen on 127.0.0.1", c.Ops.Listen)
	}
	if c.Ops.Listen == c.Listen && !strings.HasSuffix(c.Listen, ":0") {
		k.bad("ops.listen", "%q is the registry listener's address", c.Ops.Listen)
	}
}

// address checks host:port and returns the host.
func (k *checker) address(path, addr string) (host string, ok bool) {
	host, port, err := net.SplitHostPort(addr)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		k.bad(path, "%q is not an address such as :5000 or 127.0.0.1:5000", addr)
	}
	return host, err == nil
}

// loopback reports whether host names this machine only. An empty host is
// every address of it.
func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// registry checks who may do what, and the gated registry. The patterns and
// names in rules are checked by the server, which knows them.
func (k *checker) registry() {
	c := k.c
	for i, p := range c.TrustedProxies {
		if _, err := netip.ParsePrefix(p); err != nil {
			k.bad(join("trustedProxies", strconv.Itoa(i)), "%q is not an address range such as 10.0.0.0/8", p)
		}
	}
	if c.TLS.ClientCA != "" && c.TLS.Cert == "" {
		k.bad("tls.clientCA", "client certificates need tls.cert and tls.key")
	}
	if c.Auth.Rate.Requests < 0 || (c.Auth.Rate.Requests > 0) != (c.Auth.Rate.Per > 0) {
		k.bad("auth.rate", "requests and per are wanted together, or neither")
	}
	k.positive("auth.tokenTTL", int64(c.Auth.TokenTTL))
	if c.Auth.Realm != "" {
		if u, err := url.Parse(c.Auth.Realm); err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
			k.bad("auth.realm", "%q is not an http or https address", c.Auth.Realm)
		}
	}
	for i, m := range c.Registry.Modes {
		path := join("registry.modes", strconv.Itoa(i))
		k.oneOf(join(path, "mode"), m.Mode, "reject", "quarantine", "annotate")
		if len(m.Repositories) == 0 {
			k.bad(join(path, "repositories"), "at least one pattern is wanted")
		}
	}
	for i, t := range c.Registry.ImmutableTags {
		if len(t.Repositories) == 0 || len(t.Tags) == 0 {
			k.bad(join("registry.immutableTags", strconv.Itoa(i)), "repositories and tags are wanted")
		}
	}
	for prefix, n := range c.Registry.Quotas {
		if !strings.HasPrefix(prefix, c.LocalPrefix+"/") || n <= 0 {
			k.bad(join("registry.quotas", prefix), "the key is a prefix that begins with %s/, the value more than 0", c.LocalPrefix)
		}
	}
	for i, r := range c.Registry.Retention {
		path := join("registry.retention", strconv.Itoa(i))
		if len(r.Repositories) == 0 {
			k.bad(join(path, "repositories"), "at least one pattern is wanted")
		}
		if r.KeepLast <= 0 && r.MaxAge <= 0 {
			k.bad(path, "keepLast or maxAge is wanted: without one all images would go")
		}
	}
	k.positive("registry.pushHold", int64(c.Registry.PushHold))
	k.positive("registry.gc.grace", int64(c.Registry.GC.Grace))
	if c.Registry.Enabled && c.LocalPrefix == "" {
		k.bad("registry.enabled", "the gated registry needs localPrefix")
	}
}

// A name is what stands before the repository in a canonical image name: a
// host with an optional port, or one plain word.
var upstreamName = regexp.MustCompile(`^[a-z0-9]+([._-]+[a-z0-9]+)*(:[0-9]{1,5})?$`)

func (k *checker) upstreams() {
	c := k.c
	if c.LocalPrefix != "" && !upstreamName.MatchString(c.LocalPrefix) {
		k.bad("localPrefix", "%q is not a lower-case word", c.LocalPrefix)
	}
	if _, ok := c.Upstreams[c.Default]; !ok && c.Default != "" {
		hint := ""
		if n := nearest(c.Default, slices.Sorted(maps.Keys(c.Upstreams))); n != "" {
			hint = fmt.Sprintf("; did you mean %q?", n)
		}
		k.bad("default", "no upstream is named %q%s", c.Default, hint)
	}
	owner := map[string]string{}
	names := slices.Sorted(maps.Keys(c.Upstreams))
	for _, name := range names {
		owner[name] = name
	}
	for _, name := range names {
		path, u := "upstreams."+name, c.Upstreams[name]
		k.name(path, name)
		for _, alias := range u.Aliases {
			k.name(path+".aliases", alias)
			if other, ok := owner[alias]; ok {
				k.bad(path+".aliases", "%q already names %s", alias, other)
			}
			owner[alias] = name
		}
		k.upstream(path, u)
	}
}

func (k *checker) name(path, name string) {
	switch {
	case !upstreamName.MatchString(name):
		k.bad(path, "%q is not a lower-case host, host:port or word", name)
	case name == k.c.LocalPrefix:
		k.bad(path, "%q is the local prefix, which no upstream can take", name)
	}
}

func (k *checker) upstream(path string, u Upstream) {
	v, err := url.Parse(u.URL)
	switch {
	case u.URL == "":
		k.bad(path+".url", "an address is wanted, such as https://registry.example.org")
		return
	case err != nil || v.Host == "" || v.Hostname() == "" || v.Scheme != "http" && v.Scheme != "https":
		k.bad(path+".url", "%q is not an http or https address", redactURL(u.URL))
		return
	case v.User != nil:
		k.bad(path+".url", "credentials do not belong in the address: use username and passwordFile")
	case v.Path != "" && v.Path != "/", v.RawQuery != "", v.Fragment != "":
		k.bad(path+".url", "%q has more than a scheme, a host and a port", u.URL)
	}
	if u.Budget.Requests < 0 || (u.Budget.Requests > 0) != (u.Budget.Per > 0) {
		k.bad(path+".budget", "requests and per are wanted together, or neither")
	}
	password := u.Password != "" || u.PasswordFile != ""
	token := u.Token != "" || u.TokenFile != ""
	switch {
	case password && u.Username == "":
		k.bad(path+".username", "a password needs a user name")
	case u.Username != "" && !password:
		k.bad(path+".username", "a user name needs passwordFile or %s", variable(path+".password"))
	case password && token:
		k.bad(path+".tokenFile", "a token and a password cannot both be used")
	}
	if (password || token) && v.Scheme == "http" && !loopback(v.Hostname()) {
		k.bad(path+".url", "credentials would cross the network unprotected: use https")
	}
}

// redactURL removes what stands before the host of a URL that may not parse.
func redactURL(s string) string {
	if at := strings.LastIndexByte(s, '@'); at >= 0 {
		return hidden + s[at:]
	}
	return s
}

func (k *checker) advisories() {
	a := k.c.Advisories
	if a.From == "" {
		k.bad("advisories.from", "the URL or directory of an OSV export is wanted")
	}
	if repository, ok := strings.CutPrefix(a.From, "oci://"); !ok {
		k.source("advisories.from", a.From)
	} else if host, name, ok := strings.Cut(repository, "/"); !ok || host == "" || name == "" {
		k.bad("advisories.from", "%q is not oci://registry/repository:tag", a.From)
	}
	k.source("advisories.kev", a.KEV)
	k.source("advisories.epss", a.EPSS)
	for i, s := range a.NVD {
		k.source(fmt.Sprintf("advisories.nvd.%d", i), s)
	}
	for i, s := range a.Private {
		k.private(fmt.Sprintf("advisories.private.%d", i), s)
	}
	k.oneOf("advisories.whenMissing", a.WhenMissing, "pending", "deny", "annotate")
	k.oneOf("advisories.whenStale", a.WhenStale, "pending", "deny", "annotate")
	if a.UpdateEvery > 0 && a.UpdateEvery < minute {
		k.bad("advisories.updateEvery", "%s is too often: 1m is the least, 0 is never", a.UpdateEvery)
	}
}

// pin is what may follow a private source.
var pin = regexp.MustCompile(`^[0-9a-fA-F]{64}$`)

// private checks a source of records that may be pinned to its SHA-256. What
// plain http sends must be.
func (k *checker) private(path, s string) {
	from, sum, pinned := strings.Cut(s, "#sha256=")
	k.source(path, from)
	switch {
	case pinned && !pin.MatchString(sum):
		k.bad(path, "#sha256= wants 64 hexadecimal digits")
	case !pinned && strings.HasPrefix(from, "http://"):
		k.bad(path, "http proves nothing about what it sends: use https, or add #sha256=…")
	}
}

// source checks a URL or a path.
func (k *checker) source(path, s string) {
	scheme, _, ok := strings.Cut(s, "://")
	if !ok {
		return
	}
	if v, err := url.Parse(s); err != nil || v.Host == "" || scheme != "http" && scheme != "https" {
		k.bad(path, "%q is neither an http or https address nor a path", redactURL(s))
	}
}

// ParseUpstreamFlag reads --upstream NAME=URL. The name may be given alone
// when it is a host: then it stands for https://NAME.
func ParseUpstreamFlag(s string) (name string, u Upstream, err error) {
	name, addr, ok := strings.Cut(s, "=")
	if !ok {
		addr = "https://" + name
	}
	if !upstreamName.MatchString(name) || ok && addr == "" {
		return "", Upstream{}, fmt.Errorf("%q is not NAME=URL, such as up=http://127.0.0.1:5555", redactURL(s))
	}
	return name, Upstream{URL: addr}, nil
}
