package target

import (
	"fmt"
	"net/url"

	"github.com/sluiceproxy/sluice/proxy/gate"
)

// Repository returns the repository that an image reference names, with the tag
// or digest in it: a Target without an Image. No registry is asked.
func Repository(spec string, opts Options) (t *Target, reference string, err error) {
	name, tag, dgst, err := splitReference(spec)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", spec, err)
	}
	table, client, err := registries(name, opts)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", spec, err)
	}
	if reference = tag; dgst != "" {
		reference = dgst
	}
	rt, err := table.Parse(&url.URL{Path: "/v2/" + name + "/manifests/" + reference})
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w: %w", spec, ErrInvalid, err)
	}
	up, err := client.Upstream(rt.Upstream)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", spec, err)
	}
	t = &Target{Name: rt.Name, Upstream: rt.Upstream, Repository: rt.Repository, Source: gate.NewSource(up, rt.Repository, nil)}
	if tag != "" {
		t.Tags = []string{tag}
	}
	return t, reference, nil
}
