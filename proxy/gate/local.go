package gate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/zap"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/proxy/local"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/records"
	"github.com/sluiceproxy/sluice/proxy/route"
	"github.com/sluiceproxy/sluice/proxy/store"
)

// Mode is what becomes of a pushed image that the policy denies.
type Mode uint8

// The modes. The zero value is the strictest.
const (
	Reject     Mode = iota // the push is refused, and nothing is stored
	Quarantine             // it is stored, and only those who may push or operate there see it until a verdict serves
	Annotate               // the policy's denials count as annotations; the blocklist's do not
)

// ErrManifestUnknown says that the gated registry does not have a manifest.
var ErrManifestUnknown = errors.New("manifest unknown to this registry")

// ManifestError says what is wrong with the bytes of a pushed manifest.
type ManifestError struct{ Reason string }

// Error is what the client is told.
func (e *ManifestError) Error() string { return e.Reason }

// PushRequest is a manifest that a client pushes.
type PushRequest struct {
	Bytes     []byte
	MediaType string // Content-Type; "" = what the bytes say
	Pusher    string
	Tags      []records.PushedTag // that name it from now on
}

// Pushed is what became of it.
type Pushed struct {
	Digest  godigest.Digest
	Subject godigest.Digest // that it refers to; "" = none
	Verdict policy.Verdict  // one that denies means quarantine
	Warning string          // of a Verdict that says something, as a Warning header's value
}

// Push judges a manifest that a client pushes into rt's repository, waiting for
// the analysis, and stores it with its tag if the verdict or the mode lets it.
// The error is a *policy.DeniedError for a refused one, a *PendingError when no
// verdict could be taken in time, a *ManifestError for bytes that are no
// manifest, or one of records.DB.PutLocalManifest.
func (g *Gate) Push(ctx context.Context, rt route.Route, req PushRequest) (Pushed, error) {
	d := godigest.FromBytes(req.Bytes)
	if rt.Digest != "" && rt.Digest != d {
		return Pushed{}, fmt.Errorf("%w: the manifest has the digest %s", route.ErrDigestInvalid, d)
	}
	k := key{rt.Name, d}
	e, ok := g.entries.get(k)
	if !ok {
		e = newEntry(k, req.MediaType, req.Bytes)
	}
	if e.unread != "" {
		return Pushed{}, &ManifestError{e.unread}
	}
	p := push(e, rt, req)
	if err := g.present(ctx, p); err != nil {
		return Pushed{}, err
	}
	v, err := g.judgePush(ctx, rt, e, req.Tags)
	if err != nil {
		return Pushed{}, err
	}
	var before []godigest.Digest
	for _, t := range req.Tags {
		old, _, ok, err := g.opts.Records.Tag(ctx, rt.Name, t.Name)
		if err != nil {
			return Pushed{}, err
		}
		if ok && old != d {
			before = append(before, old)
		}
	}
	if err := g.opts.Local.Put(ctx, p, req.Bytes); err != nil {
		return Pushed{}, err
	}
	g.pushed(ctx, e, p, before)
	g.opts.Log.Info("manifest pushed", zap.String("repository", rt.Name), zap.Any("tags", req.Tags), zap.Stringer("digest", d),
		zap.String("pusher", req.Pusher), zap.Stringer("decision", v.Decision), zap.String("verdict", v.ID))
	out := Pushed{Digest: d, Subject: p.Manifest.Subject, Verdict: v}
	if v.Decision != policy.Allow {
		out.Warning = warning(v)
	}
	return out, nil
}

// judgePush returns the verdict on e under all of its new tags. One that denies
// is an error unless the repository's mode is Quarantine.
func (g *Gate) judgePush(ctx context.Context, rt route.Route, e *entry, tags []records.PushedTag) (policy.Verdict, error) {
	names := []string{""}
	if len(tags) > 0 {
		names = names[:0]
	}
	for _, t := range tags {
		names = append(names, t.Name)
	}
	var worst policy.Verdict
	for _, name := range names {
		rt.Tag = name
		v, err := g.judge(ctx, rt, e, g.opts.PushHold)
		var denied *policy.DeniedError
		if errors.As(err, &denied) && g.mode(rt.Name) == Quarantine {
			v, err = denied.Verdict, nil
		}
		if err != nil {
			return policy.Verdict{}, err
		}
		if v.Decision > worst.Decision {
			worst = v
		}
	}
	return worst, nil
}

