package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	godigest "github.com/opencontainers/go-digest"
	"go.uber.org/zap/zaptest"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/proxy/api"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/records"
)

var (
	now    = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	digest = godigest.FromString("image")
)

// state is a Records in memory.
type state struct {
	works time.Duration // that a collection takes

	verdicts []policy.Verdict
	images   []records.Image
	blocks   []policy.Block
	robots   []records.Robot
	waivers  []policy.Waiver
	places   []records.Place
	asked    records.ImageFilter // of the last call
	audit    []records.AuditEntry
	filter   records.VerdictFilter // of the last call
	by       string
	err      error
}

func (s *state) Verdicts(_ context.Context, f records.VerdictFilter) ([]policy.Verdict, string, error) {
	s.filter = f
	var out []policy.Verdict
	for _, v := range s.verdicts {
		if f.Decision == policy.Undecided || v.Decision == f.Decision {
			out = append(out, v)
		}
	}
	from := len(f.PageToken) // a page token of n letters starts at the item n
	if from+f.Limit < len(out) {
		return out[from : from+f.Limit], strings.Repeat("x", from+f.Limit), s.err
	}
	return out[from:], "", s.err
}

func (s *state) VerdictsOf(_ context.Context, d godigest.Digest) ([]policy.Verdict, error) {
	var out []policy.Verdict
	for _, v := range s.verdicts {
		if v.Digest == d {
			out = append(out, v)
		}
	}
	return out, s.err
}

func (s *state) TagHistoryOf(_ context.Context, d godigest.Digest) ([]records.TagChange, error) {
	return []records.TagChange{{Name: "docker.io/library/nginx", Tag: "1", Digest: d, Class: "unknown", Action: "hold"}}, nil
}

func (s *state) ImagesOf(_ context.Context, d godigest.Digest) ([]records.Image, error) {
	var out []records.Image
	for _, i := range s.images {
		if i.Digest == d {
			out = append(out, i)
		}
	}
	return out, s.err
}

func (s *state) Blocks(context.Context) ([]policy.Block, error) { return s.blocks, s.err }

func (s *state) AddBlock(_ context.Context, b policy.Block, by string) (policy.Block, error) {
	if s.err != nil {
		return policy.Block{}, s.err
	}
	b.ID, s.by = fmt.Sprintf("b-%d", len(s.blocks)+1), by
	s.blocks = append([]policy.Block{b}, s.blocks...)
	return b, nil
}

func (s *state) RemoveBlock(_ context.Context, id, by string) error {
	n := len(s.blocks)
	s.blocks, s.by = slices.DeleteFunc(s.blocks, func(b policy.Block) bool { return b.ID == id }), by
	if len(s.blocks) == n {
		return fmt.Errorf("block %s: %w", id, records.ErrNotFound)
	}
	return s.err
}

func (s *state) Waivers(context.Context) ([]policy.Waiver, error) { return s.waivers, s.err }

func (s *state) AddWaiver(_ context.Context, w policy.Waiver, by string) (policy.Waiver, error) {
	if s.err != nil {
		return policy.Waiver{}, s.err
	}
	w.ID, w.Created, s.by = fmt.Sprintf("w-%d", len(s.waivers)+1), now, by
	s.waivers = append([]policy.Waiver{w}, s.waivers...)
	return w, nil
}

func (s *state) RemoveWaiver(_ context.Context, id, by string) error {
	n := len(s.waivers)
	s.waivers, s.by = slices.DeleteFunc(s.waivers, func(w policy.Waiver) bool { return w.ID == id }), by
	if len(s.waivers) == n {
		return fmt.Errorf("waiver %s: %w", id, records.ErrNotFound)
	}
	return s.err
}

func (s *state) Images(_ context.Context, f records.ImageFilter) ([]records.Place, string, error) {
	s.asked = f
	return s.places, "next", s.err
}

func (s *state) Robots(context.Context) ([]records.Robot, error) { return s.robots, s.err }

