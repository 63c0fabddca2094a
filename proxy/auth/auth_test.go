package auth

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap/zaptest"
	"golang.org/x/crypto/bcrypt"
)

// bench is a Controller with its neighbours.
type bench struct {
	*Controller
	t      *testing.T
	now    time.Time
	robots []Robot
	file   string
}

func (b *bench) Robots(context.Context) ([]Robot, error) { return b.robots, nil }

func newBench(t *testing.T, change func(*Options)) *bench {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte("hunter2"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC), file: filepath.Join(t.TempDir(), "htpasswd")}
	if err := os.WriteFile(b.file, append([]byte("# users\nalice:"), hash...), 0o600); err != nil {
		t.Fatal(err)
	}
	b.robots = []Robot{
		{Name: "ci", Hash: sha256.Sum256([]byte("ci-secret"))},
		{Name: "old", Hash: sha256.Sum256([]byte("old-secret")), Expires: b.now.Add(-time.Second)},
		{Name: "soon", Hash: sha256.Sum256([]byte("soon-secret")), Expires: b.now.Add(time.Minute)},
	}
	opts := Options{
		Rules: []Rule{
			{Who: []string{"*"}, May: []Action{Pull}, Repositories: []string{"docker.io/**"}},
			{Who: []string{"robot:ci"}, May: []Action{Push}, Repositories: []string{"local/team/**"}},
			{Who: []string{"user:alice"}, May: []Action{Push, Delete, Operate}},
			{Who: []string{"oidc:github:repo:acme/app:*"}, May: []Action{Push}, Repositories: []string{"local/app"}},
			{Who: []string{"group:corp:admins"}, May: []Action{Operate}},
		},
		Htpasswd: b.file, Robots: b, Log: zaptest.NewLogger(t), Now: func() time.Time { return b.now },
		Canonical: func(asked string) (string, bool, error) {
			if strings.HasPrefix(asked, "local/") {
				return asked, true, nil
			}
			return "docker.io/" + asked, false, nil
		},
	}
	if change != nil {
		change(&opts)
	}
	if b.Controller, err = New(opts); err != nil {
		t.Fatal(err)
	}
	return b
}

func request(t *testing.T, authorization string) *http.Request {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://sluice.corp/v2/", nil)
	r.RemoteAddr = "192.0.2.7:1000"
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	return r
}

func basic(t *testing.T, user, password string) *http.Request {
	r := request(t, "")
	r.SetBasicAuth(user, password)
	return r
}

func TestIdentify(t *testing.T) {
	b := newBench(t, nil)
	for _, tt := range []struct {
		name    string
		r       *http.Request
		want    string
		refused bool
	}{
		{"nobody", request(t, ""), "anonymous", false},
		{"user", basic(t, "alice", "hunter2"), "user:alice", false},
		{"user again, from the cache", basic(t, "alice", "hunter2"), "user:alice", false},
		{"wrong password", basic(t, "alice", "hunter3"), "", true},
		{"unknown user", basic(t, "mallory", "hunter2"), "", true},
		{"robot", basic(t, "ci", "ci-secret"), "robot:ci", false},
		{"robot with another's secret", basic(t, "ci", "soon-secret"), "", true},
		{"robot's secret as bearer", request(t, "Bearer ci-secret"), "robot:ci", false},
		{"expired robot", basic(t, "old", "old-secret"), "", true},
		{"robot about to expire", basic(t, "soon", "soon-secret"), "robot:soon", false},
		{"no scheme", request(t, "hunter2"), "", true},
		{"unknown scheme", request(t, "Digest x"), "", true},
		{"unreadable Basic", request(t, "Basic ???"), "", true},
		{"empty bearer", request(t, "Bearer "), "", true},
		{"long bearer", request(t, "Bearer "+strings.Repeat("x", maxToken+1)), "", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			id, err := b.Identify(tt.r)
			var challenge *ChallengeError
			if tt.refused {
				if !errors.As(err, &challenge) || !strings.Contains(challenge.Header, `realm="http://sluice.corp/auth/token"`) {
					t.Fatalf("error %v", err)
				}
				return
			}
			if err != nil || id.String() != tt.want {
				t.Errorf("identity %s, %v; want %s", id, err, tt.want)
			}
		})
	}
	two := request(t, "Bearer ci-secret")
	two.Header.Add("Authorization", "Basic x")
	if _, err := b.Identify(two); err == nil {
		t.Error("two Authorization headers were accepted")
	}
}

