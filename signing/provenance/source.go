package provenance

import (
	"fmt"
	"net/url"
	"strings"
)

// Source returns a source repository in its one spelling, host/path, and the
// ref that the address names, if it does:
//
//	git+https://github.com/acme/app.git@refs/heads/main → github.com/acme/app, refs/heads/main
//	git@github.com:acme/app                             → github.com/acme/app
//
// Other schemes than https, ssh and git, a user other than git, a port that is
// not the scheme's, an empty or climbing path and escapes are errors.
func Source(address string) (repo, ref string, err error) {
	s := strings.TrimPrefix(address, "git+")
	if rest, ok := strings.CutPrefix(s, "git@"); ok && !strings.Contains(s, "://") {
		host, path, ok := strings.Cut(rest, ":")
		if !ok {
			return "", "", fmt.Errorf("source %q: not an address", address)
		}
		s = "ssh://git@" + host + "/" + path
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" {
		return "", "", fmt.Errorf("source %q: not an address", address)
	}
	if u.Scheme != "https" && u.Scheme != "ssh" && u.Scheme != "git" {
		return "", "", fmt.Errorf("source %q: the scheme is %q, not https, ssh or git", address, u.Scheme)
	}
	if _, secret := u.User.Password(); secret || u.User.Username() != "" && u.User.Username() != "git" {
		return "", "", fmt.Errorf("source %q: names a user", address)
	}
	if u.RawQuery != "" || strings.Contains(s, "%") {
		return "", "", fmt.Errorf("source %q: has a query or escapes", address)
	}
	path := u.Path
	if i := strings.IndexByte(path, '@'); i >= 0 {
		path, ref = path[:i], path[i+1:]
	}
	if u.Fragment != "" {
		fragment, _, _ := strings.Cut(u.Fragment, ":") // BuildKit: #ref:subdirectory
		if ref != "" && fragment != "" {
			return "", "", fmt.Errorf("source %q: names two refs", address)
		}
		ref = fragment
	}
	path = strings.TrimSuffix(strings.TrimSuffix(strings.TrimPrefix(path, "/"), "/"), ".git")
	for _, part := range strings.Split(path, "/") {
		if part == "" || part == "." || part == ".." {
			return "", "", fmt.Errorf("source %q: the path is not plain", address)
		}
	}
	return strings.ToLower(u.Host) + "/" + path, ref, nil
}
