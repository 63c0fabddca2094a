package registry

// tags passes on one page of the upstream's list, or one of the gated
// registry's. That a tag exists is no secret of the image; what it names is
// judged when it is pulled.
func (h *Handler) tags(c call) error {
	q := c.r.URL.Query()
	n, last, err := page(q)
	if err != nil {
		return err
	}
	var (
		tags []string
		more bool
	)
	if c.rt.Local {
		tags, more, err = h.localTags(c, n, last)
	} else {
		tags, more, err = h.upstreamTags(c, n, last)
	}
	if err != nil {
		return err
	}
	if more && len(tags) > 0 {
		nextPage(c.w, "/v2/"+c.rt.Asked+"/tags/list", q, tags[len(tags)-1])
	}
	if tags == nil {
		tags = []string{}
	}
	return writeJSON(c.w, map[string]any{"name": c.rt.Asked, "tags": tags})
}

func (h *Handler) upstreamTags(c call, n int, last string) ([]string, bool, error) {
	up, err := h.Upstreams.Upstream(c.rt.Upstream)
	if err != nil {
		return nil, false, err
	}
	return up.Tags(c.r.Context(), c.rt.Repository, max(n, 0), last)
}