func (s *state) AddRobot(_ context.Context, r records.Robot, by string) (records.Robot, error) {
	if s.err != nil {
		return records.Robot{}, s.err
	}
	r.Created, s.by = now, by
	s.robots = append(s.robots, r)
	return r, nil
}

func (s *state) RemoveRobot(_ context.Context, name, by string) error {
	n := len(s.robots)
	s.robots, s.by = slices.DeleteFunc(s.robots, func(r records.Robot) bool { return r.Name == name }), by
	if len(s.robots) == n {
		return fmt.Errorf("robot %s: %w", name, records.ErrNotFound)
	}
	return s.err
}

func (s *state) Audit(context.Context, records.AuditFilter) ([]records.AuditEntry, string, error) {
	return s.audit, "", s.err
}

func handler(t *testing.T, s *state, token string) http.Handler {
	return api.New(api.Deps{
		Records: s,
		Report: func(_ context.Context, d godigest.Digest) (*analyzer.Report, bool, error) {
			if d != digest {
				return nil, false, nil
			}
			return &analyzer.Report{Inventory: analyzer.Inventory{Platform: "linux/amd64", Packages: []analyzer.Package{{Name: "lodash"}}}}, true, nil
		},
		Advisories: func() api.AdvisoryStatus { return api.AdvisoryStatus{Present: true, Revision: "osv-1"} },
		Policy:     func() api.PolicyStatus { return api.PolicyStatus{Revision: "p-1", Text: "version: 1\n"} },
		PolicyWaivers: func() []policy.Waiver {
			return []policy.Waiver{{Advisory: "CVE-9", Owner: "file", Reason: "r", Expires: now}}
		},
		Judge:         s.judge,
		Go:            func(work func(context.Context)) { work(t.Context()) },
		Collect:       s.collect,
		Promote:       s.promote,
		LongestWaiver: 90 * 24 * time.Hour,
		Token:         token,
		Now:           func() time.Time { return now },
		Log:           zaptest.NewLogger(t),
	})
}

// call sends one request; header holds pairs of names and values.
func call(h http.Handler, method, path, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequestWithContext(context.Background(), method, "http://127.0.0.1:5001"+path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
		if header[i] == "Host" {
			r.Host = header[i+1]
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func decode[T any](t *testing.T, w *httptest.ResponseRecorder, status int) T {
	t.Helper()
	if w.Code != status {
		t.Fatalf("status %d, want %d: %s", w.Code, status, w.Body)
	}
	var v T
	dec := json.NewDecoder(bytes.NewReader(w.Body.Bytes()))
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("%v in %s", err, w.Body)
	}
	return v
}

func problem(t *testing.T, w *httptest.ResponseRecorder, status int) api.Problem {
	t.Helper()
	p := decode[api.Problem](t, w, status)
	if ct := w.Header().Get("Content-Type"); ct != "application/problem+json" {
		t.Errorf("content type %q", ct)
	}
	if p.Status != status || p.Title != http.StatusText(status) || p.Detail == "" {
		t.Errorf("problem %+v", p)
	}
	return p
}

func TestGuard(t *testing.T) {
	const token = "s3cret"
	for _, tt := range []struct {
		name   string
		token  string
		method string
		header []string
		want   int
	}{
		{"loopback", "", "GET", nil, 200},
		{"localhost", "", "GET", []string{"Host", "localhost:5001"}, 200},
		{"ipv6", "", "GET", []string{"Host", "[::1]:5001"}, 200},
		{"rebound name", "", "GET", []string{"Host", "evil.example.org:5001"}, 421},
		{"name that only begins like loopback", "", "GET", []string{"Host", "127.0.0.1.evil.example.org"}, 421},
		{"no host", "", "GET", []string{"Host", ""}, 421},
		{"cross-site change", "", "POST", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"same-site change", "", "POST", []string{"Sec-Fetch-Site", "same-site"}, 403},
		{"foreign origin", "", "DELETE", []string{"Origin", "https://evil.example.org"}, 403},
		{"null origin", "", "DELETE", []string{"Origin", "null"}, 403},
		{"own origin", "", "POST", []string{"Origin", "http://127.0.0.1:5001"}, 405},
		{"cross-site read is left to the browser", "", "GET", []string{"Sec-Fetch-Site", "cross-site"}, 200},
		{"no token", token, "GET", nil, 401},
		{"wrong token", token, "GET", []string{"Authorization", "Bearer s3cre"}, 401},
		{"empty token", token, "GET", []string{"Authorization", "Bearer "}, 401},
		{"wrong scheme", token, "GET", []string{"Authorization", "Basic s3cret"}, 401},
		{"token", token, "GET", []string{"Authorization", "Bearer s3cret"}, 200},
		{"token under any name", token, "GET", []string{"Authorization", "bearer s3cret", "Host", "sluice.example.org"}, 200},
		{"token from a foreign page", token, "POST", []string{"Authorization", "Bearer s3cret", "Origin", "https://evil.example.org"}, 403},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := call(handler(t, &state{}, tt.token), tt.method, "/api/v1/verdicts", "", tt.header...)
			if w.Code != tt.want {
				t.Errorf("status %d, want %d: %s", w.Code, tt.want, w.Body)
			}
			if tt.want >= 400 {
				problem(t, w, tt.want)
			}
			if (w.Header().Get("WWW-Authenticate") != "") != (tt.want == 401) {
				t.Errorf("WWW-Authenticate %q", w.Header().Get("WWW-Authenticate"))
			}
		})
	}
}

