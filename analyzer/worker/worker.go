package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"runtime"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	godigest "github.com/opencontainers/go-digest"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/analyzer/layer"
)

// Options say how to scan in processes.
type Options struct {
	// Command is a program that calls Serve with its stdin and stdout, and its
	// arguments. Its first element may be empty: this program.
	Command []string
	// Layer are the limits of one scan. Its TempDir is where each process gets a
	// directory of its own.
	Layer layer.Options
	// Idle is how many processes are kept for the next layer. Default: the number
	// of processors. How many run at a time is the callers' choice.
	Idle int
	// Memory is the size of a process's heap, in bytes, that the garbage collector
	// aims at; with 512 MiB more, the kernel refuses. Default 1 GiB.
	Memory int64
	// Stall is how long a process may take without reading on, or for its answer
	// once it has read all. Default 5 minutes.
	Stall time.Duration
	// Scans is how many layers a process scans before a new one takes its place.
	// Default 200.
	Scans int
	Log   *zap.Logger
}

// dirPrefix begins the names of the processes' directories.
const dirPrefix = "sluice-worker-"

// keepResident is how large an idle process may be, in bytes, to be kept.
const keepResident = 256 << 20

func (o Options) withDefaults() (Options, error) {
	if o.Idle <= 0 {
		o.Idle = runtime.GOMAXPROCS(0)
	}
	if o.Memory <= 0 {
		o.Memory = 1 << 30
	}
	if o.Stall <= 0 {
		o.Stall = 5 * time.Minute
	}
	if o.Scans <= 0 {
		o.Scans = 200
	}
	if o.Layer.TempDir == "" {
		o.Layer.TempDir = os.TempDir()
	}
	if len(o.Command) == 0 || o.Command[0] == "" {
		self, err := executable()
		if err != nil {
			return o, err
		}
		o.Command = append([]string{self}, o.Command[min(1, len(o.Command)):]...)
	}
	return o, nil
}

// Scanner is an analyzer.LayerScanner whose scans run in processes of their own.
// It is safe for concurrent use.
type Scanner struct {
	opts     Options
	limits   layer.Options // with their defaults
	revision string
	starts   chan func()
	quit     chan struct{} // closed by Close

	mu         sync.Mutex
	namespaces bool  // may be had
	ring       bool  // may be had; else the pipe does
	ready      ready // of the last process
	idle       []*process
	closed     bool
	running    sync.WaitGroup // starter
}

var _ analyzer.LayerScanner = (*Scanner)(nil)

// New returns a Scanner, with one process ready. The error says why processes
// cannot be had on this machine.
func New(opts Options) (*Scanner, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("analysis process: %w", err)
	}
	// The limits and the revision are those of a scanner here.
	own, err := layer.New(opts.Layer)
	if err != nil {
		return nil, err
	}
	s := &Scanner{opts: opts, limits: own.Options(), revision: own.Revision(), starts: make(chan func()), quit: make(chan struct{}), namespaces: true, ring: true}
	sweep(opts.Layer.TempDir)
	s.running.Go(s.starter)
	p, err := s.start()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("analysis process: %w", err), s.Close())
	}
	s.idle = append(s.idle, p)
	fields := []zap.Field{zap.Strings("confinement", p.ready.Confinement)}
	if len(p.ready.Degraded) > 0 {
		fields = append(fields, zap.Strings("degraded", p.ready.Degraded))
	}
	opts.Log.Info("layers are analysed in processes of their own", fields...)
	return s, nil
}

// Confinement says what holds the processes, and what of it is not to be had on
// this machine and why, as of the last one that was started. It is for people.
func (s *Scanner) Confinement() (held, missing []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ready.Confinement, s.ready.Degraded
}

// Revision is that of the layer.Scanner with the same limits: the results are
// the same, but for what a process could not finish.
func (s *Scanner) Revision() string { return s.revision }

// Close ends the idle processes, and those that scan when they are done.
func (s *Scanner) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	idle := s.idle
	s.idle = nil
	close(s.quit)
	s.mu.Unlock()
	for _, p := range idle {
		s.retire(p)
	}
	s.running.Wait()
	return nil
}

// starter starts the processes, on one thread that lives as long as the Scanner:
// the kernel kills a process when the thread that has started it ends
// (PR_SET_PDEATHSIG(2const)).
func (s *Scanner) starter() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for {
		select {
		case start := <-s.starts:
			start()
		case <-s.quit:
			return
		}
	}
}

// onThread runs f in starter.
func (s *Scanner) onThread(f func() error) error {
	done := make(chan error, 1)
	select {
	case s.starts <- func() { done <- f() }:
		return <-done
	case <-s.quit:
		return errClosed
	}
}

// start starts a process, without namespaces and ring where they are not to be had.
func (s *Scanner) start() (p *process, err error) {
	s.mu.Lock()
	namespaces, ring := s.namespaces, s.ring
	s.mu.Unlock()
	for _, with := range []struct{ namespaces, ring bool }{{true, true}, {true, false}, {false, true}, {false, false}} {
		if with.namespaces && !namespaces || with.ring && !ring {
			continue
		}
		if p, err = s.startWith(with.namespaces, with.ring); err == nil {
			s.mu.Lock()
			s.namespaces, s.ring, s.ready = with.namespaces, with.ring, p.ready
			s.mu.Unlock()
			return p, nil
		}
	}
	return nil, err
}

