package api

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluiceproxy/sluice/proxy/policy"
)

// Whether a waiver counts: values of Waiver.State and of the state parameter.
const (
	stateActive  = "active"
	stateExpired = "expired"
)

// Waiver is an exception that was granted.
type Waiver struct {
	Source string `json:"source"` // operator: granted here; policy: stands in the policy file, without an id
	State  string `json:"state"`  // active or expired
	policy.Waiver
}

// Waivers is a page of waivers: those granted here, the newest first, then
// those of the policy file in its order. Expired ones stay listed.
type Waivers struct {
	Items         []Waiver `json:"items"`
	NextPageToken string   `json:"nextPageToken,omitempty"`
}

func (s *server) waivers(w http.ResponseWriter, r *http.Request) error {
	q := newQuery(r, "advisory", "source", "state", "limit", "page_token")
	advisory, source, state, limit := q.text("advisory"), q.text("source"), q.text("state"), q.limit()
	if source != "" && source != sourceOperator && source != sourcePolicy {
		q.bad("source", fmt.Sprintf("%q is neither operator nor policy", source))
	}
	if state != "" && state != stateActive && state != stateExpired {
		q.bad("state", fmt.Sprintf("%q is neither active nor expired", state))
	}
	after, err := base64.RawURLEncoding.DecodeString(q.text("page_token"))
	if err != nil {
		q.bad("page_token", "it is not one that this list gave")
	}
	if err := q.err(); err != nil {
		return err
	}
	all, err := s.allWaivers(r)
	if err != nil {
		return err
	}
	if len(after) > 0 {
		at := slices.IndexFunc(all, func(l listedWaiver) bool { return l.place == string(after) })
		if at < 0 {
			return &Problem{Status: http.StatusBadRequest, Detail: "page_token: the waiver that it stands at was removed; start again"}
		}
		all = all[at+1:]
	}
	page := Waivers{Items: []Waiver{}}
	last := ""
	for _, l := range all {
		if advisory != "" && !strings.EqualFold(l.Advisory, advisory) || source != "" && l.Source != source || state != "" && l.State != state {
			continue
		}
		if len(page.Items) == limit {
			page.NextPageToken = encodeToken(last)
			break
		}
		page.Items, last = append(page.Items, l.Waiver), l.place
	}
	return writeJSON(w, http.StatusOK, page)
}

// listedWaiver is a Waiver with its place in the list.
type listedWaiver struct {
	Waiver
	place string
}

func (s *server) allWaivers(r *http.Request) ([]listedWaiver, error) {
	granted, err := s.Records.Waivers(r.Context())
	if err != nil {
		return nil, err
	}
	var all []listedWaiver
	add := func(source, place string, w policy.Waiver) {
		all = append(all, listedWaiver{Waiver{Source: source, State: waiverState(&w, s.Now()), Waiver: w}, place})
	}
	for _, w := range granted {
		add(sourceOperator, w.ID, w)
	}
	for i, w := range s.PolicyWaivers() {
		add(sourcePolicy, "policy:"+strconv.Itoa(i), w)
	}
	return all, nil
}

// waiverState is as the policy sees it: a waiver counts to its last moment.
func waiverState(w *policy.Waiver, now time.Time) string {
	if now.After(w.Expires) {
		return stateExpired
	}
	return stateActive
}

// newWaiver is the body of POST /waivers.
type newWaiver struct {
	Advisory string    `json:"advisory"`
	Package  string    `json:"package"`
	Rule     string    `json:"rule"`
	Secret   string    `json:"secret"`
	Path     string    `json:"path"`
	Images   []string  `json:"images"`
	Owner    string    `json:"owner"`
	Reason   string    `json:"reason"`
	Expires  time.Time `json:"expires"`
}

func (s *server) addWaiver(w http.ResponseWriter, r *http.Request) error {
	if err := newQuery(r).err(); err != nil {
		return err
	}
	var in newWaiver
	if err := readJSON(r, &in); err != nil {
		return err
	}
	granted := policy.Waiver{
		Advisory: in.Advisory, Package: in.Package, Rule: in.Rule, Secret: in.Secret, Path: in.Path, Images: in.Images,
		Owner: strings.TrimSpace(in.Owner), Reason: strings.TrimSpace(in.Reason), Expires: in.Expires,
	}
	var errs []FieldError
	if err := granted.Validate(); err != nil {
		errs = append(errs, FieldError{"", err.Error()})
	}
	if !granted.Expires.IsZero() && !granted.Expires.After(s.Now()) {
		errs = append(errs, FieldError{"expires", granted.Expires.Format(time.RFC3339) + " is past"})
	}
	if s.LongestWaiver > 0 && granted.Expires.After(s.Now().Add(s.LongestWaiver)) {
		errs = append(errs, FieldError{"expires", fmt.Sprintf("it is more than %s ahead (waivers.longest of the server)", s.LongestWaiver)})
	}
	if err := invalid(errs, http.StatusUnprocessableEntity); err != nil {
		return err
	}
	granted, err := s.Records.AddWaiver(r.Context(), granted, actor(r, granted.Owner))
	if err != nil {
		return err
	}
	w.Header().Set("Location", Prefix+"/waivers/"+url.PathEscape(granted.ID))
	return writeJSON(w, http.StatusCreated, Waiver{Source: sourceOperator, State: waiverState(&granted, s.Now()), Waiver: granted})
}

func (s *server) removeWaiver(w http.ResponseWriter, r *http.Request) error {
	if err := newQuery(r).err(); err != nil {
		return err
	}
	if err := s.Records.RemoveWaiver(r.Context(), r.PathValue("id"), actor(r, "")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