func TestVerdicts(t *testing.T) {
	s := &state{verdicts: []policy.Verdict{
		{ID: "v-1", Decision: policy.Deny, Image: "docker.io/library/a", Digest: digest, Reasons: []policy.Reason{{Action: policy.Deny, Message: "because"}}},
		{ID: "v-2", Decision: policy.Allow, Image: "docker.io/library/b"},
	}}
	h := handler(t, s, "")
	got := decode[api.Verdicts](t, call(h, "GET", "/api/v1/verdicts?decision=deny&image=docker.io/**&advisory=CVE-1&since=24h&limit=1&page_token=", ""), 200)
	if len(got.Items) != 1 || got.Items[0].ID != "v-1" || got.Items[0].Summary != "because (verdict v-1)" {
		t.Errorf("got %+v", got)
	}
	want := records.VerdictFilter{Decision: policy.Deny, Image: "docker.io/**", Advisory: "CVE-1", Since: now.Add(-24 * time.Hour), Limit: 1}
	if diff := cmp.Diff(want, s.filter); diff != "" {
		t.Error(diff)
	}
	if got := decode[api.Verdicts](t, call(h, "GET", "/api/v1/verdicts?limit=1", ""), 200); got.NextPageToken == "" {
		t.Error("no page token for the second page")
	}
	if w := call(handler(t, &state{}, ""), "GET", "/api/v1/verdicts", ""); w.Body.String() != `{"items":[]}`+"\n" {
		t.Errorf("empty list: %s", w.Body)
	}
}

func TestBadQueries(t *testing.T) {
	h := handler(t, &state{}, "")
	for _, tt := range []struct{ path, field string }{
		{"/verdicts?decisoin=deny", "decisoin"},
		{"/verdicts?decision=no", "decision"},
		{"/verdicts?decision=undecided", "decision"},
		{"/verdicts?decision=deny&decision=allow", "decision"},
		{"/verdicts?limit=501", "limit"},
		{"/verdicts?limit=0", "limit"},
		{"/verdicts?limit=x", "limit"},
		{"/verdicts?since=yesterday", "since"},
		{"/verdicts?since=-1h", "since"},
		{"/verdicts?image=***", "image"},
		{"/blocklist?source=me", "source"},
		{"/blocklist?digest=sha256:x", "digest"},
		{"/blocklist?image=%5B", "image"},
		{"/blocklist?page_token=!", "page_token"},
		{"/blocklist?page_token=Zm9v", "page_token"},
		{"/audit?who=me", "who"},
		{"/waivers?state=new", "state"},
		{"/waivers?source=me", "source"},
		{"/waivers?page_token=!", "page_token"},
		{"/images?package=lodash", "package"},
		{"/images?image=***", "image"},
		{"/images?decision=undecided", "decision"},
		{"/policy?x=1", "x"},
		{"/advisories?x=1", "x"},
		{"/verdicts?x=%zz", ""},
	} {
		t.Run(tt.path, func(t *testing.T) {
			p := problem(t, call(h, "GET", "/api/v1"+tt.path, ""), 400)
			if len(p.Errors) != 1 || p.Errors[0].Field != tt.field {
				t.Errorf("errors %+v, want one of %s", p.Errors, tt.field)
			}
		})
	}
}

