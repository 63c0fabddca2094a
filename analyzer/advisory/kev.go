package advisory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
)

const maxKEV = 64 << 20

// readKEV reads CISA's catalogue of known-exploited vulnerabilities, in its JSON
// form (cisa.gov/known-exploited-vulnerabilities-catalog), from a file or an
// http(s) URL. It returns the catalogue's CVE ids.
func readKEV(ctx context.Context, from string, client *http.Client, limits Limits) (map[string]bool, error) {
	var set map[string]bool
	read := func(r io.Reader, _ int64) (err error) {
		set, err = parseKEV(io.LimitReader(r, maxKEV))
		return err
	}
	if u, err := url.Parse(from); err == nil && (u.Scheme == "http" || u.Scheme == "https") {
		if err := get(ctx, client, u, limits.Stall, read); err != nil {
			return nil, fmt.Errorf("kev: %w", err)
		}
		return set, nil
	}
	if strings.Contains(from, "://") {
		return nil, fmt.Errorf("kev %s: only http, https and files are supported", redact(from))
	}
	f, err := os.Open(from)
	if err != nil {
		return nil, fmt.Errorf("kev: %w", err)
	}
	defer f.Close()
	if err := read(f, 0); err != nil {
		return nil, fmt.Errorf("kev %s: %w", from, err)
	}
	return set, nil
}

func parseKEV(r io.Reader) (map[string]bool, error) {
	var catalogue struct {
		Count           *int `json:"count"`
		Vulnerabilities []struct {
			CVE string `json:"cveID"`
		} `json:"vulnerabilities"`
	}
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, &catalogue); err != nil {
		return nil, fmt.Errorf("not a KEV catalogue: %w", err)
	}
	set := make(map[string]bool, len(catalogue.Vulnerabilities))
	for i, v := range catalogue.Vulnerabilities {
		if !strings.HasPrefix(v.CVE, "CVE-") {
			return nil, fmt.Errorf("not a KEV catalogue: entry %d has no cveID", i)
		}
		set[v.CVE] = true
	}
	if len(set) == 0 {
		return nil, errors.New("not a KEV catalogue: no vulnerabilities")
	}
	if catalogue.Count != nil && *catalogue.Count != len(catalogue.Vulnerabilities) {
		return nil, fmt.Errorf("KEV catalogue holds %d entries of %d", len(catalogue.Vulnerabilities), *catalogue.Count)
	}
	return set, nil
}
