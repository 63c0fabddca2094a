package upload

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"
	"time"

	godigest "github.com/opencontainers/go-digest"
	"go.uber.org/zap"
)

// The errors that callers branch on.
var (
	ErrUnknown = errors.New("no such upload: it ended, it was idle for too long, or the server was restarted; start again")
	ErrRange   = errors.New("the chunk does not begin where the upload ends")
	ErrBusy    = errors.New("another request writes to this upload")
	ErrDigest  = errors.New("the bytes have another digest")
	ErrSize    = errors.New("the body is not as long as its header says")
	ErrLarge   = errors.New("the blob is larger than this registry takes")
	ErrTooMany = errors.New("too many uploads are under way")
)

// Spool is where the bytes go, as *store.Spool.
type Spool interface {
	io.Writer
	Commit(ctx context.Context, d godigest.Digest, size int64) error
	Abort() error
}

// Tap looks at a blob while it arrives. Its methods are called by one goroutine
// at a time. It cannot fail an upload.
type Tap interface {
	// Write gets the bytes in order; p is the caller's again after it returned.
	Write(p []byte)
	// Finish says that the blob is whole and has the digest d.
	Finish(ctx context.Context, d godigest.Digest)
	// Abort says that no more will come. After Finish it does nothing.
	Abort()
}

// Options of a Manager. NewSpool and Log are required.
type Options struct {
	NewSpool func() (Spool, error)
	NewTap   func() Tap    // nil = none; may return nil
	Idle     time.Duration // a session without a byte for so long ends. Default 1 hour
	PerOwner int           // sessions of one identity at a time. Default 128
	Sessions int           // of all. Default 4096
	MaxBytes int64         // of one blob; 0 = any
	Log      *zap.Logger
	Now      func() time.Time // nil = time.Now
}

// Manager holds the uploads under way. It is safe for concurrent use.
type Manager struct {
	opts Options

	mu sync.Mutex
	m  map[string]*session
}

// Key names a session: by its id, only together with the repository and the
// identity that it belongs to.
type Key struct{ Repository, Owner, ID string }

// session is an upload under way. All but the key is owned by whoever set busy.
type session struct {
	key   Key
	spool Spool
	tap   Tap
	hash  hash.Hash
	size  int64

	busy bool      // guarded by Manager.mu
	used time.Time // guarded by Manager.mu
}