func (s *Scanner) startWith(namespaces, ring bool) (*process, error) {
	dir, err := os.MkdirTemp(s.opts.Layer.TempDir, dirPrefix)
	if err != nil {
		return nil, err
	}
	lock, err := keep(dir)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	set := &setup{Layer: s.limits, Memory: s.opts.Memory, Files: s.limits.MaxFile + s.limits.MaxFile/4}
	set.Layer.TempDir, set.Layer.Extract.TempDir = dir, dir
	p, err := start(s.opts.Command, set, dir, namespaces, ring, s.onThread)
	if err == nil && p.ready.Revision != s.revision {
		p.stop()
		err = fmt.Errorf("it is another build: its revision is %q, not %q", p.ready.Revision, s.revision)
	}
	if err != nil {
		_ = lock.Close()
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	p.lock = lock
	return p, nil
}

var errClosed = errors.New("the scanner is closed")

// Scan reads blob to its end and returns what a process found in it. A process
// that fails gives a Layer that is Lost. Cancelling ctx kills the process at
// once; Scan returns when a pending blob.Read has.
func (s *Scanner) Scan(ctx context.Context, r io.Reader) (*analyzer.Layer, error) {
	p, err := s.take()
	if err != nil {
		return nil, &fs.PathError{Op: "start", Path: "analysis process", Err: err}
	}
	b := newBlob(r)
	a, err := p.scan(ctx, b, s.opts.Stall, s.maxAnswer())
	var lost *lostError
	if err == nil {
		if verr := s.validate(a, b); verr != nil {
			err = &lostError{"the analysis process gave no valid answer: " + verr.Error()}
		}
	}
	switch {
	case errors.As(err, &lost):
		s.retire(p)
		s.opts.Log.Warn("analysis process lost", zap.String("reason", lost.reason), zap.Stringer("digest", b.digest), zap.Int64("bytes", b.size))
		return &analyzer.Layer{
			Digest: b.digest, Size: b.size, Lost: true,
			Incomplete: []analyzer.Incomplete{{Layer: b.digest, Reason: lost.reason}},
		}, nil
	case err != nil:
		s.retire(p)
		return nil, err
	}
	s.put(p)
	switch {
	case a.Local:
		return nil, &fs.PathError{Op: "scan", Path: "analysis process", Err: errors.New(a.Error)}
	case a.Error != "":
		return nil, errors.New(a.Error)
	}
	return a.Layer, nil
}

// maxAnswer is the size of the largest answer that is read, in bytes: the paths
// as JSON, and as much for all else.
func (s *Scanner) maxAnswer() int64 { return 2*s.limits.MaxPathBytes + 32<<20 }

// validate compares what an answer says with what is known here. The digest and
// the size are put in; the rest is the process's word, in its right form.
func (s *Scanner) validate(a *answer, b *blob) error {
	l := a.Layer
	if (l == nil) == (a.Error == "") {
		return errors.New("neither a layer nor an error")
	}
	if l == nil {
		return nil
	}
	l.Digest, l.Size = b.digest, b.size
	switch {
	case l.DiffID == "" && len(l.Incomplete) == 0:
		return errors.New("no diffID, and nothing incomplete")
	case l.DiffID != "" && (l.DiffID.Validate() != nil || l.DiffID.Algorithm() != godigest.SHA256):
		return fmt.Errorf("a diffID of %.100q", l.DiffID)
	case l.Uncompressed < 0 || l.Uncompressed > s.limits.MaxUncompressed:
		return fmt.Errorf("%d uncompressed bytes", l.Uncompressed)
	case len(l.Paths) > s.limits.MaxEntries || len(l.Whiteouts) > s.limits.MaxEntries || len(l.Opaque) > s.limits.MaxEntries:
		return errors.New("more paths than entries may be")
	}
	for _, paths := range [][]string{l.Paths, l.Whiteouts, l.Opaque, l.Setuid} {
		for _, p := range paths {
			p = strings.TrimSuffix(p, "/")
			if p == "" || p[0] == '/' || path.Clean(p) != p || p == ".." || strings.HasPrefix(p, "../") {
				return fmt.Errorf("a path of %.100q", p)
			}
		}
	}
	return nil
}

// take returns an idle process, or a new one.
func (s *Scanner) take() (*process, error) {
	for {
		s.mu.Lock()
		n := len(s.idle)
		if n == 0 {
			s.mu.Unlock()
			return s.start()
		}
		p := s.idle[n-1]
		s.idle = s.idle[:n-1]
		s.mu.Unlock()
		select {
		case <-p.done: // killed while nobody used it
			s.retire(p)
		default:
			return p, nil
		}
	}
}

// put keeps a process for the next scan, if it is fit for it.
func (s *Scanner) put(p *process) {
	fit := p.scans < s.opts.Scans && p.resident() <= keepResident
	s.mu.Lock()
	keep := fit && !s.closed && len(s.idle) < s.opts.Idle
	if keep {
		s.idle = append(s.idle, p)
	}
	s.mu.Unlock()
	if !keep {
		s.retire(p)
	}
}

// retire ends a process and removes what it left.
func (s *Scanner) retire(p *process) {
	p.stop()
	err := os.RemoveAll(p.dir)
	_ = p.lock.Close()
	if err != nil {
		s.opts.Log.Warn("directory of an analysis process not removed", zap.Error(err))
	}
}