func TestCertificate(t *testing.T) {
	b := newBench(t, func(o *Options) { o.Certificates = true })
	uri, err := url.Parse("spiffe://corp/node")
	if err != nil {
		t.Fatal(err)
	}
	for want, leaf := range map[string]*x509.Certificate{
		"cert:spiffe://corp/node": {URIs: []*url.URL{uri}, Subject: pkix.Name{CommonName: "x"}},
		"cert:node-1":             {Subject: pkix.Name{CommonName: "node-1"}},
		"cert:node-2.corp":        {DNSNames: []string{"node-2.corp"}},
	} {
		r := request(t, "")
		r.TLS = &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{leaf}}}
		if id, err := b.Identify(r); err != nil || id.Name != want {
			t.Errorf("identity %q, %v; want %q", id.Name, err, want)
		}
	}
	r := request(t, "") // presented, but verified by nobody
	r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{{Subject: pkix.Name{CommonName: "forged"}}}}
	if id, err := b.Identify(r); err != nil || !id.Anonymous() {
		t.Errorf("identity %q, %v", id.Name, err)
	}
}

func TestAuthorize(t *testing.T) {
	b := newBench(t, nil)
	for _, tt := range []struct {
		who        *http.Request
		action     Action
		repository string
		want       string // "", challenge or forbidden
	}{
		{request(t, ""), Pull, "docker.io/library/nginx", ""},
		{request(t, ""), Pull, "ghcr.io/acme/private", "challenge"},
		{request(t, ""), Push, "local/team/app", "challenge"},
		{basic(t, "ci", "ci-secret"), Push, "local/team/app", ""},
		{basic(t, "ci", "ci-secret"), Pull, "local/team/app", ""},
		{basic(t, "ci", "ci-secret"), Delete, "local/team/app", "forbidden"},
		{basic(t, "ci", "ci-secret"), Push, "local/teams/app", "forbidden"},
		{basic(t, "ci", "ci-secret"), Push, "local/team", "forbidden"},
		{basic(t, "ci", "ci-secret"), Pull, "ghcr.io/acme/private", "forbidden"},
		{basic(t, "alice", "hunter2"), Operate, "local/x", ""},
		{basic(t, "soon", "soon-secret"), Operate, "local/x", "forbidden"},
	} {
		id, err := b.Identify(tt.who)
		if err != nil {
			t.Fatal(err)
		}
		err = b.Authorize(tt.who, id, tt.action, tt.repository, tt.repository)
		var (
			challenge *ChallengeError
			forbidden *ForbiddenError
			got       string
		)
		switch {
		case errors.As(err, &challenge):
			got = "challenge"
		case errors.As(err, &forbidden):
			got = "forbidden"
		}
		if got != tt.want {
			t.Errorf("%s %s %s: %v, want %q", id, tt.action, tt.repository, err, tt.want)
		}
	}
}

func TestDefaults(t *testing.T) {
	b := newBench(t, func(o *Options) { o.Rules, o.Htpasswd, o.Robots = nil, "", nil })
	for _, tt := range []struct {
		addr, header string
		action       Action
		want         bool
	}{
		{"127.0.0.1:5", "", Pull, true},
		{"[::1]:5", "", Pull, true},
		{"[::ffff:127.0.0.1]:5", "", Pull, true},
		{"127.0.0.1:5", "", Push, false},
		{"192.0.2.1:5", "", Pull, false},
		{"127.0.0.1:5", "X-Forwarded-For", Pull, false},
		{"127.0.0.1:5", "Forwarded", Pull, false},
	} {
		r := request(t, "")
		r.RemoteAddr = tt.addr
		if tt.header != "" {
			r.Header.Set(tt.header, "192.0.2.1")
		}
		id, err := b.Identify(r)
		if err != nil {
			t.Fatal(err)
		}
		var forbidden *ForbiddenError
		err = b.Authorize(r, id, tt.action, "docker.io/library/nginx", "nginx")
		if err == nil != tt.want || err != nil && !errors.As(err, &forbidden) { // nothing that a name could change
			t.Errorf("%+v: %v", tt, err)
		}
		if err := b.Ping(r, id); err != nil {
			t.Errorf("ping: %v", err)
		}
	}
}

