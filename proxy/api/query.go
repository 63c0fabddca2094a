package api

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluiceproxy/sluice/proxy/policy"
)

// Lists have at most maxLimit items on a page, defaultLimit unless asked.
const (
	maxLimit     = 500
	defaultLimit = 100
)

// query reads the parameters of a list strictly and collects what is wrong.
type query struct {
	values url.Values
	errs   []FieldError
}

// newQuery refuses parameters that are not in names, and those given twice.
func newQuery(r *http.Request, names ...string) *query {
	values, err := url.ParseQuery(r.URL.RawQuery)
	q := &query{values: values}
	if err != nil {
		q.bad("", "the query cannot be read: "+err.Error())
	}
	for name, v := range values {
		switch {
		case !slices.Contains(names, name):
			q.bad(name, "unknown parameter; known are "+strings.Join(names, ", "))
		case len(v) > 1:
			q.bad(name, "given more than once")
		}
	}
	slices.SortFunc(q.errs, func(a, b FieldError) int { return strings.Compare(a.Field, b.Field) })
	return q
}

func (q *query) bad(field, detail string) { q.errs = append(q.errs, FieldError{field, detail}) }

func (q *query) text(name string) string { return q.values.Get(name) }

func (q *query) limit() int {
	s := q.text("limit")
	if s == "" {
		return defaultLimit
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > maxLimit {
		q.bad("limit", fmt.Sprintf("%q is not a number from 1 to %d", s, maxLimit))
	}
	return n
}

// decision reads that of a verdict; Undecided without one.
func (q *query) decision() policy.Decision {
	var d policy.Decision
	if s := q.text("decision"); s != "" {
		if err := d.UnmarshalText([]byte(s)); err != nil || d == policy.Undecided {
			q.bad("decision", fmt.Sprintf("%q is not allow, annotate, deny or pending", s))
		}
	}
	return d
}

// image reads a pattern of canonical names; "" without one.
func (q *query) image() string {
	s := q.text("image")
	if s != "" {
		if _, err := policy.ParseGlob(s); err != nil {
			q.bad("image", err.Error())
		}
	}
	return s
}

// since reads a time (RFC 3339) or a duration before now.
func (q *query) since(now time.Time) time.Time {
	s := q.text("since")
	if s == "" {
		return time.Time{}
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d)
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		q.bad("since", fmt.Sprintf("%q is neither a time such as 2026-11-23T10:00:00Z nor a duration such as 24h", s))
	}
	return t
}

// err returns a Problem with all that is wrong, nil when nothing is.
func (q *query) err() error { return invalid(q.errs, http.StatusBadRequest) }

// invalid returns a Problem of errs, nil for none.
func invalid(errs []FieldError, status int) error {
	if len(errs) == 0 {
		return nil
	}
	details := make([]string, len(errs))
	for i, e := range errs {
		details[i] = strings.TrimPrefix(e.Field+": "+e.Detail, ": ")
	}
	return &Problem{Status: status, Detail: strings.Join(details, "; "), Errors: errs}
}
