package worker

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	godigest "github.com/opencontainers/go-digest"

	"github.com/sluiceproxy/sluice/analyzer"
)

// startTimeout is how long a process may take to say that it is ready.
const startTimeout = 30 * time.Second

// firstExtraFile is the descriptor that the first of exec.Cmd.ExtraFiles has.
const firstExtraFile = 3

// process is one worker. It is used by one scan at a time.
type process struct {
	cmd   *exec.Cmd
	in    *os.File // its stdin
	out   *os.File // its stdout
	log   tail     // of its stderr
	dir   string   // where its temporary files are; removed with it
	lock  *os.File // that holds dir
	ready ready
	scans int
	ring  []byte        // where the process reads frames; nil = over in
	buf   []byte        // room for one frame, where there is no ring
	done  chan struct{} // closed when it has ended and its log is complete
}

// start runs command as a process that is ready for scans. run is where the
// process is started.
func start(command []string, s *setup, dir string, namespaces, shared bool, run func(func() error) error) (_ *process, err error) {
	p := &process{dir: dir, done: make(chan struct{})}
	childIn, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	out, childOut, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, childIn.Close(), in.Close())
	}
	p.in, p.out = in, out
	p.cmd = exec.Command(command[0], command[1:]...) //nolint:noctx // it outlives the scan that starts it
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = childIn, childOut, &p.log
	p.cmd.Args[0] = os.Args[0]
	p.cmd.Env = []string{}
	p.cmd.Dir = dir
	p.cmd.SysProcAttr = attributes(namespaces)
	p.cmd.WaitDelay = time.Second
	var memory *os.File
	if shared {
		memory, p.ring, _ = newRing() // nil where there is none
	}
	if p.ring != nil {
		p.cmd.ExtraFiles = []*os.File{memory}
	} else {
		p.buf = make([]byte, frameSize)
		widen(childIn)
	}
	err = run(p.cmd.Start)
	childIn.Close() // so that its end is the end of the pipes
	childOut.Close()
	if p.ring != nil {
		_ = memory.Close() // the mapping stays
	}
	if err != nil {
		freeRing(p.ring)
		return nil, errors.Join(err, in.Close(), out.Close())
	}
	go func() {
		_ = p.cmd.Wait() // what there is to know is in cmd.ProcessState
		close(p.done)
	}()
	defer func() {
		if err != nil {
			p.stop()
			err = fmt.Errorf("%w%s", err, p.log.said())
		}
	}()
	deadline := time.Now().Add(startTimeout)
	if err := errors.Join(p.in.SetDeadline(deadline), p.out.SetDeadline(deadline)); err != nil {
		return nil, err
	}
	s.Ring = 0
	if p.ring != nil {
		s.Ring = firstExtraFile
	}
	if err := writeMessage(p.in, s); err != nil {
		return nil, err
	}
	if err := readMessage(p.out, maxNote, &p.ready); err != nil {
		return nil, fmt.Errorf("its first word: %w", err)
	}
	if p.ready.Error != "" {
		return nil, errors.New(p.ready.Error)
	}
	return p, nil
}

// kill ends the process; it is safe to call at any time.
func (p *process) kill() { _ = p.cmd.Process.Kill() }

// stop ends the process and what belongs to it.
func (p *process) stop() {
	p.kill()
	<-p.done
	_ = p.in.Close()
	_ = p.out.Close()
	freeRing(p.ring)
	p.ring = nil
}

// lostError says that the process failed, not the blob.
type lostError struct{ reason string }

func (e *lostError) Error() string { return e.reason }

// scan sends blob and returns the answer. The error is a *lostError, of the blob's
// reader, or of ctx; the process is of no use after any of them. After a
// *lostError the blob was read to its end.
func (p *process) scan(ctx context.Context, b *blob, stall time.Duration, limit int64) (*answer, error) {
	p.scans++
	spared := context.AfterFunc(ctx, p.kill)
	if err := p.out.SetDeadline(time.Time{}); err != nil {
		p.kill()
	}
	r := &reply{done: make(chan struct{}), free: make(chan struct{}, ringFrames)}
	go r.read(p, limit)
	sent, err := p.send(b, stall, r)
	if err != nil { // of the blob
		p.kill()
	} else if sent != nil {
		p.kill() // so that there is an end to wait for
	} else if derr := p.out.SetReadDeadline(time.Now().Add(stall)); derr != nil {
		p.kill()
	}
	<-r.done
	switch {
	case !spared():
		return nil, ctx.Err()
	case err != nil:
		return nil, err
	case sent == nil && r.err == nil:
		return &r.a, nil
	case sent == nil || r.err != nil && !ends(r.err):
		sent = r.err
	}
	return nil, &lostError{p.reason(sent, stall)}
}

// reply is what a process says in one scan.
type reply struct {
	free chan struct{} // one for each place in the ring that was given back
	done chan struct{} // closed when the following is complete
	a    answer
	err  error
}

