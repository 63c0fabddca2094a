package local

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"time"

	godigest "github.com/opencontainers/go-digest"

	"github.com/sluiceproxy/sluice/proxy/records"
	"github.com/sluiceproxy/sluice/proxy/route"
)

// Retention says which images of some repositories may go. An image goes when
// nothing below keeps it. Images without a tag are kept by their age and by pulls
// only. At least one of KeepLast and MaxAge is set.
type Retention struct {
	Repositories       func(name string) bool
	KeepLast           int                         // this many images with a tag, those pushed last
	KeepTags           func(name, tag string) bool // those with such a tag; may be nil
	MaxAge             time.Duration               // those pushed less long ago; 0 = age keeps none
	UnlessPulledWithin time.Duration               // those pulled less long ago; 0 = pulls keep none
}

// Expired is a manifest that goes by the retention rules, or since what it
// refers to was deleted: an image, or what goes with one.
type Expired struct {
	Name     string          `json:"repository"`
	Digest   godigest.Digest `json:"digest"`
	Tags     []string        `json:"tags,omitempty"`
	Pushed   time.Time       `json:"pushed"`
	LastPull time.Time       `json:"lastPull,omitzero"`
	// Orphan is the manifest that this one refers to, and that was deleted.
	Orphan godigest.Digest `json:"orphanOf,omitempty"`
}

// Expired returns what goes now, in the order in which it can be removed. First
// what refers to a manifest that was deleted before the grace, unless it was
// pushed later than that or has a tag of its own; then what the retention rules
// let go: what refers to an image, the image, its children. What was pushed within
// the grace stays: a push may be under way.
func (r *Registry) Expired(ctx context.Context) ([]Expired, error) {
	out, _, err := r.orphans(ctx, r.before())
	if err != nil {
		return nil, err
	}
	orphans := make(map[place]bool, len(out))
	for _, e := range out {
		orphans[place{e.Name, e.Digest}] = true
	}
	last := ""
	for len(r.opts.Retention) > 0 {
		names, err := r.opts.Records.LocalRepositories(ctx, last, 100)
		if err != nil || len(names) == 0 {
			return out, err
		}
		for _, name := range names {
			last = name
			if strings.HasPrefix(name, route.SidePrefix+"/") { // what Sluice itself says of images
				continue
			}
			i := slices.IndexFunc(r.opts.Retention, func(t Retention) bool { return t.Repositories(name) })
			if i < 0 {
				continue
			}
			kept, err := r.opts.Records.Kept(ctx, name)
			if err != nil {
				return nil, err
			}
			for _, e := range expired(&r.opts.Retention[i], kept, r.now(), r.opts.Grace) {
				if !orphans[place{e.Name, e.Digest}] {
					out = append(out, e)
				}
			}
		}
	}
	return out, nil
}

// orphans returns what refers to manifests that were deleted before that time:
// signatures and SBOMs that clients attached, and what Sluice itself says of an
// image. alone are the deleted manifests to which nothing refers any more.
func (r *Registry) orphans(ctx context.Context, before time.Time) (out []Expired, alone []records.Deleted, err error) {
	deleted, err := r.opts.Records.Deleted(ctx, before)
	if err != nil {
		return nil, nil, err
	}
	for len(deleted) > 0 {
		name := deleted[0].Name
		subjects := map[godigest.Digest]bool{}
		n := 0
		for ; n < len(deleted) && deleted[n].Name == name; n++ {
			subjects[deleted[n].Digest] = true
		}
		wanted := map[godigest.Digest]bool{}
		for _, repository := range []string{name, route.SidePrefix + "/" + name} {
			kept, err := r.opts.Records.Kept(ctx, repository)
			if err != nil {
				return nil, nil, err
			}
			out = append(out, orphaned(kept, subjects, wanted, before)...)
		}
		for _, d := range deleted[:n] {
			if !wanted[d.Digest] {
				alone = append(alone, d)
			}
		}
		deleted = deleted[n:]
	}
	return out, alone, nil
}

// orphaned returns the manifests of one repository that refer to one of the
// subjects, which are not there, and marks all those in wanted to which something
// refers.
func orphaned(all []records.Kept, subjects, wanted map[godigest.Digest]bool, before time.Time) []Expired {
	f := newForest(all)
	var out []Expired
	for i := range all {
		k := &all[i]
		s := about(k)
		if !subjects[s] || !f.root(k) {
			continue
		}
		wanted[s] = true
		if pushed, _ := f.last(k); !pushed.Before(before) || slices.ContainsFunc(f.tags(k), func(t string) bool { return !cosignTag.MatchString(t) }) {
			continue
		}
		first := len(out)
		out = f.fell(out, k)
		for i := range out[first:] {
			out[first+i].Orphan = s
		}
	}
	return out
}

