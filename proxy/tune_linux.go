package proxy

import (
	"crypto/tls"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A client nearby gets a small send buffer: what was read from the page cache
// then leaves before it has left the processor's cache, which halves the CPU of
// a large blob (docs/benchmarks.md). Two times 256 KiB, as the kernel counts, at
// a round trip of 1 ms are still 500 MB/s on a connection. Clients further away
// keep the kernel's own sizing.
const (
	nearby     = time.Millisecond
	sendBuffer = 256 << 10
)

// tune fits a new connection's send buffer to its round-trip time, which the
// handshake has shown (tcp(7), TCP_INFO).
func tune(c net.Conn) {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	tc, ok := c.(interface {
		syscall.Conn
		SetWriteBuffer(bytes int) error
	})
	if !ok {
		return
	}
	raw, err := tc.SyscallConn()
	if err != nil {
		return
	}
	var info *unix.TCPInfo
	if cerr := raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) }); cerr != nil || err != nil {
		return
	}
	if time.Duration(info.Rtt)*time.Microsecond < nearby {
		_ = tc.SetWriteBuffer(sendBuffer) // without it the transfer only costs more
	}
}

// descriptors is for how many descriptors there is room from the start.
const descriptors = 4096

// makeRoom has the kernel make room for descriptors. It doubles its table when
// that is full, which in a program with threads takes an RCU grace period: in
// the middle of a crowd, all accepts and opens would wait 10 to 20 ms, several times.
func makeRoom() {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Cur < 1 {
		return
	}
	// Any descriptor will do, and one that is not there only means no gain.
	if fd, err := unix.FcntlInt(os.Stderr.Fd(), unix.F_DUPFD_CLOEXEC, int(min(limit.Cur, descriptors))-1); err == nil {
		_ = unix.Close(fd)
	}
}