// New returns a Manager without sessions.
func New(opts Options) *Manager {
	if opts.Idle <= 0 {
		opts.Idle = time.Hour
	}
	if opts.PerOwner <= 0 {
		opts.PerOwner = 128
	}
	if opts.Sessions <= 0 {
		opts.Sessions = 4096
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	return &Manager{opts: opts, m: map[string]*session{}}
}

// Start opens a session. The error is ErrTooMany, or that of the spool.
func (m *Manager) Start(repository, owner string) (Key, error) {
	m.Purge()
	k := Key{Repository: repository, Owner: owner, ID: rand.Text()}
	s := &session{key: k, hash: sha256.New(), busy: true}
	m.mu.Lock()
	owned := 0
	for _, o := range m.m {
		if o.key.Owner == owner {
			owned++
		}
	}
	if owned >= m.opts.PerOwner || len(m.m) >= m.opts.Sessions {
		m.mu.Unlock()
		return Key{}, fmt.Errorf("%w: %d by %s, %d in all", ErrTooMany, owned, owner, len(m.m))
	}
	m.m[k.ID] = s
	m.mu.Unlock()
	var err error
	if s.spool, err = m.opts.NewSpool(); err != nil {
		m.forget(s)
		return Key{}, fmt.Errorf("upload to %s: %w", repository, err)
	}
	if m.opts.NewTap != nil {
		s.tap = m.opts.NewTap()
	}
	m.release(s)
	return k, nil
}

// Size returns how many bytes the session has.
func (m *Manager) Size(k Key) (int64, error) {
	s, err := m.acquire(k)
	if err != nil {
		return 0, err
	}
	defer m.release(s)
	return s.size, nil
}

// Chunk is a piece of a blob as a request carries it.
type Chunk struct {
	Body io.Reader
	From int64 // where it belongs; -1 = at the end, wherever that is
	Size int64 // its length; -1 = unknown
}

// Append adds c and returns the new size. A body that breaks off leaves what
// came of it, and its error is returned: the client asks for the size and goes
// on. ErrRange changes nothing.
func (m *Manager) Append(ctx context.Context, k Key, c Chunk) (int64, error) {
	s, err := m.acquire(k)
	if err != nil {
		return 0, err
	}
	if err := m.append(ctx, s, c); err != nil {
		if errors.Is(err, ErrLarge) || errors.Is(err, errSpool) {
			m.end(s)
			return 0, err
		}
		m.release(s)
		return s.size, err
	}
	size := s.size
	m.release(s)
	return size, nil
}

// errSpool marks an error of the spool, after which it holds nobody knows what.
var errSpool = errors.New("the upload cannot be kept")

func (m *Manager) append(ctx context.Context, s *session, c Chunk) error {
	if c.From >= 0 && c.From != s.size {
		return fmt.Errorf("%w: it is for byte %d, the upload has %d", ErrRange, c.From, s.size)
	}
	buf := buffers.Get().(*[]byte) //nolint:errcheck,forcetypeassert // what New below makes
	defer buffers.Put(buf)
	var got int64
	for ctx.Err() == nil {
		n, err := c.Body.Read(*buf)
		got += int64(n)
		if m.opts.MaxBytes > 0 && s.size+int64(n) > m.opts.MaxBytes {
			return fmt.Errorf("%w: more than %d bytes", ErrLarge, m.opts.MaxBytes)
		}
		if n > 0 {
			p := (*buf)[:n]
			if _, err := s.spool.Write(p); err != nil {
				return fmt.Errorf("%w: %w", errSpool, err)
			}
			_, _ = s.hash.Write(p) // hashes do not fail
			s.size += int64(n)
			if s.tap != nil {
				s.tap.Write(p)
			}
		}
		switch {
		case errors.Is(err, io.EOF) && c.Size >= 0 && got != c.Size:
			return fmt.Errorf("%w: %d of %d bytes", ErrSize, got, c.Size)
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("upload to %s broke off at byte %d: %w", s.key.Repository, s.size, err)
		}
	}
	return context.Cause(ctx)
}

// buffers are what a body is read into.
var buffers = sync.Pool{New: func() any { b := make([]byte, 256<<10); return &b }}

// Finish adds c and ends the session: with the blob in the store if its digest
// is want, else with ErrDigest. After ErrRange or a body that broke off the
// session goes on.
func (m *Manager) Finish(ctx context.Context, k Key, c Chunk, want godigest.Digest) (size int64, err error) {
	s, err := m.acquire(k)
	if err != nil {
		return 0, err
	}
	if err := m.append(ctx, s, c); err != nil {
		if errors.Is(err, ErrLarge) || errors.Is(err, errSpool) {
			m.end(s)
		} else {
			m.release(s)
		}
		return 0, err
	}
	defer m.end(s)
	if got := godigest.NewDigest(godigest.SHA256, s.hash); got != want {
		return 0, fmt.Errorf("%w: they have %s, the request says %s", ErrDigest, got, want)
	}
	if err := s.spool.Commit(ctx, want, s.size); err != nil {
		return 0, fmt.Errorf("upload to %s: %w", k.Repository, err)
	}
	if s.tap != nil {
		s.tap.Finish(ctx, want)
	}
	return s.size, nil
}

// Cancel ends the session and drops its bytes.
func (m *Manager) Cancel(k Key) error {
	s, err := m.acquire(k)
	if err != nil {
		return err
	}
	m.end(s)
	return nil
}

// Purge ends sessions that were idle for too long.
func (m *Manager) Purge() {
	m.drop(func(s *session, now time.Time) bool { return now.Sub(s.used) >= m.opts.Idle })
}

// Close ends all sessions that no request writes to.
func (m *Manager) Close() { m.drop(func(*session, time.Time) bool { return true }) }

func (m *Manager) drop(which func(*session, time.Time) bool) {
	now := m.opts.Now()
	var ended []*session
	m.mu.Lock()
	for _, s := range m.m {
		if !s.busy && which(s, now) {
			s.busy = true
			ended = append(ended, s)
		}
	}
	m.mu.Unlock()
	for _, s := range ended {
		m.end(s)
	}
}

// acquire gives the session to the caller alone, who calls release or end.
func (m *Manager) acquire(k Key) (*session, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.m[k.ID]
	switch {
	case !ok || s.key != k:
		return nil, ErrUnknown
	case s.busy:
		return nil, ErrBusy
	}
	s.busy = true
	return s, nil
}

func (m *Manager) release(s *session) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s.busy, s.used = false, m.opts.Now()
}

func (m *Manager) forget(s *session) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.m, s.key.ID)
}

// end drops the session and what it holds. After a commit the spool is empty.
func (m *Manager) end(s *session) {
	m.forget(s)
	if s.tap != nil {
		s.tap.Abort()
	}
	if err := s.spool.Abort(); err != nil {
		m.opts.Log.Warn("upload's bytes not removed", zap.String("repository", s.key.Repository), zap.Error(err))
	}
}
