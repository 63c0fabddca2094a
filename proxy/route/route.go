package route

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	godigest "github.com/opencontainers/go-digest"
)

// Kind is what a request wants.
type Kind uint8

// The kinds.
const (
	Base      Kind = iota + 1 // /v2/
	Manifest                  // by Tag or Digest
	Blob                      // by Digest
	Upload                    // Upload holds the session, "" for a new one
	Tags                      // the list of tags
	Referrers                 // of Digest
	Catalog                   // /v2/_catalog
)

// String returns the name of k as it stands in paths and metrics.
func (k Kind) String() string {
	switch k {
	case Base:
		return "base"
	case Manifest:
		return "manifest"
	case Blob:
		return "blob"
	case Upload:
		return "upload"
	case Tags:
		return "tags"
	case Referrers:
		return "referrers"
	case Catalog:
		return "catalog"
	}
	return "unknown"
}

// Route is a parsed request.
type Route struct {
	Kind       Kind
	Upstream   string          // key of the table, "" with Local
	Local      bool            // the gated registry that teams push to
	Side       bool            // what Sluice itself says of the images of Name, under SidePrefix
	Repository string          // name at the upstream: library/nginx
	Name       string          // canonical name: docker.io/library/nginx
	Asked      string          // name as the client wrote it in the path
	Tag        string          // of a Manifest asked for by tag
	Digest     godigest.Digest // of a Manifest by digest, a Blob, Referrers
	Session    string          // of an Upload
}

// Reference is the canonical name with the tag or digest.
func (r Route) Reference() string {
	switch {
	case r.Tag != "":
		return r.Name + ":" + r.Tag
	case r.Digest != "":
		return r.Name + "@" + r.Digest.String()
	}
	return r.Name
}

// What is wrong with a request. The errors of Parse wrap one of these.
var (
	ErrNotFound      = errors.New("no such path")
	ErrNameInvalid   = errors.New("invalid repository name")
	ErrNameUnknown   = errors.New("unknown registry")
	ErrDigestInvalid = errors.New("invalid digest")
	ErrTagInvalid    = errors.New("invalid tag")
)

// Upstream is one entry of the Table.
type Upstream struct {
	Name    string   // canonical: docker.io, registry.corp:5000
	Aliases []string // other spellings of it: index.docker.io
	Library bool     // a name of one component means library/<name>
}

// Table is the closed world of upstreams. It is safe for concurrent use.
type Table struct {
	byName      map[string]Upstream
	fallback    string
	localPrefix string
}

// NewTable returns a table of ups. fallback is the name of the upstream for
// requests that name none, "" for none. localPrefix is the first component of
// the gated registry's names, "" for none.
func NewTable(ups []Upstream, fallback, localPrefix string) (*Table, error) {
	t := &Table{byName: make(map[string]Upstream), fallback: fallback, localPrefix: localPrefix}
	for _, u := range ups {
		for _, n := range append([]string{u.Name}, u.Aliases...) {
			if n != strings.ToLower(n) || !upstreamName.MatchString(n) {
				return nil, fmt.Errorf("upstream %q: not a lower-case host[:port] or word", n)
			}
			if n == localPrefix {
				return nil, fmt.Errorf("upstream %q: the name is the prefix of the local registry", n)
			}
			if other, taken := t.byName[n]; taken {
				return nil, fmt.Errorf("upstream %q: the name belongs to upstream %q already", n, other.Name)
			}
			t.byName[n] = u
		}
	}
	if fallback != "" {
		if _, ok := t.byName[fallback]; !ok {
			return nil, fmt.Errorf("default upstream %q is not configured", fallback)
		}
	}
	return t, nil
}

const (
	maxName = 255 // of a repository name, with the upstream in front (OCI distribution 1.1, "Pulling manifests")
	maxPath = 1024
)

