package api

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/zap"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/proxy/gate"
	"github.com/sluiceproxy/sluice/proxy/local"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/records"
)

// Records are the durable state, as *records.DB keeps it.
type Records interface {
	Verdicts(ctx context.Context, f records.VerdictFilter) (items []policy.Verdict, next string, err error)
	VerdictsOf(ctx context.Context, d godigest.Digest) ([]policy.Verdict, error)
	ImagesOf(ctx context.Context, d godigest.Digest) ([]records.Image, error)
	TagHistoryOf(ctx context.Context, d godigest.Digest) ([]records.TagChange, error)
	Blocks(ctx context.Context) ([]policy.Block, error)
	AddBlock(ctx context.Context, b policy.Block, by string) (policy.Block, error)
	RemoveBlock(ctx context.Context, id, by string) error
	Waivers(ctx context.Context) ([]policy.Waiver, error)
	AddWaiver(ctx context.Context, w policy.Waiver, by string) (policy.Waiver, error)
	RemoveWaiver(ctx context.Context, id, by string) error
	Images(ctx context.Context, f records.ImageFilter) (items []records.Place, next string, err error)
	Robots(ctx context.Context) ([]records.Robot, error)
	AddRobot(ctx context.Context, r records.Robot, by string) (records.Robot, error)
	RemoveRobot(ctx context.Context, name, by string) error
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
	// PolicyWaivers returns the waivers that stand in the policy in force; nil =
	// there are none.
	PolicyWaivers func() []policy.Waiver
	// LongestWaiver is how far ahead a waiver may expire; 0 = any time.
	LongestWaiver time.Duration
	// Judge reads an image's reference, as operators write it, and returns its
	// canonical form and what judges it for a platform. An error is a *Problem.
	Judge func(image string, platform ocispec.Platform) (canonical string, judge JudgeFunc, err error)
	// Go runs work on the server's life, which ends with its ctx.
	Go func(work func(ctx context.Context))
	// Collect removes garbage of the gated registry, or with dryRun only tells what
	// it would remove; nil = there is no gated registry.
	Collect func(ctx context.Context, dryRun bool, by string) (local.Garbage, error)
	// Promote takes an image of the gated registry into another repository of it;
	// nil = there is no gated registry. Errors are those of gate.Gate.Promote, or a
	// *Problem.
	Promote func(ctx context.Context, from, to, by string) (gate.Pushed, error)
	// Token is the bearer token that requests must carry; "" = none, and then
	// only loopback hosts are answered.
	Token string
	Now   func() time.Time // nil = time.Now
	Log   *zap.Logger
}

// JudgeFunc judges one image: see gate.Gate.Judge.
type JudgeFunc func(context.Context) (godigest.Digest, policy.Verdict, error)

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

// The time for one request, and for one that moves or removes images.
const (
	timeout     = 15 * time.Second
	longTimeout = 10 * time.Minute
)

//go:embed openapi.json
var openAPI []byte

type server struct {
	Deps
	paths    []path
	scanning scans
}

// handler answers one method of one path. Its error is rendered by fail.
type handler func(w http.ResponseWriter, r *http.Request) error

// path is one path of the contract with its methods.
type path struct {
	pattern string // of http.ServeMux, below Prefix
	methods map[string]handler
	timeout time.Duration // 0 = timeout
}

// New returns the handler of everything under Prefix.
func New(d Deps) http.Handler {
	if d.Now == nil {
		d.Now = time.Now
	}
	if d.PolicyWaivers == nil {
		d.PolicyWaivers = func() []policy.Waiver { return nil }
	}
	s := &server{Deps: d, scanning: scans{slots: make(chan struct{}, maxScanning)}}
	s.paths = []path{
		{"/verdicts", map[string]handler{"GET": s.verdicts}, 0},
		{"/verdicts/{digest}", map[string]handler{"GET": s.verdict}, 0},
		{"/blocklist", map[string]handler{"GET": s.blocks, "POST": s.addBlock}, 0},
		{"/blocklist/{id}", map[string]handler{"DELETE": s.removeBlock}, 0},
		{"/audit", map[string]handler{"GET": s.audit}, 0},
		{"/advisories", map[string]handler{"GET": s.advisories}, 0},
		{"/policy", map[string]handler{"GET": s.policy}, 0},
		{"/openapi.json", map[string]handler{"GET": s.openAPI}, 0},
		{"/waivers", map[string]handler{"GET": s.waivers, "POST": s.addWaiver}, 0},
		{"/waivers/{id}", map[string]handler{"DELETE": s.removeWaiver}, 0},
		{"/images", map[string]handler{"GET": s.images}, 0},
		{"/scans", map[string]handler{"GET": s.scans, "POST": s.addScan}, 0},
		{"/scans/{id}", map[string]handler{"GET": s.oneScan}, 0},
		{"/robots", map[string]handler{"GET": s.robots, "POST": s.addRobot}, 0},
		{"/robots/{name}", map[string]handler{"DELETE": s.removeRobot}, 0},
		{"/gc", map[string]handler{"POST": s.collect}, longTimeout},
		{"/promotions", map[string]handler{"POST": s.promote}, longTimeout},
		{"/events", map[string]handler{"GET": later}, 0},
		{"/advisories/update", map[string]handler{"POST": later}, 0},
		{"/policy/replay", map[string]handler{"POST": later}, 0},
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
		ctx, cancel := context.WithTimeout(r.Context(), cmp.Or(p.timeout, timeout))
		defer cancel()
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
	gated := fromGate(err)
	switch {
	case errors.As(err, &p):
		WriteProblem(w, *p)
	case gated != nil:
		WriteProblem(w, *gated)
	case errors.As(err, &large):
		WriteProblem(w, Problem{Status: http.StatusRequestEntityTooLarge, Detail: fmt.Sprintf("the body is larger than %d bytes", large.Limit)})
	case errors.Is(err, records.ErrNotFound):
		WriteProblem(w, Problem{Status: http.StatusNotFound, Detail: "there is no such entry"})
	case errors.Is(err, records.ErrInvalid):
		WriteProblem(w, Problem{Status: http.StatusBadRequest, Detail: err.Error()})
	case errors.Is(err, context.DeadlineExceeded):
		WriteProblem(w, Problem{Status: http.StatusGatewayTimeout, Detail: "no answer in time"})
	default:
		s.Log.Error("request failed", zap.String("path", r.URL.Path), zap.String("request_id", w.Header().Get("X-Request-Id")), zap.Error(err))
		WriteProblem(w, Problem{Status: http.StatusInternalServerError, Detail: "internal error; the log has the cause under the request id"})
	}
}

// later answers a path of the contract that is not built yet.
func later(http.ResponseWriter, *http.Request) error {
	return &Problem{Status: http.StatusNotImplemented, Detail: "not supported yet"}
}
