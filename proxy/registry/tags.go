package registry

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/sluiceproxy/sluice/proxy/httpx"
	"github.com/sluiceproxy/sluice/proxy/route"
)

// tags passes on one page of the upstream's list. That a tag exists is no
// secret of the image; what it names is judged when it is pulled.
func (h *Handler) tags(w http.ResponseWriter, r *http.Request, rt route.Route) error {
	q := r.URL.Query()
	n := 0
	if s := q.Get("n"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil || n < 0 {
			return &httpx.OCIError{Status: http.StatusBadRequest, Code: "PAGINATION_NUMBER_INVALID", Message: fmt.Sprintf("n is %q, want a number of tags", s)}
		}
	}
	up, err := h.upstreams.Upstream(rt.Upstream)
	if err != nil {
		return err
	}
	tags, more, err := up.Tags(r.Context(), rt.Repository, n, q.Get("last"))
	if err != nil {
		return err
	}
	if more && len(tags) > 0 {
		next := url.Values{"last": {tags[len(tags)-1]}}
		for _, k := range []string{"n", "ns"} {
			if v := q.Get(k); v != "" {
				next.Set(k, v)
			}
		}
		w.Header().Set("Link", fmt.Sprintf(`</v2/%s/tags/list?%s>; rel="next"`, rt.Asked, next.Encode()))
	}
	if tags == nil {
		tags = []string{}
	}
	body, err := json.Marshal(map[string]any{"name": rt.Asked, "tags": tags})
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body)
	return nil
}