func (r *reply) read(p *process, limit int64) {
	defer close(r.done)
	for {
		n, err := readLength(p.out)
		if err == nil && n == 0 && p.ring != nil {
			select {
			case r.free <- struct{}{}:
				continue
			default:
				err = errors.New("it gives back more than it has")
			}
		}
		if err == nil {
			err = readBody(p.out, n, limit, &r.a)
		}
		if r.err = err; err != nil {
			p.kill() // whatever it says next has no meaning
		}
		return
	}
}

// ends reports whether err is that the process has closed its ends.
func ends(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.EPIPE)
}

// send gives the process the blob. The first error is the process's, after which
// the rest of the blob is only read; the second is the blob's.
func (p *process) send(b *blob, stall time.Duration, r *reply) (lost, err error) {
	write := func(bytes []byte) {
		if lost != nil {
			return
		}
		if lost = p.in.SetWriteDeadline(time.Now().Add(stall)); lost == nil {
			_, lost = p.in.Write(bytes)
		}
		if lost != nil {
			p.kill()
		}
	}
	var head [4]byte
	for frame := 0; ; frame++ {
		body := p.buf
		if p.ring != nil {
			body = p.ring[frame%ringFrames*frameSize:][:frameSize]
			if frame >= ringFrames && lost == nil {
				if lost = r.place(stall); lost != nil {
					p.kill()
				}
			}
		}
		n, err := b.fill(body)
		if n > 0 {
			binary.BigEndian.PutUint32(head[:], uint32(n))
			write(head[:])
			if p.ring == nil {
				write(body[:n])
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return lost, err
		}
	}
	if err := b.prove(); err != nil {
		return lost, err
	}
	var last bytes.Buffer
	last.Write([]byte{0, 0, 0, 0})
	if err := writeMessage(&last, end{Digest: b.digest, Size: b.size}); err != nil {
		return lost, err
	}
	write(last.Bytes())
	return lost, nil
}

// place waits until the process has given back a place of the ring.
func (r *reply) place(stall time.Duration) error {
	select {
	case <-r.free:
		return nil
	default:
	}
	t := time.NewTimer(stall)
	defer t.Stop()
	select {
	case <-r.free:
		return nil
	case <-r.done:
		if r.err == nil {
			return errors.New("an answer before the blob's end")
		}
		return r.err
	case <-t.C:
		return os.ErrDeadlineExceeded
	}
}

// reason says how the process failed, once it has been given up because of err.
func (p *process) reason(err error, stall time.Duration) string {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		p.kill()
		return fmt.Sprintf("the analysis process was killed: it made no progress for %s", stall)
	}
	if !ends(err) {
		p.kill()
		return "the analysis process gave no valid answer: " + err.Error()
	}
	// It has closed its ends, so it has ended or is about to.
	select {
	case <-p.done:
	case <-time.After(time.Second):
		p.kill()
		<-p.done
	}
	said := p.log.said()
	switch {
	case strings.Contains(said, "out of memory"), strings.Contains(said, "cannot allocate memory"):
		return "the analysis process was killed: out of memory"
	case p.cmd.ProcessState == nil:
		return "the analysis process crashed" + said
	case !p.cmd.ProcessState.Exited():
		return "the analysis process was killed: " + p.cmd.ProcessState.String() + said
	}
	return "the analysis process crashed: " + p.cmd.ProcessState.String() + said
}

// resident is the process's resident size in bytes; 0 where that is not known.
func (p *process) resident() int64 {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/statm") // proc_pid_statm(5)
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}

// blob is what is scanned, with its digest once it was read.
type blob struct {
	r      io.Reader
	hash   hash.Hash // nil where the digest is proven
	digest godigest.Digest
	size   int64
}

func newBlob(r io.Reader) *blob {
	b := &blob{r: r}
	if _, ok := r.(analyzer.Proven); !ok {
		b.hash = sha256.New()
	}
	return b
}

// fill reads until p is full or the blob ends, which is io.EOF.
func (b *blob) fill(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var more int
		more, err = b.r.Read(p[n:])
		n += more
	}
	b.size += int64(n)
	if b.hash != nil {
		_, _ = b.hash.Write(p[:n])
	}
	return n, err
}

// prove sets digest, at the end.
func (b *blob) prove() error {
	if b.hash != nil {
		b.digest = godigest.NewDigest(godigest.SHA256, b.hash)
		return nil
	}
	proof, ok := b.r.(analyzer.Proven)
	if !ok {
		return errors.New("no proof")
	}
	dgst, n, err := proof.Proof()
	if err == nil && n != b.size {
		err = fmt.Errorf("%d bytes were read, of %d with the digest %s", b.size, n, dgst)
	}
	b.digest = dgst
	return err
}

// tail keeps the first words that a process says on stderr, where the Go runtime
// tells why it ends.
type tail struct {
	mu sync.Mutex
	b  []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p[:min(len(p), 4<<10-len(t.b))]...)
	return len(p), nil
}

// said is the first line, for the end of a sentence.
func (t *tail) said() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	line, _, _ := strings.Cut(strings.TrimSpace(string(t.b)), "\n")
	if line == "" {
		return ""
	}
	return fmt.Sprintf(" (%.200q)", line)
}
