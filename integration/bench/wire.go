//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"

	godigest "github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// wire is one HTTP/1.1 connection with keep-alive. It does the least work that
// a client can, so that on few cores the load takes little from the server.
type wire struct {
	address string
	conn    *net.TCPConn
	in      *bufio.Reader
}

// scratch is what recv wants to see when it discards: nobody writes there.
var scratch [256 << 10]byte

// How much a wire reads at once: little when bodies are dropped, so that they are
// not copied with the header before.
const (
	toDrop   = 4 << 10
	toVerify = 64 << 10
)

// reply is the head of an answer; length bytes of body follow unless it answers HEAD.
type reply struct {
	status int
	length int64
	digest godigest.Digest // Docker-Content-Digest
}

func dial(ctx context.Context, address string, buffer int) (*wire, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return nil, fmt.Errorf("dial %s: %T is no TCP connection", address, c)
	}
	return &wire{address: address, conn: tcp, in: bufio.NewReaderSize(tcp, buffer)}, nil
}

func (w *wire) close() { _ = w.conn.Close() }

// accept are the media types that clients name.
const accept = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, " +
	"application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json, */*"

// request is the bytes of a request.
func request(address, method, path string) []byte {
	return []byte(method + " " + path + " HTTP/1.1\r\nHost: " + address + "\r\nUser-Agent: sluice-bench\r\nAccept: " + accept + "\r\n\r\n")
}

// ask sends a request and reads the head of the answer. A status other than 200
// is an error, with the body in it.
func (w *wire) ask(req []byte) (reply, error) {
	if _, err := w.conn.Write(req); err != nil {
		return reply{}, err
	}
	r := reply{length: -1}
	line, err := w.in.ReadString('\n')
	if err != nil {
		return r, err
	}
	fields := strings.Fields(line)
	if len(fields) < 2 {
		return r, fmt.Errorf("%q is no status line", line)
	}
	if r.status, err = strconv.Atoi(fields[1]); err != nil {
		return r, err
	}
	for {
		b, err := w.in.ReadSlice('\n')
		if err != nil {
			return r, err
		}
		if len(b) <= 2 {
			break
		}
		if err := r.header(b); err != nil {
			return r, err
		}
	}
	if r.status != http.StatusOK {
		var text []byte
		if !bytes.HasPrefix(req, []byte(http.MethodHead)) && r.length > 0 {
			text, _ = io.ReadAll(io.LimitReader(w.in, min(r.length, 1<<10)))
		}
		what, _, _ := strings.Cut(string(req), " HTTP/1.1")
		return r, fmt.Errorf("%s: status %d %s", what, r.status, text)
	}
	if r.length < 0 {
		return r, errors.New("an answer without Content-Length")
	}
	return r, nil
}

// header notes the headers that matter here.
func (r *reply) header(line []byte) error {
	name, value, ok := bytes.Cut(line, []byte(":"))
	switch {
	case !ok:
		return fmt.Errorf("%q is no header", line)
	case bytes.EqualFold(name, []byte("Content-Length")):
		n, err := strconv.ParseInt(string(bytes.TrimSpace(value)), 10, 64)
		if err != nil {
			return err
		}
		r.length = n
	case bytes.EqualFold(name, []byte("Docker-Content-Digest")):
		r.digest = godigest.Digest(bytes.TrimSpace(value))
	}
	return nil
}

// verify reads the body and compares it with d.
func (w *wire) verify(r reply, d godigest.Digest) error {
	h := d.Algorithm().Hash()
	if _, err := io.CopyN(h, w.in, r.length); err != nil {
		return err
	}
	if got := godigest.NewDigest(d.Algorithm(), h); got != d {
		return fmt.Errorf("body of %s has the digest %s", d, got)
	}
	return nil
}

// discard reads the body without looking at it: what is not buffered yet is
// dropped by the kernel (tcp(7), MSG_TRUNC) and never copied.
func (w *wire) discard(r reply) error {
	held := min(r.length, int64(w.in.Buffered()))
	if _, err := w.in.Discard(int(held)); err != nil {
		return err
	}
	left := r.length - held
	if left == 0 {
		return nil
	}
	raw, err := w.conn.SyscallConn()
	if err != nil {
		return err
	}
	for left > 0 {
		var n int
		var rerr error
		err := raw.Read(func(fd uintptr) bool {
			n, _, rerr = unix.Recvfrom(int(fd), scratch[:min(left, int64(len(scratch)))], unix.MSG_TRUNC)
			return !errors.Is(rerr, syscall.EAGAIN)
		})
		switch {
		case err != nil:
			return err
		case rerr != nil:
			return os.NewSyscallError("recv", rerr)
		case n == 0:
			return io.ErrUnexpectedEOF
		}
		left -= int64(n)
	}
	return nil
}
