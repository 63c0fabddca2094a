package httpx

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// fileConn is a connection on which files can be sent past net/http, which would
// have 32 KiB in its hands for as long as the client takes to read.
type fileConn struct{ *net.TCPConn }

func newFileConn(c net.Conn) net.Conn {
	if tc, ok := c.(*net.TCPConn); ok {
		return &fileConn{tc}
	}
	return c
}

// gone stands for the n bytes of a body that send has sent, so that net/http
// counts them.
type gone struct{ n int64 }

func (*gone) Read([]byte) (int, error) {
	return 0, errors.New("net/http wants to read what was sent already")
}

// ReadFrom is what net/http gives the rest of a body to.
func (c *fileConn) ReadFrom(r io.Reader) (int64, error) {
	if g, ok := r.(*gone); ok {
		return g.n, nil
	}
	return c.TCPConn.ReadFrom(r)
}

// send sends up to n bytes of f from where it stands (sendfile(2)), and calls more
// before each step bytes. Fewer without an error means that f has ended, or that
// this way is not possible for f.
func (c *fileConn) send(f *os.File, n, step int64, more func()) (sent int64, err error) {
	out, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	in, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	var failed, waited error
	err = in.Control(func(src uintptr) {
		waited = out.Write(func(dst uintptr) (done bool) {
			for sent < n {
				if sent%step == 0 {
					more()
				}
				k, err := unix.Sendfile(int(dst), int(src), nil, int(min(n-sent, step-sent%step)))
				switch {
				case k > 0:
					sent += int64(k)
				case errors.Is(err, unix.EAGAIN):
					return false
				case errors.Is(err, unix.EINTR):
				case err == nil, errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EPERM):
					return true
				default:
					failed = fmt.Errorf("sendfile of %s: %w", f.Name(), err)
					return true
				}
			}
			return true
		})
	})
	return sent, errors.Join(err, waited, failed)
}