var (
	component    = `[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*`
	repository   = regexp.MustCompile(`^` + component + `(?:/` + component + `)*$`)
	upstreamName = regexp.MustCompile(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?::[0-9]{1,5})?$`)
	tagPattern   = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
)

// ValidTag reports whether s can be a tag (OCI distribution 1.1, "Pulling
// manifests").
func ValidTag(s string) bool { return tagPattern.MatchString(s) }

// SidePrefix stands before a repository's name for the repository beside it, in
// which Sluice attests what it let pass. No registry can have such a name: the
// components of names begin with a letter or digit (OCI distribution 1.1,
// "Pulling manifests").
const SidePrefix = "_attest"

// Parse reads the address of a request. The error wraps one of this package's
// sentinels and its text can be shown to the client.
func (t *Table) Parse(u *url.URL) (Route, error) {
	if u.RawPath != "" || len(u.Path) > maxPath {
		return Route{}, fmt.Errorf("%w: the path is too long or percent-encoded", ErrNameInvalid)
	}
	rest, ok := strings.CutPrefix(u.Path, "/v2")
	switch {
	case !ok:
		return Route{}, ErrNotFound
	case rest == "" || rest == "/":
		return Route{Kind: Base}, nil
	case rest == "/_catalog":
		return Route{Kind: Catalog}, nil
	case rest[0] != '/':
		return Route{}, ErrNotFound
	}
	r, ref, err := split(rest[1:])
	if err != nil {
		return Route{}, err
	}
	if err := r.setReference(ref); err != nil {
		return Route{}, err
	}
	ns := ""
	if u.RawQuery != "" {
		namespaces := u.Query()["ns"]
		if len(namespaces) > 1 {
			return Route{}, fmt.Errorf("%w: more than one ns parameter", ErrNameInvalid)
		}
		if len(namespaces) == 1 {
			ns = namespaces[0]
		}
	}
	if err := t.resolve(&r, ns); err != nil {
		return Route{}, err
	}
	return r, nil
}

// split finds the kind from the right of the path.
func split(p string) (Route, string, error) {
	if name, ok := strings.CutSuffix(p, "/tags/list"); ok {
		return Route{Kind: Tags, Asked: name}, "", nil
	}
	i := strings.LastIndexByte(p, '/')
	if i < 0 {
		return Route{}, "", ErrNotFound
	}
	rest, ref := p[:i], p[i+1:]
	for _, k := range []struct {
		suffix string
		kind   Kind
	}{
		{"/manifests", Manifest},
		{"/blobs/uploads", Upload},
		{"/blobs", Blob},
		{"/referrers", Referrers},
	} {
		if name, ok := strings.CutSuffix(rest, k.suffix); ok {
			return Route{Kind: k.kind, Asked: name}, ref, nil
		}
	}
	return Route{}, "", ErrNotFound
}

func (r *Route) setReference(ref string) error {
	switch r.Kind {
	case Upload:
		r.Session = ref
		return nil
	case Blob, Referrers:
		return r.setDigest(ref)
	case Manifest:
		if strings.Contains(ref, ":") {
			return r.setDigest(ref)
		}
		if !ValidTag(ref) {
			return fmt.Errorf("%w: %q", ErrTagInvalid, ref)
		}
		r.Tag = ref
	}
	return nil
}

// setDigest takes canonical sha256 digests only: what the store can verify.
func (r *Route) setDigest(ref string) error {
	if canonical(ref) {
		r.Digest = godigest.Digest(ref)
		return nil
	}
	d, err := godigest.Parse(ref)
	if err != nil {
		return fmt.Errorf("%w: %q: %w", ErrDigestInvalid, ref, err)
	}
	if d.Algorithm() != godigest.SHA256 {
		return fmt.Errorf("%w: algorithm %s is not supported, only sha256", ErrDigestInvalid, d.Algorithm())
	}
	r.Digest = d
	return nil
}

// canonical reports whether ref is a sha256 digest. It is on the path of every
// pull, and faster than godigest's regular expression.
func canonical(ref string) bool {
	hex, ok := strings.CutPrefix(ref, "sha256:")
	if !ok || len(hex) != 64 {
		return false
	}
	for _, c := range []byte(hex) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// resolve finds the upstream and the repository's name there.
func (t *Table) resolve(r *Route, ns string) error {
	if image, ok := strings.CutPrefix(r.Asked, SidePrefix+"/"); ok && !r.Side {
		of := *r
		of.Asked, of.Side = image, true
		if err := t.resolve(&of, ns); err != nil {
			return err
		}
		of.Asked = r.Asked
		*r = of
		return nil
	}
	first, rest, more := strings.Cut(r.Asked, "/")
	up, inTable := t.byName[first]
	repo := r.Asked
	switch {
	case ns != "":
		named, ok := t.byName[strings.ToLower(ns)]
		if !ok {
			return fmt.Errorf("%w: ns %q is not one of the configured upstreams", ErrNameUnknown, ns)
		}
		// podman's namespace-proxy sends both the prefix and ns.
		if hostLike(first) {
			if !inTable || up.Name != named.Name {
				return fmt.Errorf("%w: ns %q and the name %q contradict each other", ErrNameUnknown, ns, r.Asked)
			}
			repo = rest
		}
		up = named
	case inTable && more:
		repo = rest
	case t.localPrefix != "" && first == t.localPrefix && more:
		r.Local, repo = true, rest
	case hostLike(first):
		return fmt.Errorf("%w: %q is not one of the configured upstreams", ErrNameUnknown, first)
	case t.fallback == "":
		return fmt.Errorf("%w: the name %q has no upstream in front and there is no default upstream", ErrNameUnknown, r.Asked)
	default:
		up = t.byName[t.fallback]
	}
	if r.Local {
		r.Repository, r.Name = repo, t.localPrefix+"/"+repo
	} else {
		if up.Library && !strings.Contains(repo, "/") {
			repo = "library/" + repo
		}
		r.Upstream, r.Repository, r.Name = up.Name, repo, up.Name+"/"+repo
	}
	if len(r.Name) > maxName || !repository.MatchString(repo) {
		return fmt.Errorf("%w: %q", ErrNameInvalid, r.Asked)
	}
	return nil
}

// hostLike reports whether a first component reads as a registry's address.
func hostLike(c string) bool { return strings.ContainsAny(c, ".:") }
