package httpx

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

// TestWaitingClients: a file that waits for its client needs none of the 32 KiB
// that net/http would hold, and arrives whole in the end.
func TestWaitingClients(t *testing.T) {
	past, through := waiting(t, Files), waiting(t, func(l net.Listener) net.Listener { return l })
	if past+24<<10 > through {
		t.Errorf("%d bytes for each waiting client, through net/http %d", past, through)
	}
}

// waiting is how many bytes a client costs that has read the beginning of a file
// and now waits.
func waiting(t *testing.T, wrap func(net.Listener) net.Listener) int64 {
	t.Helper()
	const clients, size, first = 100, 64 << 20, 1 << 20
	name := sparse(t, size)
	srv := serveFile(t, name, wrap)
	before := inUse()
	var all []net.Conn
	for range clients {
		c := dial(t, srv.Listener.Addr())
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	buf := make([]byte, first)
	for _, c := range all { // the kernel's buffers are full behind it
		if _, err := io.ReadFull(c, buf); err != nil {
			t.Fatal(err)
		}
	}
	each := (inUse() - before) / clients
	n, err := io.Copy(io.Discard, all[0])
	if n += first; err != nil || n < size {
		t.Errorf("%d bytes of %d arrived: %v", n, size, err)
	}
	for _, c := range all {
		_ = c.Close()
	}
	srv.Close()
	return each
}

// inUse is the size of heap and stacks without what nobody needs.
func inUse() int64 {
	var m runtime.MemStats
	runtime.GC() // twice, for what pools keep
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// sparse is a file of zeros.
func sparse(t *testing.T, size int64) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "zeros")
	if err := errors.Join(os.WriteFile(name, nil, 0o600), os.Truncate(name, size)); err != nil {
		t.Fatal(err)
	}
	return name
}

func dial(t *testing.T, a net.Addr) net.Conn {
	t.Helper()
	var d net.Dialer
	c, err := d.DialContext(t.Context(), a.Network(), a.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// filePair is a connection of Files and its other end.
func filePair(t *testing.T) (*fileConn, net.Conn) {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	client := dial(t, l.Addr())
	c, err := Files(l).Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	fc, ok := c.(*fileConn)
	if !ok {
		t.Fatalf("a connection of type %T", c)
	}
	return fc, client
}

// TestSendKeepsDeadlines: a client that takes nothing is given up, and the
// deadline may move with each step.
func TestSendKeepsDeadlines(t *testing.T) {
	f, err := os.Open(sparse(t, 64<<20))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	fc, _ := filePair(t)
	const step = 64 << 10
	steps := int64(0)
	n, err := fc.send(f, 64<<20, step, func() {
		steps++
		_ = fc.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	})
	if !errors.Is(err, os.ErrDeadlineExceeded) || n == 0 || n == 64<<20 {
		t.Errorf("%d bytes, %v", n, err)
	}
	if want := n/step + 1; steps != want {
		t.Errorf("%d steps of %d bytes announced, want %d", steps, step, want)
	}
}

// TestSendOfWhatCannotBeSent leaves it to net/http.
func TestSendOfWhatCannotBeSent(t *testing.T) {
	r, w, err := os.Pipe() // sendfile(2) wants what can be mapped
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = errors.Join(r.Close(), w.Close()) }()
	fc, client := filePair(t)
	if n, err := fc.send(r, 1<<20, 1<<20, func() {}); n != 0 || err != nil {
		t.Errorf("%d bytes, %v, want none and no error", n, err)
	}
	_ = fc.Close()
	if b, err := io.ReadAll(client); len(b) > 0 || err != nil {
		t.Errorf("%q, %v", b, err)
	}
}
