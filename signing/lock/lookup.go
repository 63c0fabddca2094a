package lock

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	godigest "github.com/opencontainers/go-digest"

	"github.com/sluiceproxy/sluice/signing"
)

// Listed implements signing.Locks: the most telling answer of all locks.
func (s *Set) Listed(sub *signing.Subject, now time.Time) signing.Listing {
	best := signing.Listing{Reason: "no lock lists " + sub.Name}
	for i, l := range s.locks {
		answer := l.Listed(sub, now)
		until := earlier(best.Until, answer.Until)
		if i == 0 || rank(answer.Publication) > rank(best.Publication) {
			best = answer
		}
		best.Until = until
	}
	return best
}

// rank orders publications by how telling they are.
func rank(p signing.Publication) int {
	return slices.Index([]signing.Publication{
		signing.Unlisted, signing.Unproven, signing.Mismatched, signing.Published, signing.Superseded,
	}, p)
}

// Listed implements signing.Locks. With tags, the entries for one of them decide,
// if there are any; without, and for tags that have no entry, every entry of the
// name counts. An index that is listed publishes the children that it lists.
func (l *Lock) Listed(s *signing.Subject, now time.Time) signing.Listing {
	out := signing.Listing{Lock: l.id.Name}
	if why := l.unusable(now); why != "" {
		out.Reason = why
		return out
	}
	if !l.expires.IsZero() {
		if !now.After(l.expires) {
			out.Until = l.expires.Add(1)
		} else if out.Warning = fmt.Sprintf("the lock %s expired at %s", l.id.Name, l.expires.Format(time.RFC3339)); !l.warnStale {
			// What it says of old digests is as true as before.
			if answer := l.entries(s); answer.Publication == signing.Superseded {
				return answer
			}
			out.Reason, out.Warning = out.Warning, ""
			return out
		}
	}
	if t := l.key.NotAfter; !t.IsZero() {
		out.Until = earlier(out.Until, t.Add(1))
	}
	answer := l.entries(s)
	answer.Warning, answer.Until = out.Warning, out.Until
	return answer
}

// unusable says why the lock counts for nothing, "" if it does.
func (l *Lock) unusable(now time.Time) string {
	switch k := l.key; {
	case now.Before(k.NotBefore):
		return fmt.Sprintf("the lock %s does not count: its key is valid from %s", l.id.Name, k.NotBefore.UTC().Format(time.RFC3339))
	case !k.NotAfter.IsZero() && now.After(k.NotAfter):
		return fmt.Sprintf("the lock %s does not count: its key was valid until %s; sign it again with a current one", l.id.Name, k.NotAfter.UTC().Format(time.RFC3339))
	}
	return ""
}

// entries is what the lock's entries say of s, whatever the time.
func (l *Lock) entries(s *signing.Subject) signing.Listing {
	entries := l.byName[s.Name]
	if len(entries) == 0 {
		return signing.Listing{Lock: l.id.Name, Reason: fmt.Sprintf("the lock %s does not list %s", l.id.Name, s.Name)}
	}
	considered, tagged := entries, false
	if len(s.Tags) > 0 {
		about := slices.DeleteFunc(slices.Clone(entries), func(im Image) bool { return im.Tag != "" && !slices.Contains(s.Tags, im.Tag) })
		if len(about) > 0 {
			considered, tagged = about, true
		}
	}
	var best signing.Listing
	for i := range considered {
		answer := considered[i].says(s, tagged)
		if i == 0 || outweighs(answer.Publication, best.Publication) {
			best = answer
		}
	}
	best.Lock = l.id.Name
	if best.Publication != signing.Published {
		best.Reason = fmt.Sprintf("the lock %s %s", l.id.Name, best.Reason)
	}
	return best
}

// outweighs lets an entry that publishes a digest count before one that calls it
// old: it is the old one of another tag.
func outweighs(a, b signing.Publication) bool {
	if a == signing.Published || b == signing.Published {
		return a == signing.Published && b != signing.Published
	}
	return rank(a) > rank(b)
}

// says is what one entry makes of s. Reasons go on after "the lock NAME".
func (im *Image) says(s *signing.Subject, tagged bool) signing.Listing {
	d := s.Desc.Digest
	self := im.Name
	if im.Tag != "" {
		self += ":" + im.Tag
	}
	mismatch := func(format string, args ...any) signing.Listing {
		return signing.Listing{Publication: signing.Mismatched, Reason: fmt.Sprintf(format, args...)}
	}
	parents := make([]godigest.Digest, len(s.Parents))
	for i, p := range s.Parents {
		parents[i] = p.Desc.Digest
	}
	for _, old := range im.Superseded {
		if old == d || slices.Contains(parents, old) && !slices.ContainsFunc(parents, func(p godigest.Digest) bool { return slices.Contains(im.Digests, p) }) {
			return signing.Listing{Publication: signing.Superseded, Reason: fmt.Sprintf("lists %s as an old digest of %s", old, self)}
		}
	}
	platform := ""
	keys := slices.Sorted(maps.Keys(im.Platforms))
	for _, p := range keys {
		if slices.Contains(im.Platforms[p], d) {
			platform = p
		}
	}
	listed := slices.Contains(im.Digests, d) || slices.ContainsFunc(parents, func(p godigest.Digest) bool { return slices.Contains(im.Digests, p) })
	switch {
	case !listed && platform == "" && tagged:
		return mismatch("lists other digests for %s than %s", self, d)
	case !listed && platform == "":
		return signing.Listing{Reason: fmt.Sprintf("does not list %s as one of %s", d, im.Name)}
	case platform != "" && s.Platform != "" && !samePlatform(platform, s.Platform):
		return mismatch("lists %s for %s, and it is for %s", d, platform, s.Platform)
	case platform == "" && s.Platform != "" && !slices.Contains(im.Digests, d):
		for _, p := range keys {
			if samePlatform(p, s.Platform) {
				return mismatch("lists other digests for %s of %s than %s", p, self, d)
			}
		}
	}
	if len(im.DiffIDs) == 0 || s.Platform == "" && len(s.DiffIDs) == 0 && slices.Contains(im.Digests, d) && isIndex(s.Desc.MediaType) {
		return signing.Listing{Publication: signing.Published}
	}
	switch {
	case len(s.DiffIDs) == 0:
		return signing.Listing{Publication: signing.Unproven, Reason: fmt.Sprintf("demands layers of %s that are not known yet", self)}
	case len(s.DiffIDs) < len(im.DiffIDs) || !slices.Equal(s.DiffIDs[:len(im.DiffIDs)], im.DiffIDs):
		return mismatch("lists other first layers for %s", self)
	}
	return signing.Listing{Publication: signing.Published}
}

// samePlatform compares os and architecture, and the variant where both have one.
func samePlatform(a, b string) bool {
	x, y := strings.SplitN(a, "/", 3), strings.SplitN(b, "/", 3)
	return len(x) > 1 && len(y) > 1 && x[0] == y[0] && x[1] == y[1] && (len(x) < 3 || len(y) < 3 || x[2] == y[2])
}

// isIndex reports whether the type is that of an index, which has no layers.
func isIndex(mediaType string) bool {
	return strings.HasSuffix(mediaType, ".index.v1+json") || strings.HasSuffix(mediaType, ".list.v2+json")
}

// earlier returns the earlier of two times of which zero means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
