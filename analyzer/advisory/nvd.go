package advisory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// nvdItem is the part of an entry of NVD's JSON 2.0 that rates it
// (csrc.nist.gov/schema/nvd/api/2.0/cve_api_json_2.0.schema).
type nvdItem struct {
	CVE struct {
		ID      string `json:"id"`
		Status  string `json:"vulnStatus"`
		Metrics struct {
			V40 []nvdMetric `json:"cvssMetricV40"`
			V31 []nvdMetric `json:"cvssMetricV31"`
			V30 []nvdMetric `json:"cvssMetricV30"`
			V2  []nvdMetric `json:"cvssMetricV2"`
		} `json:"metrics"`
	} `json:"cve"`
}

type nvdMetric struct {
	Type string `json:"type"` // Primary (NVD's own) or Secondary
	Data struct {
		Vector string `json:"vectorString"`
	} `json:"cvssData"`
}

// rating is NVD's own rating, else that of whom it quotes; of each the one of
// the highest CVSS version, and of several of one version the worst.
func (i *nvdItem) rating() rating {
	m := &i.CVE.Metrics
	var primary, secondary rating
	for _, list := range [][]nvdMetric{m.V40, m.V31, m.V30, m.V2} {
		for _, e := range list {
			best := &secondary
			if e.Type == "Primary" {
				best = &primary
			}
			if r, ok := rateVector(e.Data.Vector); ok && r.better(*best) {
				*best = r
			}
		}
	}
	if primary.vector != "" {
		return primary
	}
	return secondary
}

// parseNVD reads a feed or a page of the API, {"vulnerabilities": [{"cve": …}]},
// plain or gzip, and hands every entry with a rating to take. Its memory is that
// of the largest entry, which limits.Record bounds. It returns the number of
// entries and the feed's time.
func parseNVD(ctx context.Context, r io.Reader, limits Limits, take func(cve, rating)) (n int, date time.Time, err error) {
	text, err := gunzip(r)
	if err != nil {
		return 0, date, err
	}
	item := &capped{&capped{text, limits.Text}, limits.Record}
	d := json.NewDecoder(item)
	if err := delimiter(d, '{'); err != nil {
		return 0, date, err
	}
	listed := false
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return n, date, err
		}
		switch key {
		case "timestamp":
			var s string
			if err := d.Decode(&s); err != nil {
				return n, date, err
			}
			date = nvdTime(s)
		case "vulnerabilities":
			listed = true
			if err := delimiter(d, '['); err != nil {
				return n, date, err
			}
			for ; d.More(); n++ {
				if ctx.Err() != nil {
					return n, date, context.Cause(ctx)
				}
				item.left = limits.Record
				if err := nvdEntry(d, take); err != nil {
					return n, date, fmt.Errorf("entry %d: %w", n, err)
				}
			}
			item.left = limits.Record
			if err := delimiter(d, ']'); err != nil {
				return n, date, err
			}
		default:
			var skip json.RawMessage
			if err := d.Decode(&skip); err != nil {
				return n, date, err
			}
		}
	}
	if err := delimiter(d, '}'); err != nil {
		return n, date, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return n, date, errors.New("text after the end")
	}
	if !listed {
		return n, date, errors.New(`no "vulnerabilities"`)
	}
	return n, date, nil
}

func nvdEntry(d *json.Decoder, take func(cve, rating)) error {
	var i nvdItem
	if err := d.Decode(&i); err != nil {
		return err
	}
	c, ok := parseCVE(i.CVE.ID)
	if !ok {
		return fmt.Errorf("cve.id %.40q is no CVE", i.CVE.ID)
	}
	if r := i.rating(); r.vector != "" && i.CVE.Status != "Rejected" {
		take(c, r)
	}
	return nil
}

// delimiter wants a bracket next. A text that ends before it is cut short.
func delimiter(d *json.Decoder, want json.Delim) error {
	t, err := d.Token()
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return err
	}
	if t != want {
		return fmt.Errorf("%v where %v is wanted", t, want)
	}
	return nil
}

// nvdTime reads NVD's times, which name no zone and are UTC.
func nvdTime(s string) time.Time {
	if t := parseTime(s); !t.IsZero() {
		return t
	}
	return parseTime(strings.TrimSuffix(s, "Z") + "Z")
}