// token asks the endpoint.
func (b *bench) token(r *http.Request, scopes ...string) (string, []scope) {
	b.t.Helper()
	r.URL.Path, r.URL.RawQuery = TokenPath, url.Values{"service": {"sluice"}, "scope": scopes}.Encode()
	rec := httptest.NewRecorder()
	b.TokenHandler(rec, r)
	var body struct {
		Token string `json:"token"`
	}
	if err := json.Unmarshal(rec.Body.Bytes(), &body); err != nil || rec.Code != http.StatusOK {
		b.t.Fatalf("token endpoint: %d %s", rec.Code, rec.Body)
	}
	id, err := b.signer.parse(body.Token)
	if err != nil {
		b.t.Fatal(err)
	}
	return body.Token, id.scopes
}

func TestTokenEndpoint(t *testing.T) {
	b := newBench(t, nil)
	raw, got := b.token(basic(t, "ci", "ci-secret"), "repository:local/team/app:pull,push,delete repository:local/other:push", "repository:library/nginx:pull,push", "registry:catalog:*")
	want := []scope{
		{"repository", "local/team/app", []Action{Pull, Push}},
		{"repository", "local/other", []Action{}},
		{"repository", "library/nginx", []Action{Pull}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("granted (-want +got):\n%s", diff)
	}
	r := request(t, "Bearer "+raw)
	id, err := b.Identify(r)
	if err != nil || id.Name != "robot:ci" {
		t.Fatalf("identity %s, %v", id, err)
	}
	if err := b.Authorize(r, id, Push, "local/team/app", "local/team/app"); err != nil {
		t.Error(err)
	}
	// The rules allow it, the token does not name it: another token helps.
	var challenge *ChallengeError
	if err := b.Authorize(r, id, Push, "local/team/two", "local/team/two"); !errors.As(err, &challenge) || !strings.Contains(challenge.Header, `scope="repository:local/team/two:pull,push"`) {
		t.Errorf("error %v", err)
	}
	// Nobody gets a token, too: for what everybody may.
	raw, got = b.token(request(t, ""), "repository:library/nginx:pull", "repository:local/team/app:pull,push")
	if diff := cmp.Diff([]scope{{"repository", "library/nginx", []Action{Pull}}, {"repository", "local/team/app", []Action{}}}, got); diff != "" {
		t.Errorf("granted to nobody (-want +got):\n%s", diff)
	}
	r = request(t, "Bearer "+raw)
	if id, err = b.Identify(r); err != nil || !id.Anonymous() {
		t.Fatalf("identity %s, %v", id, err)
	}
	if err := b.Ping(r, id); err != nil {
		t.Errorf("ping with an anonymous token: %v", err)
	}
	if err := b.Ping(request(t, ""), Identity{}); !errors.As(err, &challenge) {
		t.Errorf("ping without any: %v", err)
	}
	// OAuth 2's form, as docker login uses it.
	form := url.Values{"grant_type": {"password"}, "username": {"alice"}, "password": {"hunter2"}, "scope": {"repository:local/x:delete"}}
	post := httptest.NewRequestWithContext(t.Context(), http.MethodPost, TokenPath, strings.NewReader(form.Encode()))
	post.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	rec := httptest.NewRecorder()
	if b.TokenHandler(rec, post); rec.Code != http.StatusOK || !strings.Contains(rec.Body.String(), "access_token") {
		t.Errorf("POST: %d %s", rec.Code, rec.Body)
	}
	rec = httptest.NewRecorder()
	if b.TokenHandler(rec, basic(t, "alice", "wrong")); rec.Code != http.StatusUnauthorized {
		t.Errorf("wrong password: %d", rec.Code)
	}
}

func TestTokenOfARemovedRobotIsWorthNothing(t *testing.T) {
	b := newBench(t, nil)
	ci, _ := b.token(basic(t, "ci", "ci-secret"), "repository:local/team/app:push")
	soon, _ := b.token(basic(t, "soon", "soon-secret"))
	b.robots = b.robots[1:]
	b.now = b.now.Add(90 * time.Second)
	for _, raw := range []string{ci, soon} {
		if id, err := b.Identify(request(t, "Bearer "+raw)); err == nil {
			t.Errorf("still %s", id)
		}
	}
}

// TestThreatTokenBuysNoOther: a token is neither widened nor renewed.
func TestThreatTokenBuysNoOther(t *testing.T) {
	b := newBench(t, nil)
	narrow, _ := b.token(basic(t, "ci", "ci-secret"), "repository:local/team/app:pull")
	refresh := httptest.NewRequestWithContext(t.Context(), http.MethodPost, TokenPath,
		strings.NewReader(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {narrow}, "scope": {"repository:local/team/app:push"}}.Encode()))
	refresh.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for _, r := range []*http.Request{refresh, request(t, "Bearer "+narrow)} {
		rec := httptest.NewRecorder()
		if b.TokenHandler(rec, r); rec.Code != http.StatusUnauthorized || strings.Contains(rec.Body.String(), "access_token") {
			t.Errorf("%s: %d %s", r.Method, rec.Code, rec.Body)
		}
	}
}

