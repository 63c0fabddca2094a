package httpx

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"time"

	"go.uber.org/zap"
)

type logKey struct{}

// requestLog is what a request's logger is made of, when somebody wants it.
type requestLog struct {
	log        *zap.Logger
	id, client string
}

func (l *requestLog) fields() []zap.Field {
	return []zap.Field{zap.String("request_id", l.id), zap.String("client", l.client)}
}

// Log returns the request's logger, which carries its request id.
func Log(ctx context.Context) *zap.Logger {
	if l, ok := ctx.Value(logKey{}).(*requestLog); ok {
		return l.log.With(l.fields()...)
	}
	return zap.NewNop()
}

// Middleware gives each request an id and a logger, writes one access line for
// it, and turns a panic of the handler into a 500.
func Middleware(log *zap.Logger, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		id := r.Header.Get("X-Request-Id")
		if !plainID(id) {
			id = rand.Text()
		}
		w.Header().Set("X-Request-Id", id)
		boundBody(w, r)
		l := &requestLog{log: log, id: id, client: ClientIP(r)}
		rec := &recorder{ResponseWriter: w, r: r}
		rec.early()
		defer rec.hurry() // what is buffered leaves after the handler
		defer func() {
			switch p := recover(); p {
			case nil:
			case http.ErrAbortHandler: // the handler cuts the connection on purpose
				access(l, r, rec, start, true)
				panic(p)
			default:
				log.With(l.fields()...).Error("handler panicked", zap.Any("panic", p), zap.ByteString("stack", debug.Stack()))
				if rec.status == 0 {
					http.Error(rec, "internal error", http.StatusInternalServerError)
				}
			}
			access(l, r, rec, start, false)
		}()
		next.ServeHTTP(rec, r.WithContext(context.WithValue(r.Context(), logKey{}, l)))
	})
}

func access(l *requestLog, r *http.Request, rec *recorder, start time.Time, cut bool) {
	line := l.log.Check(zap.InfoLevel, "request")
	if line == nil {
		return
	}
	line.Write(append(l.fields(),
		zap.String("method", r.Method), zap.String("path", r.URL.RequestURI()), zap.Int("status", rec.status),
		zap.Int64("bytes", rec.bytes), zap.Duration("dur", time.Since(start)), zap.String("agent", r.UserAgent()), zap.Bool("cut", cut))...)
}

// plainID accepts request ids that are safe in a log and a header.
func plainID(id string) bool {
	if len(id) < 8 || len(id) > 64 {
		return false
	}
	for _, c := range []byte(id) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

type connKey struct{}

// Files makes l's connections such that large files leave them without memory of
// the program, when the server passes them on with [WithConn]. Below TLS it has
// no effect.
func Files(l net.Listener) net.Listener { return &files{l} }

type files struct{ net.Listener }

func (l *files) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return newFileConn(c), nil
}

// WithConn is for http.Server.ConnContext.
func WithConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// ClientIP is the address of the connection's other end. Headers that claim
// another one are not looked at.
func ClientIP(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// How slowly a client may read before it is cut: less than a chunk within the
// patience. One that takes nothing would hold a file and a goroutine for ever.
// The deadline is the connection's and stays when the request ends; the next
// request sets its own. Over HTTP/2 it is the stream's and ends that also while
// nothing is to be written, so there it stands only as long as something is.
const (
	chunk    = 1 << 20
	patience = 4 * time.Minute
)

// large is from what size on the rest of a file is sent past net/http. Less than
// that is in the socket before a client has to be waited for.
const large = 64 << 10

// recorder counts what was written, and bounds how long one write may take.
type recorder struct {
	http.ResponseWriter
	r        *http.Request
	status   int
	sized    bool // the header tells the body's size
	bytes    int64
	deadline time.Time // of the connection's writes
}

// hurry gives the next write its time. Setting a deadline costs more than
// looking at the clock, so half of the patience may be used up already.
func (w *recorder) hurry() {
	now := time.Now()
	if w.deadline.Sub(now) > patience/2 {
		return
	}
	w.deadline = now.Add(patience)
	_ = http.NewResponseController(w.ResponseWriter).SetWriteDeadline(w.deadline) // a writer without deadlines has no slow client
}

// early is hurry for what HTTP/1 may write already and HTTP/2 does not.
func (w *recorder) early() {
	if w.r.ProtoMajor < 2 {
		w.hurry()
	}
}

// rest is for when nothing is to be written until the next hurry.
func (w *recorder) rest() {
	if w.r.ProtoMajor < 2 || w.deadline.IsZero() {
		return
	}
	w.deadline = time.Time{}
	_ = http.NewResponseController(w.ResponseWriter).SetWriteDeadline(w.deadline)
}

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
		w.sized = w.Header().Get("Content-Length") != ""
	}
	w.early()
	w.ResponseWriter.WriteHeader(status)
}

// FlushError is what http.ResponseController flushes with.
func (w *recorder) FlushError() error {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	w.hurry()
	defer w.rest()
	return http.NewResponseController(w.ResponseWriter).Flush()
}

func (w *recorder) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	w.hurry()
	n, err := w.ResponseWriter.Write(b)
	w.rest()
	w.bytes += int64(n)
	return n, err
}

// ReadFrom hands a file to the connection itself, which sends it without
// copying it through the program.
func (w *recorder) ReadFrom(r io.Reader) (int64, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	limit, ok := r.(*io.LimitedReader)
	if !ok {
		limit = &io.LimitedReader{R: r, N: math.MaxInt64}
	}
	defer w.rest()
	sent, err := w.past(limit)
	for err == nil && limit.N > 0 {
		w.hurry()
		part := &io.LimitedReader{R: limit.R, N: min(limit.N, chunk)}
		var n int64
		n, err = io.Copy(w.ResponseWriter, part)
		sent, limit.N = sent+n, limit.N-n
		w.bytes += n
		if part.N > 0 { // the source ended
			break
		}
	}
	return sent, err
}

// past sends what there is in limit, if it is a large file, past net/http. It may
// send less, and nothing, without an error.
func (w *recorder) past(limit *io.LimitedReader) (int64, error) {
	if !w.sized || limit.N < large || w.r.Method == http.MethodHead {
		return 0, nil
	}
	f, isFile := limit.R.(*os.File)
	conn, isConn := w.r.Context().Value(connKey{}).(*fileConn)
	counts, can := w.ResponseWriter.(io.ReaderFrom)
	if !isFile || !isConn || !can {
		return 0, nil
	}
	w.hurry()
	if err := http.NewResponseController(w.ResponseWriter).Flush(); err != nil { // the header
		return 0, err
	}
	n, err := conn.send(f, limit.N, chunk, w.hurry)
	limit.N -= n
	w.bytes += n
	if n > 0 {
		_, cerr := counts.ReadFrom(&gone{n: n})
		err = errors.Join(err, cerr)
	}
	return n, err
}

// Unwrap is for http.ResponseController.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }
