package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// maxBody bounds the body of a request, in bytes.
const maxBody = 1 << 20

// Guard lets requests through to next that may use the operations listener.
// With a token they must carry it (RFC 6750, section 2.1). Without one they
// must name a loopback host. In both cases a change must not come from a web
// page of another origin.
func Guard(token string, next http.Handler) http.Handler {
	cross := http.NewCrossOriginProtection()
	cross.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		WriteProblem(w, Problem{Status: http.StatusForbidden, Detail: "the request comes from a web page of another origin"})
	}))
	inner := cross.Handler(next)
	want := sha256.Sum256([]byte(token))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		switch {
		case token == "" && !loopbackHost(r.Host):
			WriteProblem(w, Problem{Status: http.StatusMisdirectedRequest, Detail: "without a token only requests to a loopback address are answered"})
		case token != "" && !authorized(r, want):
			w.Header().Set("WWW-Authenticate", `Bearer realm="sluice"`)
			WriteProblem(w, Problem{Status: http.StatusUnauthorized, Detail: "a bearer token is wanted (ops.tokenFile of the server)"})
		default:
			inner.ServeHTTP(w, r)
		}
	})
}

// authorized compares hashes, so that the time taken says nothing of the token.
func authorized(r *http.Request, want [sha256.Size]byte) bool {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	got := sha256.Sum256([]byte(strings.TrimSpace(token)))
	return ok && strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(got[:], want[:]) == 1
}

// loopbackHost reports whether a Host header names this machine.
func loopbackHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}