func TestRateByIdentity(t *testing.T) {
	b := newBench(t, func(o *Options) { o.Requests, o.Per = 3, time.Hour })
	var limited *LimitedError
	for i := range 4 {
		_, err := b.Identify(basic(t, "ci", "ci-secret"))
		if want := i == 3; errors.As(err, &limited) != want {
			t.Errorf("request %d: %v", i, err)
		}
	}
	if _, err := b.Identify(basic(t, "alice", "hunter2")); err != nil {
		t.Errorf("another identity: %v", err)
	}
	for i := range 4 { // guesses count by address
		_, err := b.Identify(basic(t, "alice", "wrong"))
		if want := i == 3; errors.As(err, &limited) != want {
			t.Errorf("guess %d: %v", i, err)
		}
	}
}

// TestThreatGuesses: who guesses passwords runs out of comparisons, and with
// them the processor's time ends, while who proved theirs, robots and other
// networks go on.
func TestThreatGuesses(t *testing.T) {
	b := newBench(t, nil)
	from := func(address, user, password string) error {
		r := basic(t, user, password)
		r.RemoteAddr = address
		_, err := b.Identify(r)
		return err
	}
	const attacker = "192.0.2.7:1000"
	var (
		limited *LimitedError
		refused *ChallengeError
	)
	if err := from(attacker, "alice", "hunter2"); err != nil {
		t.Fatalf("the right password: %v", err)
	}
	for range 3 * guessBurst { // costs one guess: it is known to be wrong
		if err := from(attacker, "alice", "an old one"); !errors.As(err, &refused) {
			t.Fatalf("the same wrong password again: %v", err)
		}
	}
	for i := range 2 * guessBurst {
		err := from(attacker, fmt.Sprint("user", i), "x")
		if want := i < guessBurst-1; errors.As(err, &refused) != want || errors.As(err, &limited) == want {
			t.Fatalf("guess %d: %v", i, err)
		}
		refused, limited = nil, nil
	}
	if n := len(b.users.Load().wrong); n != guessBurst {
		t.Errorf("%d wrong passwords were compared, want %d", n, guessBurst)
	}
	for _, tt := range []struct {
		name, address, user, password string
		limited                       bool
	}{
		{"a proven password from there", attacker, "alice", "hunter2", false},
		{"a robot from there", attacker, "ci", "ci-secret", false},
		{"another password from there", attacker, "alice", "hunter3", true},
		{"another password from elsewhere", "192.0.2.8:1000", "alice", "hunter3", false},
	} {
		if err := from(tt.address, tt.user, tt.password); errors.As(err, &limited) != tt.limited {
			t.Errorf("%s: %v", tt.name, err)
		}
		limited = nil
	}
	b.now = b.now.Add(guessEvery)
	for i, want := range []bool{false, true} { // one came back
		if err := from(attacker, "alice", fmt.Sprint("later", i)); errors.As(err, &limited) != want {
			t.Errorf("later guess %d: %v", i, err)
		}
	}
	for i := range guessBurst + 1 { // addresses of one owner count together
		limited = nil
		err := from(fmt.Sprintf("[2001:db8::%x]:1000", i+1), "alice", fmt.Sprint("six", i))
		if want := i == guessBurst; errors.As(err, &limited) != want {
			t.Errorf("guess %d over IPv6: %v", i, err)
		}
	}
	if err := b.Reload(); err != nil {
		t.Fatal(err)
	}
	if n := len(b.users.Load().proven); n != 0 {
		t.Errorf("after a reload %d passwords are still known", n)
	}
}

