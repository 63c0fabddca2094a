package api

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	godigest "github.com/opencontainers/go-digest"
	"go.uber.org/zap"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/records"
)

// Records are the durable state, as *records.DB keeps it.
type Records interface {
	Verdicts(ctx context.Context, f records.VerdictFilter) (items []policy.Verdict, next string, err error)
	VerdictsOf(ctx context.Context, d godigest.Digest) ([]policy.Verdict, error)
	ImagesOf(ctx context.Context, d godigest.Digest) ([]records.Image, error)
	Blocks(ctx context.Context) ([]policy.Block, error)
	AddBlock(ctx context.Context, b policy.Block, by string) (policy.Block, error)
	RemoveBlock(ctx context.Context, id, by string) error
	Audit(ctx context.Context, f records.AuditFilter) (items []records.AuditEntry, next string, err error)
}

// Deps is what the API answers from.
type Deps struct {
	Records Records
	// Report returns the stored analysis of a manifest, matched with today's
	// advisories; false when it has not been analysed.
	Report func(ctx context.Context, d godigest.Digest) (*analyzer.Report, bool, error)
	// Advisories returns the state of the advisories.
	Advisories func() AdvisoryStatus
	// Policy returns the policy in force.
	Policy func() PolicyStatus
	// Token is the bearer token that requests must carry; "" = none, and then
	// only loopback hosts are answered.
	Token string
	Now   func() time.Time // nil = time.Now
	Log   *zap.Logger
}

// AdvisoryStatus is the state of the advisories.
type AdvisoryStatus struct {
	Present    bool           `json:"present"`  // false: there is no index yet
	Revision   string         `json:"revision"` // of the index in force
	Updated    time.Time      `json:"updated,omitzero"`
	Source     string         `json:"source,omitempty"` // URL or directory that it was compiled from
	Advisories int            `json:"advisories"`       // in the index
	KEV        int            `json:"kev"`              // known-exploited vulnerabilities in the catalogue
	Ecosystems map[string]int `json:"ecosystems,omitempty"`
	MaxAge     string         `json:"maxAge,omitempty"`    // Go duration
	Stale      bool           `json:"stale"`               // older than MaxAge
	Updating   string         `json:"updating,omitempty"`  // progress of an update under way
	LastError  string         `json:"lastError,omitempty"` // of the last update, when it failed
}

// PolicyStatus is the policy in force.
type PolicyStatus struct {
	Revision string `json:"revision"`
	File     string `json:"file"` // "" = the shipped policy
	Text     string `json:"text"`
}

// Prefix is where the API stands on the operations listener.
const Prefix = "/api/v1"

// timeout bounds the work for one request.
const timeout = 15 * time.Second

//go:embed openapi.json
var openAPI []byte

type server struct {
	Deps
	paths []path
}

// handler answers one method of one path. Its error is rendered by fail.
type handler func(w http.ResponseWriter, r *http.Request) error

// path is one path of the contract with its methods.
type path struct {
	pattern string // of http.ServeMux, below Prefix
	methods map[string]handler
}

// New returns the handler of everything under Prefix.
func New(d Deps) http.Handler {
	if d.Now == nil {
		d.Now = time.Now
	}
	s := &server{Deps: d}
	s.paths = []path{
		{"/verdicts", map[string]handler{"GET": s.verdicts}},
		{"/verdicts/{digest}", map[string]handler{"GET": s.verdict}},
		{"/blocklist", map[string]handler{"GET": s.blocks, "POST": s.addBlock}},
		{"/blocklist/{id}", map[string]handler{"DELETE": s.removeBlock}},
		{"/audit", map[string]handler{"GET": s.audit}},
		{"/advisories", map[string]handler{"GET": s.advisories}},
		{"/policy", map[string]handler{"GET": s.policy}},
		{"/openapi.json", map[string]handler{"GET": s.openAPI}},
		{"/waivers", map[string]handler{"GET": later, "POST": later}},
		{"/waivers/{id}", map[string]handler{"DELETE": later}},
		{"/images", map[string]handler{"GET": later}},
		{"/scans", map[string]handler{"GET": later, "POST": later}},
		{"/scans/{id}", map[string]handler{"GET": later}},
		{"/events", map[string]handler{"GET": later}},
		{"/advisories/update", map[string]handler{"POST": later}},
		{"/policy/replay", map[string]handler{"POST": later}},
	}
	mux := http.NewServeMux()
	for _, p := range s.paths {
		mux.Handle(Prefix+p.pattern, s.serve(p))
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		WriteProblem(w, Problem{Status: http.StatusNotFound, Detail: fmt.Sprintf("no such path; %s/openapi.json lists them", Prefix)})
	})
	return Guard(d.Token, mux)
}

// serve answers the methods of p.
func (s *server) serve(p path) http.HandlerFunc {
	var allow []string
	for m := range p.methods {
		allow = append(allow, m)
	}
	if slices.Contains(allow, "GET") {
		allow = append(allow, "HEAD")
	}
	slices.Sort(allow)
	return func(w http.ResponseWriter, r *http.Request) {
		method := r.Method
		if method == http.MethodHead {
			method = http.MethodGet // net/http drops the body
		}
		h, ok := p.methods[method]
		if !ok {
			w.Header().Set("Allow", strings.Join(allow, ", "))
			WriteProblem(w, Problem{Status: http.StatusMethodNotAllowed, Detail: "this path knows " + strings.Join(allow, ", ")})
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), timeout)
		defer cancel()
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(timeout)) // of the body, where the server can
		if err := h(w, r.WithContext(ctx)); err != nil {
			s.fail(w, r, err)
		}
	}
}

// fail renders an error. What is not the client's fault is logged and not told.
func (s *server) fail(w http.ResponseWriter, r *http.Request, err error) {
	var (
		p     *Problem
		large *http.MaxBytesError
	)
	switch {
	case errors.As(err, &p):
		WriteProblem(w, *p)
	case errors.As(err, &large):
		WriteProblem(w, Problem{Status: http.StatusRequestEntityTooLarge, Detail: fmt.Sprintf("the body is larger than %d bytes", large.Limit)})
	case errors.Is(err, records.ErrNotFound):
		WriteProblem(w, Problem{Status: http.StatusNotFound, Detail: "there is no such entry"})
	case errors.Is(err, records.ErrInvalid):
		WriteProblem(w, Problem{Status: http.StatusBadRequest, Detail: err.Error()})
	case errors.Is(err, context.DeadlineExceeded):
		WriteProblem(w, Problem{Status: http.StatusGatewayTimeout, Detail: fmt.Sprintf("no answer within %s", timeout)})
	default:
		s.Log.Error("request failed", zap.String("path", r.URL.Path), zap.String("request_id", w.Header().Get("X-Request-Id")), zap.Error(err))
		WriteProblem(w, Problem{Status: http.StatusInternalServerError, Detail: "internal error; the log has the cause under the request id"})
	}
}

// later answers a path of the contract that is not built yet.
func later(http.ResponseWriter, *http.Request) error {
	return &Problem{Status: http.StatusNotImplemented, Detail: "not supported yet"}
}