func TestVerdict(t *testing.T) {
	s := &state{
		verdicts: []policy.Verdict{{ID: "v-1", Decision: policy.Annotate, Image: "docker.io/library/a", Digest: digest}},
		images: []records.Image{
			{Name: "docker.io/library/a", Digest: digest, Tags: []string{"1"}, LastClient: "10.0.0.1", Pulls: 3},
			{Name: "docker.io/library/x", Digest: godigest.FromString("other")},
		},
	}
	h := handler(t, s, "")
	got := decode[api.Explanation](t, call(h, "GET", "/api/v1/verdicts/"+digest.String(), ""), 200)
	if len(got.Verdicts) != 1 || len(got.Images) != 1 || got.Images[0].Pulls != 3 || got.Images[0].LastClient != "10.0.0.1" {
		t.Errorf("got %+v", got)
	}
	if got.Evidence == nil || got.Evidence.Packages != 1 || got.Evidence.Platform != "linux/amd64" {
		t.Errorf("evidence %+v", got.Evidence)
	}
	other := decode[api.Explanation](t, call(h, "GET", "/api/v1/verdicts/"+godigest.FromString("other").String(), ""), 200)
	if other.Evidence != nil {
		t.Errorf("evidence without an analysis: %+v", other.Evidence)
	}
	problem(t, call(h, "GET", "/api/v1/verdicts/"+godigest.FromString("never").String(), ""), 404)
	problem(t, call(h, "GET", "/api/v1/verdicts/latest", ""), 400)
}

func TestAddBlock(t *testing.T) {
	for _, tt := range []struct {
		name, body string
		want       int
		detail     string
	}{
		{"digest", `{"digest":"` + digest.String() + `","reason":"r","owner":"alice"}`, 201, ""},
		{"image", `{"image":"docker.io/**","reason":"r","owner":"alice","expires":"2026-12-01T00:00:00Z"}`, 201, ""},
		{"advisory", `{"advisory":"CVE-2021-44228","reason":"r","owner":"alice"}`, 201, ""},
		{"layer", `{"layer":"` + digest.String() + `","reason":"r","owner":"alice"}`, 201, ""},
		{"package", `{"package":"pkg:npm/lodash","reason":"r","owner":"alice"}`, 201, ""},
		{"no target", `{"reason":"r","owner":"alice"}`, 422, "exactly one"},
		{"two targets", `{"image":"docker.io/library/a","advisory":"b","reason":"r","owner":"alice"}`, 422, "exactly one"},
		{"no reason", `{"image":"docker.io/library/a","reason":" ","owner":"alice"}`, 422, "reason"},
		{"no owner", `{"image":"docker.io/library/a","reason":"r"}`, 422, "owner"},
		{"bad digest", `{"digest":"sha256:x","reason":"r","owner":"alice"}`, 422, "digest"},
		{"bad purl", `{"package":"lodash","reason":"r","owner":"alice"}`, 422, "purl"},
		{"past", `{"image":"docker.io/library/a","reason":"r","owner":"alice","expires":"2026-11-23T12:00:00Z"}`, 422, "past"},
		{"long", `{"image":"docker.io/library/a","owner":"alice","reason":"` + strings.Repeat("x", 1001) + `"}`, 422, "1000"},
		{"unknown field", `{"image":"docker.io/library/a","reason":"r","owner":"alice","expire":"x"}`, 400, `unknown field "expire"`},
		{"own id", `{"id":"b-0","image":"a","reason":"r","owner":"alice"}`, 400, `unknown field "id"`},
		{"bad time", `{"image":"docker.io/library/a","reason":"r","owner":"alice","expires":"tomorrow"}`, 400, "tomorrow"},
		{"two values", `{"image":"docker.io/library/a","reason":"r","owner":"alice"}{}`, 400, "more than one"},
		{"not JSON", `image=a`, 400, "invalid character"},
		{"huge", `{"image":"` + strings.Repeat("x", 1<<20) + `"}`, 413, "larger than"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &state{}
			w := call(handler(t, s, ""), "POST", "/api/v1/blocklist", tt.body)
			if tt.want != 201 {
				if p := problem(t, w, tt.want); !strings.Contains(p.Detail, tt.detail) {
					t.Errorf("detail %q does not say %q", p.Detail, tt.detail)
				}
				if len(s.blocks) > 0 {
					t.Error("it was added all the same")
				}
				return
			}
			got := decode[api.Blocked](t, w, 201)
			if got.ID == "" || got.Source != "operator" || got.Owner != "alice" || !got.Created.Equal(now) {
				t.Errorf("got %+v", got)
			}
			if loc := w.Header().Get("Location"); loc != "/api/v1/blocklist/"+got.ID {
				t.Errorf("location %q", loc)
			}
			if !strings.HasPrefix(s.by, "alice from ") {
				t.Errorf("by %q", s.by)
			}
		})
	}
	w := call(handler(t, &state{}, ""), "POST", "/api/v1/blocklist", `{}`, "Content-Type", "text/plain")
	problem(t, w, 415)
}

