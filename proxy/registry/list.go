package registry

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/sluiceproxy/sluice/proxy/auth"
	"github.com/sluiceproxy/sluice/proxy/httpx"
	"github.com/sluiceproxy/sluice/proxy/route"
)

// maxPage is how many names one page of a list holds at most.
const maxPage = 1000

// page reads the parameters of a list. n is -1 where none was given.
func page(q url.Values) (n int, last string, err error) {
	n, last = -1, q.Get("last")
	if s := q.Get("n"); s != "" {
		if n, err = strconv.Atoi(s); err != nil || n < 0 {
			return 0, "", &httpx.OCIError{Status: http.StatusBadRequest, Code: "PAGINATION_NUMBER_INVALID", Message: fmt.Sprintf("n is %q, want a number", s)}
		}
	}
	return n, last, nil
}

// nextPage tells where the list goes on (RFC 8288).
func nextPage(w http.ResponseWriter, path string, q url.Values, last string) {
	next := url.Values{"last": {last}}
	for _, k := range []string{"n", "ns"} {
		if v := q.Get(k); v != "" {
			next.Set(k, v)
		}
	}
	w.Header().Set("Link", fmt.Sprintf(`<%s?%s>; rel="next"`, path, next.Encode()))
}

func writeJSON(w http.ResponseWriter, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body)
	return nil
}

// localTags lists the tags of a repository of the gated registry.
func (h *Handler) localTags(c call, n int, last string) (tags []string, more bool, err error) {
	if n == 0 {
		return nil, false, nil
	}
	if n < 0 || n > maxPage {
		n = maxPage
	}
	tags, more, err = h.Local.Records().Tags(c.r.Context(), c.rt.Name, last, n)
	if err != nil || len(tags) > 0 || last != "" {
		return tags, more, err
	}
	known, err := h.Local.Records().LocalKnown(c.r.Context(), c.rt.Name)
	if err == nil && !known {
		err = fmt.Errorf("%w: nothing was pushed to %s", route.ErrNameUnknown, c.rt.Name)
	}
	return nil, false, err
}

// catalog lists the repositories of the gated registry that the caller may pull
// from (distribution's API, "Catalog"; not part of OCI distribution 1.1).
func (h *Handler) catalog(c call) error {
	q := c.r.URL.Query()
	n, last, err := page(q)
	if err != nil {
		return err
	}
	if n < 0 || n > maxPage {
		n = maxPage
	}
	names := []string{}
	more := h.Local != nil
	for more && len(names) < n {
		some, err := h.Local.Records().LocalRepositories(c.r.Context(), last, n)
		if err != nil {
			return err
		}
		more = len(some) == n
		for _, name := range some {
			if len(names) == n {
				more = true
				break
			}
			if last = name; !strings.HasPrefix(name, route.SidePrefix+"/") && h.Auth.Allowed(c.id, auth.Pull, name) {
				names = append(names, name)
			}
		}
	}
	if more {
		nextPage(c.w, "/v2/_catalog", q, last)
	}
	return writeJSON(c.w, map[string]any{"repositories": names})
}
