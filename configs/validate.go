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
)

// Validate returns Problems with every value that cannot work, nil when there
// is none. Load has done it; call it again after changing a Config.
func (c *Config) Validate() error { return c.problems().err() }

// Warnings returns what works and is likely not what one wants.
func (c *Config) Warnings() []Problem {
	k := checker{c: c}
	if c.Release.Hold >= 30*second {
		k.bad("release.hold", "%s is longer than containerd waits for a manifest (30s)", c.Release.Hold)
	}
	if c.Log.Level == "debug" {
		k.bad("log.level", "debug writes several lines for each request")
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
	k.positive("release.hold", int64(c.Release.Hold))
	k.positive("analysis.maxEntries", int64(c.Analysis.MaxEntries))
	k.positive("analysis.maxBytes", int64(c.Analysis.MaxBytes))
	k.positive("analysis.timeout", int64(c.Analysis.Timeout))
	if c.Analysis.Parallel < 0 {
		k.bad("analysis.parallel", "%d is negative; 0 means one for each CPU", c.Analysis.Parallel)
	}
	return k.found
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
	k.source("advisories.from", a.From)
	k.source("advisories.kev", a.KEV)
	k.oneOf("advisories.whenMissing", a.WhenMissing, "pending", "deny", "annotate")
	if a.UpdateEvery > 0 && a.UpdateEvery < minute {
		k.bad("advisories.updateEvery", "%s is too often: 1m is the least, 0 is never", a.UpdateEvery)
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