func TestRemoveBlock(t *testing.T) {
	s := &state{blocks: []policy.Block{{ID: "b-1"}}}
	h := handler(t, s, "")
	if w := call(h, "DELETE", "/api/v1/blocklist/b-1", "", api.OperatorHeader, "bob"); w.Code != 204 || w.Body.Len() > 0 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if !strings.HasPrefix(s.by, "bob from ") {
		t.Errorf("by %q", s.by)
	}
	problem(t, call(h, "DELETE", "/api/v1/blocklist/b-1", ""), 404)
}

func TestBlocklistPages(t *testing.T) {
	s := &state{
		blocks: []policy.Block{
			{ID: "b-4", Image: "docker.io/library/a"}, {ID: "b-3", Image: "docker.io/library/a", Expires: now}, {ID: "b-2", Digest: digest}, {ID: "b-1", Image: "docker.io/library/c", Expires: now.Add(1)},
		},
		verdicts: []policy.Verdict{
			{ID: "v-1", Decision: policy.Deny, Digest: digest, Image: "docker.io/library/x"}, {ID: "v-2", Decision: policy.Allow, Digest: digest, Image: "docker.io/library/y"}, {ID: "v-3", Decision: policy.Deny, Image: "docker.io/library/z"},
		},
	}
	h := handler(t, s, "")
	for _, tt := range []struct {
		query, want string
	}{
		{"", "b-4 b-2 b-1 v-1 v-3"},
		{"source=operator", "b-4 b-2 b-1"},
		{"source=policy", "v-1 v-3"},
		{"digest=" + digest.String(), "b-2 v-1"},
		{"image=docker.io/library/a&source=operator", "b-4"},
		{"digest=" + digest.String() + "&image=docker.io/library/x&source=policy", "v-1"},
		{"digest=" + digest.String() + "&image=docker.io/library/z&source=policy", ""},
	} {
		for limit := 1; limit <= 6; limit++ {
			var ids []string
			token := ""
			for range 10 {
				page := decode[api.Blocklist](t, call(h, "GET", fmt.Sprintf("/api/v1/blocklist?%s&limit=%d&page_token=%s", tt.query, limit, token), ""), 200)
				if len(page.Items) > limit {
					t.Errorf("%d items on a page of %d", len(page.Items), limit)
				}
				for _, i := range page.Items {
					ids = append(ids, i.ID+i.Verdict)
				}
				if token = page.NextPageToken; token == "" {
					break
				}
			}
			if got := strings.Join(ids, " "); got != tt.want {
				t.Errorf("%q by %d: %q, want %q", tt.query, limit, got, tt.want)
			}
		}
	}
}

