package api

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	godigest "github.com/opencontainers/go-digest"

	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/records"
)

// Who refuses: values of Blocked.Source and of the source parameter.
const (
	sourceOperator = "operator"
	sourcePolicy   = "policy"
)

// Blocked is one thing that is refused now.
type Blocked struct {
	Source string `json:"source"` // operator or policy
	policy.Block
	Verdict string `json:"verdict,omitempty"` // id, of source=policy; such an entry has no id of its own
}

// Blocklist is a page of what is refused now: the operators' entries, the
// newest first, then what the policy denies.
type Blocklist struct {
	Items         []Blocked `json:"items"`
	NextPageToken string    `json:"nextPageToken,omitempty"`
}

// blockFilter are the parameters of a blocklist page.
type blockFilter struct {
	digest godigest.Digest
	image  string
	source string // "" = both
	limit  int
	// token says where the page starts: "operator:" and the id before it, or
	// "policy:" and the records' own page token.
	token string
}

func (s *server) blocks(w http.ResponseWriter, r *http.Request) error {
	q := newQuery(r, "digest", "image", "source", "limit", "page_token")
	f := blockFilter{source: q.text("source"), limit: q.limit()}
	if d := q.text("digest"); d != "" {
		var err error
		if f.digest, err = godigest.Parse(d); err != nil {
			q.bad("digest", fmt.Sprintf("%q is not a digest", d))
		}
	}
	if f.source != "" && f.source != sourceOperator && f.source != sourcePolicy {
		q.bad("source", fmt.Sprintf("%q is neither operator nor policy", f.source))
		f.source = ""
	}
	f.image = q.image()
	token, err := base64.RawURLEncoding.DecodeString(q.text("page_token"))
	f.token = string(token)
	if f.token == "" {
		f.token = sourceOperator + ":"
		if f.source == sourcePolicy {
			f.token = sourcePolicy + ":"
		}
	}
	source, _, ok := strings.Cut(f.token, ":")
	if err != nil || !ok || source != sourceOperator && source != sourcePolicy || f.source != "" && f.source != source {
		q.bad("page_token", "it is not one that this list gave")
	}
	if err := q.err(); err != nil {
		return err
	}
	page, err := s.blocklist(r.Context(), f)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, page)
}

// blocklist fills a page from the operators' entries and then from denials.
func (s *server) blocklist(ctx context.Context, f blockFilter) (Blocklist, error) {
	page := Blocklist{Items: []Blocked{}}
	if after, ok := strings.CutPrefix(f.token, sourceOperator+":"); ok {
		more, err := s.operatorBlocks(ctx, f, after, &page)
		if err != nil || more || f.source == sourceOperator {
			return page, err
		}
		f.token = sourcePolicy + ":"
	}
	room := f.limit - len(page.Items)
	if room == 0 { // the next page starts with the denials
		page.NextPageToken = encodeToken(f.token)
		return page, nil
	}
	items, next, err := s.denials(ctx, f, room)
	if err != nil {
		return page, err
	}
	for _, v := range items {
		page.Items = append(page.Items, Blocked{
			Source: sourcePolicy, Verdict: v.ID,
			Block: policy.Block{Digest: v.Digest, Image: v.Image, Reason: v.Summary(), Owner: "policy " + v.Policy, Created: v.At, Expires: v.Until},
		})
	}
	if next != "" {
		page.NextPageToken = encodeToken(sourcePolicy + ":" + next)
	}
	return page, nil
}

// denials returns what the policy denies now, a page of it at most.
func (s *server) denials(ctx context.Context, f blockFilter, limit int) (items []policy.Verdict, next string, err error) {
	if f.digest == "" {
		return s.Records.Verdicts(ctx, records.VerdictFilter{
			Decision: policy.Deny, Image: f.image, Limit: limit, PageToken: strings.TrimPrefix(f.token, sourcePolicy+":"),
		})
	}
	items, err = s.Records.VerdictsOf(ctx, f.digest) // one for each name of it: few
	if err != nil {
		return nil, "", err
	}
	return slices.DeleteFunc(items, func(v policy.Verdict) bool {
		if v.Decision != policy.Deny || f.image == "" {
			return v.Decision != policy.Deny
		}
		g, err := policy.ParseGlob(f.image) // blocks has checked it
		return err != nil || !g.Match(v.Image, v.Tags, v.Digest)
	}), "", nil
}

