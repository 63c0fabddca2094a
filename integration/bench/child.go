//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// childArgument makes the program a client: it reads an order from stdin and
// writes an outcome to stdout, both JSON.
const childArgument = "-child"

// order is what a child does: load, if Method is set, else pulls.
type order struct {
	Address string

	// Load: requests for one path over some connections, for a time.
	Method, Path string
	Connections  int
	Turn         time.Duration

	// Pulls: Clients at once, each HEAD by tag, GET by digest, and then the
	// config and the layers over Parallel connections.
	Repository string
	Clients    int
	Parallel   int
	VerifyAll  bool // compare the digests of all clients, not of the first one only
}

// outcome is what a child measured.
type outcome struct {
	Requests int64
	Bytes    int64         // of bodies
	Elapsed  time.Duration // of all
	Manifest time.Duration // until the first client had the manifest
}

func child(ctx context.Context, in io.Reader, out io.Writer) error {
	var o order
	if err := json.NewDecoder(in).Decode(&o); err != nil {
		return fmt.Errorf("order: %w", err)
	}
	makeRoom()
	do := pulls
	if o.Method != "" {
		do = load
	}
	done, err := do(ctx, o)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(done)
}

// makeRoom has the kernel make room for many connections. It would do so when
// there are many, while all of them wait for an RCU grace period.
func makeRoom() {
	if fd, err := unix.FcntlInt(os.Stdin.Fd(), unix.F_DUPFD_CLOEXEC, 4095); err == nil { // else it is only slower
		_ = unix.Close(fd)
	}
}

// order has a child process do o.
func (l *lab) order(ctx context.Context, o order) (outcome, error) {
	in, err := json.Marshal(o)
	if err != nil {
		return outcome{}, err
	}
	out, err := pipe(exec.CommandContext(ctx, l.self, childArgument), in)
	if err != nil {
		return outcome{}, fmt.Errorf("client of %s: %w", o.Address, err)
	}
	var done outcome
	return done, json.Unmarshal(out, &done)
}

// pipe runs cmd with in as its input and returns its output.
func pipe(cmd *exec.Cmd, in []byte) ([]byte, error) {
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = os.Stderr
	go func() {
		_, _ = stdin.Write(in) // a child that does not read it says so itself
		_ = stdin.Close()
	}()
	return cmd.Output()
}

// load asks for one path over and over.
func load(ctx context.Context, o order) (outcome, error) {
	req := request(o.Address, o.Method, o.Path)
	var mu sync.Mutex
	var sum outcome
	start := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	for range o.Connections {
		g.Go(func() error {
			w, err := dial(ctx, o.Address, toDrop)
			if err != nil {
				return err
			}
			defer w.close()
			var n, bytes int64
			for time.Since(start) < o.Turn && ctx.Err() == nil {
				r, err := w.ask(req)
				if err != nil {
					return err
				}
				n++
				if o.Method == "HEAD" {
					continue
				}
				if err := w.discard(r); err != nil {
					return err
				}
				bytes += r.length
			}
			mu.Lock()
			defer mu.Unlock()
			sum.Requests += n
			sum.Bytes += bytes
			return nil
		})
	}
	err := g.Wait()
	sum.Elapsed = time.Since(start)
	return sum, err
}