func TestRecordsFail(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want int
	}{
		{errors.New("disk I/O error in /secret/path"), 500},
		{fmt.Errorf("verdicts: %w", context.DeadlineExceeded), 504},
		{fmt.Errorf("verdicts: %w page token", records.ErrInvalid), 400},
	} {
		h := handler(t, &state{err: tt.err}, "")
		for _, path := range []string{"/verdicts", "/verdicts/" + digest.String(), "/blocklist", "/audit"} {
			if p := problem(t, call(h, "GET", "/api/v1"+path, ""), tt.want); strings.Contains(p.Detail, "secret") {
				t.Errorf("%s tells the client %q", path, p.Detail)
			}
		}
		problem(t, call(h, "POST", "/api/v1/blocklist", `{"image":"docker.io/library/a","reason":"r","owner":"o"}`), tt.want)
	}
}

func TestStatus(t *testing.T) {
	s := &state{audit: []records.AuditEntry{{}}}
	h := handler(t, s, "")
	if got := decode[api.AdvisoryStatus](t, call(h, "GET", "/api/v1/advisories", ""), 200); got.Revision != "osv-1" {
		t.Errorf("advisories %+v", got)
	}
	if got := decode[api.PolicyStatus](t, call(h, "GET", "/api/v1/policy", ""), 200); got.Revision != "p-1" || got.Text == "" {
		t.Errorf("policy %+v", got)
	}
	if got := decode[api.AuditPage](t, call(h, "GET", "/api/v1/audit?since=2026-01-01T00:00:00Z", ""), 200); len(got.Items) != 1 {
		t.Errorf("audit %+v", got)
	}
	problem(t, call(h, "GET", "/api/v1/nothing", ""), 404)
	problem(t, call(h, "GET", "/api/v1", ""), 404)
}

