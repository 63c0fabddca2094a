package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime/debug"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/analyzer/layer"
)

// collect is by how many percent the heap may grow between collections. Many
// processes run beside each other; half of the usual costs 1 % more CPU and saves
// 15 % of what a large layer takes.
const collect = 50

// Serve is the process: it confines itself, says that it is ready, and scans
// what comes over in until that ends. An error means that it cannot go on; the
// parent, which is the one to tell, sees that it ends.
func Serve(in io.Reader, out io.Writer) error {
	return serve(in, out, func(o layer.Options) (analyzer.LayerScanner, error) { return layer.New(o) })
}

func serve(in io.Reader, out io.Writer, newScanner func(layer.Options) (analyzer.LayerScanner, error)) error {
	var s setup
	if err := readMessage(in, maxNote, &s); err != nil {
		return fmt.Errorf("no setup from a parent on standard input: %w", err)
	}
	debug.SetMemoryLimit(s.Memory)
	debug.SetGCPercent(collect)
	debug.FreeOSMemory() // what the program's start has left
	// A panic in some parser must leave no core, and say little.
	debug.SetTraceback("single")
	var ring []byte
	if s.Ring > 0 {
		var err error
		if ring, err = attachRing(s.Ring); err != nil {
			return errors.Join(err, writeMessage(out, ready{Error: "its ring: " + err.Error()}))
		}
		defer freeRing(ring)
	}
	r := confine(&s)
	scanner, err := newScanner(s.Layer)
	if err == nil && r.Error == "" {
		r.Revision = scanner.Revision()
	} else if err != nil {
		r.Error = err.Error()
	}
	if err := writeMessage(out, r); err != nil || r.Error != "" {
		return errors.Join(err, errors.New(r.Error))
	}
	for {
		f := &frames{r: in, ring: ring, free: out}
		a := scan(scanner, f)
		// A scan that failed has not read all.
		if _, err := io.Copy(io.Discard, f); err != nil {
			return gone(err)
		}
		if err := writeMessage(out, a); err != nil {
			return gone(err)
		}
	}
}

// gone makes the end of the parent the end of the work.
func gone(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}

func scan(s analyzer.LayerScanner, f *frames) *answer {
	// The parent kills the process when nobody wants the result any more.
	l, err := s.Scan(context.Background(), f)
	if err == nil {
		return &answer{Layer: l}
	}
	var local *fs.PathError
	return &answer{Error: err.Error(), Local: errors.As(err, &local)}
}
