package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/analyzer/layer"
)

// The test binary is the process as well, and a parent that can be killed.
const (
	asWorker = "sluice-test-worker"
	asParent = "sluice-test-parent"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case asWorker:
			if err := serve(os.Stdin, os.Stdout, newTrap); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			os.Exit(0)
		case asParent:
			parent()
		}
	}
	os.Exit(m.Run())
}

// trap is a scanner that does, for a blob that begins with one of the words
// below, what no scanner should. It exists in the test binary only.
type trap struct{ analyzer.LayerScanner }

func newTrap(o layer.Options) (analyzer.LayerScanner, error) {
	s, err := layer.New(o)
	return trap{s}, err
}

var hoard [][]byte

func (t trap) Scan(ctx context.Context, blob io.Reader) (*analyzer.Layer, error) {
	head := make([]byte, 16)
	n, err := io.ReadFull(blob, head)
	if err != nil {
		return nil, err
	}
	head = head[:n]
	word, _, _ := strings.Cut(string(head), " ")
	switch word {
	case "crash":
		go func() { panic("in some goroutine") }()
		select {}
	case "segfault":
		_ = syscall.Kill(os.Getpid(), syscall.SIGSEGV) // denied, where the filter is
		os.Exit(139)
	case "hoard":
		for {
			b := make([]byte, 16<<20)
			for i := range b {
				b[i] = byte(i)
			}
			hoard = append(hoard, b)
		}
	case "loop":
		for i := 0; ; i++ {
			head[i%4]++
		}
	case "nonsense":
		fmt.Print("\x00\x00\x00\x05hello")
		select {}
	case "huge":
		fmt.Print("\xff\xff\xff\xff")
		select {}
	case "overpay":
		fmt.Print(strings.Repeat("\x00\x00\x00\x00", 10*ringFrames))
		select {}
	case "early":
		fmt.Print("\x00\x00\x00\x0d{\"error\":\"x\"}")
		select {}
	case "path":
		return t.say(blob, func(l *analyzer.Layer) { l.Paths = []string{"../../etc/passwd"} })
	case "digest":
		return t.say(blob, func(l *analyzer.Layer) { l.Digest, l.Size = "sha256:"+analyzerZeros, 1 })
	case "clean":
		return t.say(blob, func(l *analyzer.Layer) { l.Incomplete = nil })
	case "probe":
		return t.say(blob, func(l *analyzer.Layer) {
			l.Incomplete = nil
			for _, p := range probes {
				l.Incomplete = append(l.Incomplete, analyzer.Incomplete{Path: p.name, Reason: p.try()})
			}
		})
	}
	proof, ok := blob.(analyzer.Proven)
	if !ok {
		return nil, errors.New("the blob's digest is not proven")
	}
	return t.LayerScanner.Scan(ctx, resumed{io.MultiReader(bytes.NewReader(head), blob), proof})
}

const analyzerZeros = "0000000000000000000000000000000000000000000000000000000000000000"

type resumed struct {
	io.Reader
	analyzer.Proven
}

func (trap) say(blob io.Reader, change func(*analyzer.Layer)) (*analyzer.Layer, error) {
	if _, err := io.Copy(io.Discard, blob); err != nil {
		return nil, err
	}
	l := &analyzer.Layer{Incomplete: []analyzer.Incomplete{{Reason: "a trap"}}}
	change(l)
	return l, nil
}

// probes try to reach out of the process, and tell what came of it.
var probes = []struct {
	name string
	try  func() string
}{
	{"environment", func() string { return fmt.Sprint(os.Environ()) }},
	{"dial", func() string {
		c, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", "127.0.0.1:1")
		return outcome(c, err)
	}},
	{"listen", func() string {
		l, err := net.Listen("unix", "socket")
		return outcome(l, err)
	}},
	{"execute", func() string { return outcome(nil, syscall.Exec("/bin/true", nil, nil)) }},
	{"passwords", func() string {
		f, err := os.Open("/etc/passwd")
		return outcome(f, err)
	}},
	{"signal", func() string { return outcome(nil, syscall.Kill(os.Getppid(), 0)) }},
	{"temporary file", func() string {
		f, err := os.CreateTemp("/", "")
		return outcome(f, err)
	}},
}

func outcome(c io.Closer, err error) string {
	if errors.Is(err, syscall.EPERM) {
		return "not permitted"
	}
	if errors.Is(err, os.ErrNotExist) {
		return "not there"
	}
	if err != nil {
		return err.Error()
	}
	if c != nil {
		_ = c.Close()
	}
	return "done"
}