// TestOpenAPI compares the document with what the handler answers: every
// operation exists, every other method of its path is 405.
func TestOpenAPI(t *testing.T) {
	s := &state{images: []records.Image{{Digest: digest}}, blocks: []policy.Block{{ID: "b-1"}}, waivers: []policy.Waiver{{ID: "b-1"}}}
	s.robots = []records.Robot{{Name: "ci"}}
	h := handler(t, s, "")
	scan := decode[api.Scan](t, call(h, "POST", "/api/v1/scans", `{"image":"docker.io/library/nginx"}`), 202)
	doc := decode[struct {
		OpenAPI string `json:"openapi"`
		Paths   map[string]map[string]struct {
			Responses map[string]json.RawMessage `json:"responses"`
		} `json:"paths"`
		Components struct {
			Schemas map[string]json.RawMessage `json:"schemas"`
		} `json:"components"`
	}](t, call(h, "GET", "/api/v1/openapi.json", ""), 200)
	if !strings.HasPrefix(doc.OpenAPI, "3.1") {
		t.Errorf("version %q", doc.OpenAPI)
	}
	want := map[string]string{ // DESIGN.md, section 2
		"/verdicts": "get", "/verdicts/{digest}": "get", "/blocklist": "get post", "/blocklist/{id}": "delete",
		"/waivers": "get post", "/waivers/{id}": "delete", "/images": "get", "/scans": "get post", "/scans/{id}": "get",
		"/events": "get", "/advisories": "get", "/advisories/update": "post", "/policy": "get", "/policy/replay": "post",
		"/audit": "get", "/openapi.json": "get",
		"/robots": "get post", "/robots/{name}": "delete", "/gc": "post", "/promotions": "post",
	}
	got := map[string]string{}
	for path, ops := range doc.Paths {
		var methods []string
		for m := range ops {
			methods = append(methods, m)
		}
		slices.Sort(methods)
		got[path] = strings.Join(methods, " ")
		for _, m := range []string{"get", "post", "delete", "put", "patch"} {
			if strings.HasPrefix(path, "/scans/") {
				path = "/scans/" + scan.ID
			}
			url := "/api/v1" + strings.NewReplacer("{digest}", digest.String(), "{id}", "b-1", "{name}", "ci").Replace(path)
			w := call(h, strings.ToUpper(m), url, "")
			op, documented := ops[m]
			if !documented {
				problem(t, w, 405)
				if w.Header().Get("Allow") == "" {
					t.Errorf("%s %s: no Allow header", m, path)
				}
				continue
			}
			_, later := op.Responses["501"]
			if later {
				problem(t, w, 501)
			} else if w.Code == 501 || w.Code == 405 || w.Code == 404 {
				t.Errorf("%s %s answers %d", m, path, w.Code)
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("paths (-contract +document):\n%s", diff)
	}
	raw := call(h, "GET", "/api/v1/openapi.json", "").Body.String()
	for _, ref := range strings.Split(raw, `"#/components/schemas/`)[1:] {
		name, _, _ := strings.Cut(ref, `"`)
		if _, ok := doc.Components.Schemas[name]; !ok {
			t.Errorf("schema %s is not there", name)
		}
	}
}

func TestRequestID(t *testing.T) {
	w := httptest.NewRecorder()
	w.Header().Set("X-Request-Id", "abcdefgh")
	api.WriteProblem(w, api.Problem{Status: 503, Detail: "x"})
	if p := problem(t, w, 503); p.RequestID != "abcdefgh" {
		t.Errorf("%+v", p)
	}
}

func FuzzAddBlock(f *testing.F) {
	f.Add(`{"image":"docker.io/**","reason":"r","owner":"alice"}`)
	f.Add(`{"digest":"sha256:","layer":null,"expires":""}`)
	f.Add(`[]`)
	f.Fuzz(func(t *testing.T, body string) {
		s := &state{}
		w := call(handler(t, s, ""), "POST", "/api/v1/blocklist", body)
		if w.Code == 201 {
			b := s.blocks[0]
			if err := b.Validate(); err != nil {
				t.Errorf("added %+v: %v", b, err)
			}
		} else if w.Code < 400 || w.Code >= 500 || len(s.blocks) > 0 {
			t.Errorf("%d: %s", w.Code, w.Body)
		}
	})
}

// TestRealRecords runs the write path against the database itself.
func TestRealRecords(t *testing.T) {
	file := t.TempDir() + "/sluice.db"
	open := func() *records.DB {
		db, err := records.Open(t.Context(), file, zaptest.NewLogger(t))
		if err != nil {
			t.Fatal(err)
		}
		return db
	}
	db := open()
	h := api.New(api.Deps{Records: db, Log: zaptest.NewLogger(t)})
	added := decode[api.Blocked](t, call(h, "POST", "/api/v1/blocklist", `{"advisory":"CVE-2021-44228","reason":"log4shell","owner":"alice"}`), 201)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = open()
	t.Cleanup(func() { _ = db.Close() })
	h = api.New(api.Deps{Records: db, Log: zaptest.NewLogger(t)})
	list := decode[api.Blocklist](t, call(h, "GET", "/api/v1/blocklist", ""), 200)
	if len(list.Items) != 1 || list.Items[0].ID != added.ID || list.Items[0].Advisory != "CVE-2021-44228" {
		t.Errorf("blocklist %+v", list)
	}
	if w := call(h, "DELETE", "/api/v1/blocklist/"+added.ID, "", api.OperatorHeader, "bob"); w.Code != 204 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	trail := decode[api.AuditPage](t, call(h, "GET", "/api/v1/audit?limit=1", ""), 200)
	if len(trail.Items) != 1 || trail.Items[0].Target != added.ID || !strings.HasPrefix(trail.Items[0].By, "bob from ") || trail.NextPageToken == "" {
		t.Errorf("audit %+v", trail)
	}
	problem(t, call(h, "GET", "/api/v1/audit?page_token="+trail.NextPageToken+"x", ""), 400)
	problem(t, call(h, "GET", "/api/v1/verdicts?page_token=x", ""), 400)
}
