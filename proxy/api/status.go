package api

import (
	"net/http"

	"github.com/sluiceproxy/sluice/proxy/records"
)

// AuditPage is one page of the audit trail, the newest first.
type AuditPage struct {
	Items         []records.AuditEntry `json:"items"`
	NextPageToken string               `json:"nextPageToken,omitempty"`
}

func (s *server) audit(w http.ResponseWriter, r *http.Request) error {
	q := newQuery(r, "by", "action", "target", "since", "limit", "page_token")
	f := records.AuditFilter{
		By: q.text("by"), Action: q.text("action"), Target: q.text("target"),
		Since: q.since(s.Now()), Limit: q.limit(), PageToken: q.text("page_token"),
	}
	if err := q.err(); err != nil {
		return err
	}
	items, next, err := s.Records.Audit(r.Context(), f)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, AuditPage{Items: list(items), NextPageToken: next})
}

func (s *server) advisories(w http.ResponseWriter, r *http.Request) error {
	if err := newQuery(r).err(); err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, s.Advisories())
}

func (s *server) policy(w http.ResponseWriter, r *http.Request) error {
	if err := newQuery(r).err(); err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, s.Policy())
}

func (s *server) openAPI(w http.ResponseWriter, _ *http.Request) error {
	write(w, http.StatusOK, "application/json", openAPI)
	return nil
}