// TestRightPasswordsCostNoGuess: whoever logs in rightly, however many at once,
// takes nothing from those behind the same address.
func TestRightPasswordsCostNoGuess(t *testing.T) {
	b := newBench(t, nil)
	var all sync.WaitGroup
	for range 2 * guessBurst {
		all.Go(func() {
			if _, err := b.Identify(basic(t, "alice", "hunter2")); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if spent := b.guesses.m["192.0.2.7"].spent; spent != 0 {
		t.Errorf("%g guesses were spent", spent)
	}
}

func TestReloadKeepsUsers(t *testing.T) {
	b := newBench(t, nil)
	for _, bad := range []string{"alice", "alice:{SHA}x", "a:$2y$05$short", ":x"} {
		if err := os.WriteFile(b.file, []byte("# c\n"+bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := b.Reload(); err == nil || !strings.Contains(err.Error(), "line 2") {
			t.Errorf("%q: error %v", bad, err)
		}
	}
	if id, err := b.Identify(basic(t, "alice", "hunter2")); err != nil || id.Name != "user:alice" {
		t.Errorf("identity %s, %v", id, err)
	}
}

func TestNewTellsAllProblems(t *testing.T) {
	_, err := New(Options{
		Rules:    []Rule{{}, {Who: []string{"bob"}, May: []Action{Pull}}, {Who: []string{"*"}, May: []Action{"write"}}, {Who: []string{"*"}, May: []Action{Pull}, Repositories: []string{"docker.io/x:tag"}}},
		Issuers:  []Issuer{{Name: "a", URL: "https://a", JWKS: "https://a/keys"}, {Name: "b", URL: "https://b", Audience: "x", JWKS: "http://b/keys"}, {Name: "b:c"}},
		Htpasswd: "/does/not/exist", Log: zaptest.NewLogger(t), Key: ed25519.PrivateKey("short"),
	})
	for _, want := range []string{"rules[0]: who", "rules[1]: who", "rules[2]: may", "rules[3]: repositories", `"a": audience`, `"b": jwks`, `"b:c": name`, "/does/not/exist", "token key"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
}

func TestWild(t *testing.T) {
	for _, tt := range []struct {
		pattern, s string
		want       bool
	}{
		{"a", "a", true},
		{"a", "ab", false},
		{"a*", "ab", true},
		{"*b", "ab", true},
		{"a*c", "ab", false},
		{"a*a", "a", false},
		{"a**c", "abc", true},
		{"x*y*z", "xyz", true},
		{"x*y*z", "xzy", false},
		{"*", "", true},
	} {
		if got := wild(tt.pattern, tt.s); got != tt.want {
			t.Errorf("wild(%q, %q) = %v", tt.pattern, tt.s, got)
		}
	}
}
