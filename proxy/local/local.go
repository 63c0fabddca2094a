package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	godigest "github.com/opencontainers/go-digest"
	"go.uber.org/zap"

	"github.com/sluiceproxy/sluice/proxy/records"
	"github.com/sluiceproxy/sluice/proxy/store"
	"github.com/sluiceproxy/sluice/proxy/upload"
)

// ErrBlobUnknown says that the repository does not have a blob.
var ErrBlobUnknown = errors.New("blob unknown to this repository")

// Options of a Registry. All fields but those that say otherwise are required.
type Options struct {
	Store   *store.Store // that keeps all (store.Options.Keep)
	Records *records.DB
	Uploads *upload.Manager
	// Quotas are bytes by the prefix of repository names: local/team/. Blobs and
	// manifests count once in each repository. May be nil.
	Quotas map[string]int64
	// Grace is how long a blob stays that no manifest names, from when a client was
	// last told that it exists.
	Grace     time.Duration
	Retention []Retention // the first one for a repository counts; may be nil
	Log       *zap.Logger
	Now       func() time.Time // nil = time.Now
}

// Registry is the content of the gated registry. It is safe for concurrent use
// by one process.
type Registry struct {
	opts Options
	now  func() time.Time
	// content is held shared while content gets its first link, and alone while
	// content without one is removed.
	content sync.RWMutex
}

// New returns a Registry.
func New(opts Options) *Registry {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	return &Registry{opts: opts, now: opts.Now}
}

// Records is where the registry keeps what it has.
func (r *Registry) Records() *records.DB { return r.opts.Records }

// StartUpload opens an upload to the repository for owner. The error is a
// *records.QuotaError where the repository is full already.
func (r *Registry) StartUpload(ctx context.Context, name, owner string) (upload.Key, error) {
	if err := r.quota(ctx, name, 0); err != nil {
		return upload.Key{}, err
	}
	return r.opts.Uploads.Start(name, owner)
}

// FinishUpload ends the upload with its last chunk and gives the blob to the
// repository.
func (r *Registry) FinishUpload(ctx context.Context, k upload.Key, c upload.Chunk, d godigest.Digest) error {
	size, err := r.opts.Uploads.Size(k)
	if err != nil {
		return err
	}
	if err := r.quota(ctx, k.Repository, size+max(c.Size, 0)); err != nil {
		return err
	}
	// The bytes may take their time to come: without the lock.
	if _, err := r.opts.Uploads.Append(ctx, k, c); err != nil {
		return err
	}
	r.content.RLock()
	defer r.content.RUnlock()
	size, err = r.opts.Uploads.Finish(ctx, k, upload.Chunk{Body: strings.NewReader(""), From: -1, Size: 0}, d)
	if err != nil {
		return err
	}
	return r.opts.Records.LinkBlob(ctx, k.Repository, d, size, r.now(), r.opts.Quotas)
}

// Mount gives a blob of one repository to another. The caller may read it in
// the first, as the gate has found. The error is ErrBlobUnknown if it is not
// there.
func (r *Registry) Mount(ctx context.Context, from, to string, d godigest.Digest) error {
	r.content.RLock()
	defer r.content.RUnlock()
	size, ok, err := r.opts.Records.HasBlob(ctx, from, d, r.now(), r.grain())
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("%s in %s: %w", d, from, ErrBlobUnknown)
	}
	if err := r.quota(ctx, to, size); err != nil {
		return err
	}
	return r.opts.Records.LinkBlob(ctx, to, d, size, r.now(), r.opts.Quotas)
}

// Stat returns the size of a blob of the repository. A blob without its data,
// which a damaged disk leaves, is unknown: it can be pushed again.
func (r *Registry) Stat(ctx context.Context, name string, d godigest.Digest) (int64, error) {
	size, ok, err := r.opts.Records.HasBlob(ctx, name, d, r.now(), r.grain())
	if err == nil && ok {
		ok, err = r.opts.Store.Has(ctx, d)
	}
	if err == nil && !ok {
		err = fmt.Errorf("%s in %s: %w", d, name, ErrBlobUnknown)
	}
	return size, err
}

// Open opens content for the gate: a blob, whichever repository has it.
func (r *Registry) Open(d godigest.Digest) (*os.File, error) { return r.opts.Store.OpenBlob(d) }

// PutBlob gives the repository a blob that the program itself made.
func (r *Registry) PutBlob(ctx context.Context, name string, b []byte) error {
	d := godigest.FromBytes(b)
	r.content.RLock()
	defer r.content.RUnlock()
	if err := r.opts.Store.Put(ctx, d, b); err != nil {
		return err
	}
	return r.opts.Records.LinkBlob(ctx, name, d, int64(len(b)), r.now(), nil) // no quota is for what nobody pushed
}

// Manifest returns the bytes of a manifest of the repository and what is known
// of it. The error is records.ErrNotFound if it is not there.
func (r *Registry) Manifest(ctx context.Context, name string, d godigest.Digest) (records.LocalManifest, []byte, error) {
	m, ok, err := r.opts.Records.LocalManifest(ctx, name, d)
	if err != nil {
		return m, nil, err
	}
	if !ok {
		return m, nil, fmt.Errorf("manifest %s@%s: %w", name, d, records.ErrNotFound)
	}
	b, err := r.opts.Store.Get(ctx, d)
	if err != nil {
		return m, nil, fmt.Errorf("manifest %s@%s: %w", name, d, err)
	}
	return m, b, nil
}

// Put stores a manifest with its members and its tag, or nothing: see
// records.DB.PutLocalManifest for the errors. The gate has judged it.
func (r *Registry) Put(ctx context.Context, p records.Push, b []byte) error {
	p.Manifest.Pushed, p.Quotas = r.now(), r.opts.Quotas
	r.content.RLock()
	defer r.content.RUnlock()
	if err := r.opts.Store.Put(ctx, p.Manifest.Digest, b); err != nil {
		return err
	}
	return r.opts.Records.PutLocalManifest(ctx, p)
}

// quota is nil if the repository may grow by more bytes.
func (r *Registry) quota(ctx context.Context, name string, more int64) error {
	for prefix, most := range r.opts.Quotas {
		if !strings.HasPrefix(name, prefix) {
			continue
		}
		used, err := r.opts.Records.LocalBytes(ctx, prefix)
		if err != nil {
			return err
		}
		if used+more > most || more == 0 && used >= most {
			return &records.QuotaError{Prefix: prefix, Used: used, More: more, Most: most}
		}
	}
	return nil
}