// before is the end of the grace: what was last wanted earlier may go.
func (r *Registry) before() time.Time { return r.now().Add(-r.opts.Grace - r.grain()) }

// expired applies a rule to all manifests of one repository, those pushed last
// first.
func expired(rule *Retention, all []records.Kept, now time.Time, grace time.Duration) []Expired {
	f := newForest(all)
	var out []Expired
	tagged := 0
	for i := range all {
		k := &all[i]
		if !f.root(k) {
			continue
		}
		if len(k.Tags) > 0 {
			tagged++
		}
		young := grace
		if rule.MaxAge > young {
			young = rule.MaxAge
		}
		pushed, pulled := f.last(k)
		switch {
		case now.Sub(pushed) < young,
			len(k.Tags) > 0 && tagged <= rule.KeepLast,
			rule.KeepTags != nil && slices.ContainsFunc(f.tags(k), func(t string) bool { return rule.KeepTags(k.Name, t) }),
			rule.UnlessPulledWithin > 0 && now.Sub(pulled) < rule.UnlessPulledWithin:
			continue
		}
		out = f.fell(out, k)
	}
	return out
}

// forest is the manifests of one repository with what belongs to what.
type forest struct {
	by       map[godigest.Digest]*records.Kept
	children map[godigest.Digest][]*records.Kept // of an index
	attached map[godigest.Digest][]*records.Kept // referrers, and what cosign attaches by a tag
	gone     map[godigest.Digest]bool
}

func newForest(all []records.Kept) *forest {
	f := &forest{
		by: map[godigest.Digest]*records.Kept{}, children: map[godigest.Digest][]*records.Kept{},
		attached: map[godigest.Digest][]*records.Kept{}, gone: map[godigest.Digest]bool{},
	}
	for i := range all {
		f.by[all[i].Digest] = &all[i]
	}
	for i := range all {
		k := &all[i]
		for _, p := range k.Parents {
			f.children[p] = append(f.children[p], k)
		}
		if s := f.subject(k); s != "" {
			f.attached[s] = append(f.attached[s], k)
		}
	}
	return f
}

// cosignTag is how a signature, an attestation or an SBOM names its image where
// it has no subject (cosign's "Tag-based Discovery"; OCI distribution 1.1,
// "Referrers Tag Schema").
var cosignTag = regexp.MustCompile(`^sha256-([0-9a-f]{64})(?:\.[a-z]+)?$`)

// about is what k says that it refers to, "" if nothing.
func about(k *records.Kept) godigest.Digest {
	if k.Subject == "" && len(k.Tags) == 1 {
		if m := cosignTag.FindStringSubmatch(k.Tags[0]); m != nil {
			return godigest.NewDigestFromEncoded(godigest.SHA256, m[1])
		}
	}
	return k.Subject
}

// subject is the manifest of the repository that k goes with, "" if none.
func (f *forest) subject(k *records.Kept) godigest.Digest {
	s := about(k)
	if _, ok := f.by[s]; !ok || s == k.Digest {
		return ""
	}
	return s
}

// root reports whether k stands for itself: no child of an index, and attached
// to nothing.
func (f *forest) root(k *records.Kept) bool { return len(k.Parents) == 0 && f.subject(k) == "" }

// last is when k, a child of it or what is attached to it was last pushed and
// pulled. What is attached counts as pushed, not as pulled: scanners look at it.
func (f *forest) last(k *records.Kept) (pushed, pulled time.Time) {
	pushed, pulled = k.Pushed, k.LastPull
	for _, c := range f.children[k.Digest] {
		p, l := f.last(c)
		pushed, pulled = later(pushed, p), later(pulled, l)
	}
	for _, a := range f.attached[k.Digest] {
		pushed = later(pushed, a.Pushed)
	}
	return pushed, pulled
}

// tags are those of k and of what is attached to it.
func (f *forest) tags(k *records.Kept) []string {
	tags := slices.Clone(k.Tags)
	for _, a := range f.attached[k.Digest] {
		tags = append(tags, a.Tags...)
	}
	return tags
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// fell appends k and what goes with it to out: its children, unless they have a
// tag or another index names them.
func (f *forest) fell(out []Expired, k *records.Kept) []Expired {
	if f.gone[k.Digest] {
		return out
	}
	f.gone[k.Digest] = true
	for _, a := range f.attached[k.Digest] {
		out = f.fell(out, a)
	}
	out = append(out, Expired{Name: k.Name, Digest: k.Digest, Tags: k.Tags, Pushed: k.Pushed, LastPull: k.LastPull})
	for _, c := range f.children[k.Digest] {
		wanted := slices.ContainsFunc(c.Parents, func(p godigest.Digest) bool { return !f.gone[p] })
		if len(c.Tags) == 0 && !wanted {
			out = f.fell(out, c)
		}
	}
	return out
}