// push is what the records are told of a manifest. Layers that are to be had at
// external addresses only need not be pushed (OCI image-spec, layer.md,
// "Non-Distributable Layers"); the policy judges that.
func push(e *entry, rt route.Route, req PushRequest) records.Push {
	m := e.manifest
	p := records.Push{
		Manifest: records.LocalManifest{
			Name: rt.Name, Digest: e.key.digest, MediaType: m.Descriptor.MediaType, Size: m.Descriptor.Size,
			ArtifactType: m.ArtifactType, Annotations: m.Annotations, Pusher: req.Pusher,
		},
		Tags: req.Tags,
	}
	if p.Manifest.ArtifactType == "" && !m.Index {
		p.Manifest.ArtifactType = m.Config.MediaType // OCI distribution 1.1, "Listing Referrers"
	}
	if m.Subject != nil {
		p.Manifest.Subject = m.Subject.Digest
	}
	for _, d := range m.Children {
		p.Children = append(p.Children, d.Digest)
	}
	if !m.Index {
		p.Blobs = append(p.Blobs, m.Config.Digest)
	}
	for _, d := range m.Layers {
		if len(d.URLs) == 0 {
			p.Blobs = append(p.Blobs, d.Digest)
		}
	}
	return p
}

// present tells early that a member is missing, and counts as a use of those
// that are there.
func (g *Gate) present(ctx context.Context, p records.Push) error {
	for _, d := range p.Blobs {
		_, err := g.opts.Local.Stat(ctx, p.Manifest.Name, d)
		if errors.Is(err, local.ErrBlobUnknown) {
			return &records.MissingError{Digest: d}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// pushed makes what is in memory follow a push.
func (g *Gate) pushed(ctx context.Context, e *entry, p records.Push, before []godigest.Digest) {
	g.entries.put(e.key, e, int64(len(e.bytes))+entryOverhead)
	g.members.forget(p.Manifest.Name, e.manifest.Members())
	g.forgetTags(e.key)
	for _, d := range before {
		g.forgetTags(key{e.key.name, d})
	}
	if s := p.Manifest.Subject; s != "" { // a signature, say: what it is for is judged anew
		g.attached(ctx, key{e.key.name, s})
	}
	for _, t := range p.Tags {
		if s := signedBy(t.Name); s != "" {
			g.attached(ctx, key{e.key.name, s})
		}
	}
	for _, c := range p.Children { // the index's signatures are theirs
		g.forgetTrust(key{e.key.name, c})
	}
}

// attached makes the next requests look again at the signatures of k, and of what
// k lists if it is an index: its signatures are theirs.
func (g *Gate) attached(ctx context.Context, k key) {
	g.forgetTrust(k)
	members, err := g.opts.Records.Members(ctx, k.name, k.digest)
	if err != nil { // then they are looked for again when what is known of them ends
		g.opts.Log.Warn("signatures not looked for again at once", zap.Stringer("index", k), zap.Error(err))
	}
	for _, d := range members {
		g.forgetTrust(key{k.name, d})
	}
}

// forgetVerdict makes the next request judge k again.
func (g *Gate) forgetVerdict(k key) {
	if e, ok := g.entries.get(k); ok {
		e.mu.Lock()
		e.verdict = policy.Verdict{}
		e.mu.Unlock()
	}
}

// mode is that of the repository.
func (g *Gate) mode(name string) Mode {
	if g.opts.Mode == nil {
		return Reject
	}
	return g.opts.Mode(name)
}

// Inspect returns a manifest of the gated registry whatever the verdict on it,
// for those who may push or operate there. Admission.Verdict says what others
// get.
func (g *Gate) Inspect(ctx context.Context, rt route.Route) (Admission, error) {
	a, err := g.Manifest(ctx, rt)
	var (
		denied  *policy.DeniedError
		pending *PendingError
	)
	switch {
	case errors.As(err, &denied):
		a.Verdict, a.Warning = denied.Verdict, warning(denied.Verdict)
	case errors.As(err, &pending):
	default:
		return a, err
	}
	at := tagged{digest: rt.Digest}
	if rt.Tag != "" {
		if at, err = g.resolveLocal(ctx, rt); err != nil {
			return Admission{}, err
		}
	}
	e, err := g.entry(ctx, rt, at.digest)
	if err != nil {
		return Admission{}, err
	}
	a.Name, a.Manifest, a.Bytes = rt.Name, e.manifest, e.bytes
	return a, nil
}

// Delete takes a manifest out of the gated registry, with its tags, unless keeps
// says yes to one of them. For the errors see records.DB.DeleteLocalManifest.
func (g *Gate) Delete(ctx context.Context, name string, d godigest.Digest, keeps func(tag string) bool) error {
	return g.remove(ctx, name, d, func() (bool, error) {
		return true, g.opts.Records.DeleteLocalManifest(ctx, name, d, g.now(), keeps)
	})
}

// DeleteTag takes a tag away, whose manifest stays. The error is
// records.ErrNotFound without one.
func (g *Gate) DeleteTag(ctx context.Context, name, tag string) error {
	d, _, _, err := g.opts.Records.Tag(ctx, name, tag)
	if err != nil {
		return err
	}
	if err := g.opts.Records.DeleteTag(ctx, name, tag); err != nil {
		return err
	}
	g.forgetTags(key{name, d})
	g.forgetVerdict(key{name, d}) // it may have rested on the tag
	return nil
}

// Expire does what Delete does to what local.Registry.Expired let go, unless
// something happened to it since, and reports whether it did.
func (g *Gate) Expire(ctx context.Context, e local.Expired) (gone bool, err error) {
	if of, side := strings.CutPrefix(e.Name, route.SidePrefix+"/"); side {
		if _, back, err := g.opts.Records.LocalManifest(ctx, of, e.Orphan); err != nil || back {
			return false, err
		}
		return true, g.withdraw(ctx, e.Name, []records.LocalManifest{{Digest: e.Digest}}, nil)
	}
	err = g.remove(ctx, e.Name, e.Digest, func() (bool, error) {
		k := records.Kept{Name: e.Name, Digest: e.Digest, Tags: e.Tags, Pushed: e.Pushed, LastPull: e.LastPull, Orphan: e.Orphan}
		gone, err = g.opts.Records.Expire(ctx, k, g.now())
		return gone, err
	})
	return gone, err
}

// remove forgets a manifest that change takes out of the records. Its bytes need
// not be there any more.
func (g *Gate) remove(ctx context.Context, name string, d godigest.Digest, change func() (bool, error)) error {
	k := key{name, d}
	m, ok, err := g.opts.Records.LocalManifest(ctx, name, d)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("%s: %w", k, ErrManifestUnknown)
	}
	members, err := g.opts.Records.Members(ctx, name, d)
	if err != nil {
		return err
	}
	if ok, err := change(); err != nil || !ok {
		return err
	}
	g.entries.remove(k)
	g.members.forget(name, append(members, d))
	if m.Subject != "" {
		g.forgetVerdict(key{name, m.Subject})
	}
	return nil
}

// loadLocal reads a manifest of the gated registry.
func (g *Gate) loadLocal(ctx context.Context, k key) (*entry, error) {
	m, b, err := g.opts.Local.Manifest(ctx, k.name, k.digest)
	if errors.Is(err, records.ErrNotFound) || errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("%s: %w", k, ErrManifestUnknown)
	}
	if err != nil {
		return nil, err
	}
	return newEntry(k, m.MediaType, b), nil
}

// resolveLocal returns what a tag of the gated registry names.
func (g *Gate) resolveLocal(ctx context.Context, rt route.Route) (tagged, error) {
	d, _, ok, err := g.opts.Records.Tag(ctx, rt.Name, rt.Tag)
	if err == nil && !ok {
		err = fmt.Errorf("%s: %w", rt.Reference(), ErrManifestUnknown)
	}
	return tagged{digest: d, at: g.now()}, err
}

// openLocal opens a blob of the gated registry.
func (g *Gate) openLocal(desc ocispec.Descriptor) (*os.File, error) {
	f, err := g.opts.Local.Open(desc.Digest)
	if errors.Is(err, store.ErrNotFound) {
		if len(desc.URLs) > 0 {
			return nil, analyzer.ErrElsewhere
		}
		return nil, fmt.Errorf("%s: %w", desc.Digest, local.ErrBlobUnknown)
	}
	return f, err
}

// localReferrers lists what was pushed with rt's digest as its subject.
func (g *Gate) localReferrers(ctx context.Context, rt route.Route) ([]ocispec.Descriptor, error) {
	list, err := g.opts.Records.LocalReferrers(ctx, rt.Name, rt.Digest)
	if err != nil {
		return nil, err
	}
	return descriptors(list), nil
}

// descriptors are manifests as a referrers list shows them.
func descriptors(list []records.LocalManifest) []ocispec.Descriptor {
	out := make([]ocispec.Descriptor, len(list))
	for i, m := range list {
		out[i] = ocispec.Descriptor{MediaType: m.MediaType, Digest: m.Digest, Size: m.Size, ArtifactType: m.ArtifactType, Annotations: m.Annotations}
	}
	return out
}

// describeLocal is the part of describe for the gated registry, whose tags only
// a push moves. The tag that is being pushed counts as the image's already.
func (g *Gate) describeLocal(ctx context.Context, rt route.Route, e *entry) (records.Image, []string, error) {
	img, err := g.opts.Records.SeenImage(ctx, e.key.name, "", e.key.digest, e.manifest.Descriptor.MediaType, g.now())
	tags := img.Tags
	if rt.Tag != "" && !slices.Contains(tags, rt.Tag) {
		tags = append(slices.Clone(tags), rt.Tag)
	}
	return img, tags, err
}