// operatorBlocks adds the entries in force that stand after the one with the
// id after ("" = from the start). more says that the page is full before the end.
func (s *server) operatorBlocks(ctx context.Context, f blockFilter, after string, page *Blocklist) (more bool, err error) {
	blocks, err := s.Records.Blocks(ctx)
	if err != nil {
		return false, err
	}
	if after != "" {
		at := slices.IndexFunc(blocks, func(b policy.Block) bool { return b.ID == after })
		if at < 0 {
			return false, &Problem{Status: http.StatusBadRequest, Detail: "page_token: the entry that it stands at was removed; start again"}
		}
		blocks = blocks[at+1:]
	}
	for _, b := range blocks {
		if !b.Expires.IsZero() && !b.Expires.After(s.Now()) ||
			f.digest != "" && b.Digest != f.digest || f.image != "" && b.Image != f.image {
			continue
		}
		if len(page.Items) == f.limit {
			page.NextPageToken = encodeToken(sourceOperator + ":" + page.Items[f.limit-1].ID)
			return true, nil
		}
		page.Items = append(page.Items, Blocked{Source: sourceOperator, Block: b})
	}
	return false, nil
}

func encodeToken(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// newBlock is the body of POST /blocklist.
type newBlock struct {
	Digest   godigest.Digest `json:"digest"`
	Image    string          `json:"image"`
	Layer    godigest.Digest `json:"layer"`
	Package  string          `json:"package"`
	Advisory string          `json:"advisory"`
	Reason   string          `json:"reason"`
	Owner    string          `json:"owner"`
	Expires  time.Time       `json:"expires"`
}

// maxText bounds the reason and the owner, in bytes: they stand in every refusal.
const maxText = 1000

func (s *server) addBlock(w http.ResponseWriter, r *http.Request) error {
	if err := newQuery(r).err(); err != nil {
		return err
	}
	var in newBlock
	if err := readJSON(r, &in); err != nil {
		return err
	}
	b := policy.Block{
		Digest: in.Digest, Image: in.Image, Layer: in.Layer, Package: in.Package, Advisory: in.Advisory,
		Reason: strings.TrimSpace(in.Reason), Owner: strings.TrimSpace(in.Owner), Expires: in.Expires, Created: s.Now(),
	}
	if err := s.checkBlock(&b); err != nil {
		return err
	}
	b, err := s.Records.AddBlock(r.Context(), b, actor(r, b.Owner))
	if err != nil {
		return err
	}
	w.Header().Set("Location", Prefix+"/blocklist/"+url.PathEscape(b.ID))
	return writeJSON(w, http.StatusCreated, Blocked{Source: sourceOperator, Block: b})
}

func (s *server) checkBlock(b *policy.Block) error {
	var errs []FieldError
	if err := b.Validate(); err != nil {
		errs = append(errs, FieldError{"", err.Error()})
	}
	if len(b.Reason) > maxText || len(b.Owner) > maxText {
		errs = append(errs, FieldError{"reason", fmt.Sprintf("it and the owner have at most %d bytes", maxText)})
	}
	if !b.Expires.IsZero() && !b.Expires.After(s.Now()) {
		errs = append(errs, FieldError{"expires", b.Expires.Format(time.RFC3339) + " is past"})
	}
	return invalid(errs, http.StatusUnprocessableEntity)
}

func (s *server) removeBlock(w http.ResponseWriter, r *http.Request) error {
	if err := newQuery(r).err(); err != nil {
		return err
	}
	if err := s.Records.RemoveBlock(r.Context(), r.PathValue("id"), actor(r, "")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// OperatorHeader tells who asks, for the audit trail. It is the client's own
// word: the token says that it may ask.
const OperatorHeader = "Sluice-Operator"

// actor names who asks: the operator's word, else fallback, and the address.
func actor(r *http.Request, fallback string) string {
	name := r.Header.Get(OperatorHeader)
	if name == "" || len(name) > 128 {
		name = fallback
	}
	if name == "" {
		name = "operator"
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	return name + " from " + host
}

// readJSON reads the body strictly: one object, known fields, nothing after it.
func readJSON(r *http.Request, v any) error {
	if mt, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || mt != "application/json" {
		return &Problem{Status: http.StatusUnsupportedMediaType, Detail: "the body must be application/json"}
	}
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	err := dec.Decode(v)
	if err == nil {
		if _, err = dec.Token(); errors.Is(err, io.EOF) {
			return nil
		}
		err = errors.New("more than one JSON value")
	}
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return err
	}
	return &Problem{Status: http.StatusBadRequest, Detail: "body: " + strings.TrimPrefix(err.Error(), "json: ")}
}
