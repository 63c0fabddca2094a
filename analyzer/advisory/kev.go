package advisory

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

const maxKEV = 64 << 20

// kev is CISA's catalogue of known-exploited vulnerabilities
// (cisa.gov/known-exploited-vulnerabilities-catalog).
type kev struct {
	ids  map[string]bool // CVEs
	date time.Time       // of its release
}

// parseKEV reads the catalogue in its JSON form.
func parseKEV(r io.Reader) (*kev, error) {
	var catalogue struct {
		Count           *int   `json:"count"`
		Released        string `json:"dateReleased"`
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
	k := &kev{ids: make(map[string]bool, len(catalogue.Vulnerabilities)), date: parseTime(catalogue.Released)}
	for i, v := range catalogue.Vulnerabilities {
		if !strings.HasPrefix(v.CVE, "CVE-") {
			return nil, fmt.Errorf("not a KEV catalogue: entry %d has no cveID", i)
		}
		k.ids[v.CVE] = true
	}
	if len(k.ids) == 0 {
		return nil, errors.New("not a KEV catalogue: no vulnerabilities")
	}
	if catalogue.Count != nil && *catalogue.Count != len(catalogue.Vulnerabilities) {
		return nil, fmt.Errorf("KEV catalogue holds %d entries of %d", len(catalogue.Vulnerabilities), *catalogue.Count)
	}
	return k, nil
}
