package advisory

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
)

const (
	maxEPSS        = 512 << 20 // bytes of text
	maxEPSSEntries = 5_000_000
)

// epss are FIRST's probabilities of exploitation (first.org/epss), in millionths.
type epss struct {
	scores map[cve]uint32
	model  string
	date   time.Time
}

// cve is a CVE id as a number: the year and the number in it.
type cve uint64

// parseCVE reads CVE-2024-0001.
func parseCVE(id string) (cve, bool) {
	rest, ok := strings.CutPrefix(id, "CVE-")
	if !ok || len(rest) < 6 || len(rest) > 16 || rest[4] != '-' || !digits(rest[:4]) || !digits(rest[5:]) {
		return 0, false
	}
	year, err := strconv.ParseUint(rest[:4], 10, 16)
	number, err2 := strconv.ParseUint(rest[5:], 10, 40)
	return cve(year<<40 | number), err == nil && err2 == nil
}

// of returns the highest score of ids in millionths + 1; 0 = none is known.
func (e *epss) of(ids []string) uint32 {
	var best uint32
	if e == nil {
		return 0
	}
	for _, id := range ids {
		if c, ok := parseCVE(id); ok {
			if s, ok := e.scores[c]; ok {
				best = max(best, s+1)
			}
		}
	}
	return best
}

// gunzip returns what r holds, decompressed if it is gzip.
func gunzip(r io.Reader) (io.Reader, error) {
	b := bufio.NewReaderSize(r, 1<<16)
	if magic, err := b.Peek(2); err != nil || magic[0] != 0x1f || magic[1] != 0x8b {
		return b, nil //nolint:nilerr // too short for gzip; whoever reads it sees the error
	}
	return gzip.NewReader(b)
}

// capped fails after left bytes.
type capped struct {
	r    io.Reader
	left int64
}

var errTooLarge = errors.New("larger than the limit")

func (c *capped) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errTooLarge
	}
	n, err := c.r.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	return n, err
}

// parseEPSS reads a file epss_scores-*.csv or .csv.gz: a comment with the model's
// version and the date of the scores, a header, and a line for each CVE. Every
// line must be whole, so that half a file is an error.
func parseEPSS(r io.Reader) (*epss, error) {
	text, err := gunzip(r)
	if err != nil {
		return nil, fmt.Errorf("not an EPSS file: %w", err)
	}
	lines := bufio.NewReaderSize(&capped{text, maxEPSS}, 1<<16)
	e := &epss{scores: make(map[cve]uint32)}
	line, err := csvLine(lines)
	if err != nil {
		return nil, fmt.Errorf("not an EPSS file: %w", err)
	}
	if !e.comment(strings.TrimPrefix(string(line), "\ufeff")) {
		return nil, errors.New("not an EPSS file: it does not begin with #model_version:…,score_date:…")
	}
	if line, err = csvLine(lines); err != nil || !strings.HasPrefix(string(line)+",", "cve,epss,") {
		return nil, errors.New("not an EPSS file: no header cve,epss,percentile")
	}
	for n := 3; ; n++ {
		line, err := csvLine(lines)
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = e.score(line)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if len(e.scores) > maxEPSSEntries {
			return nil, fmt.Errorf("more than %d entries", maxEPSSEntries)
		}
	}
	if len(e.scores) == 0 {
		return nil, errors.New("no scores")
	}
	return e, nil
}

// comment reads "#model_version:v2025.03.14,score_date:2026-05-18T00:00:00Z".
func (e *epss) comment(line string) bool {
	fields, ok := strings.CutPrefix(line, "#")
	if !ok {
		return false
	}
	for f := range strings.SplitSeq(fields, ",") {
		switch k, v, _ := strings.Cut(strings.TrimSpace(f), ":"); k {
		case "model_version":
			e.model = v
		case "score_date":
			for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05-0700", time.DateOnly} {
				if t, err := time.Parse(layout, v); err == nil {
					e.date = t.UTC()
				}
			}
		}
	}
	return e.model != "" && len(e.model) <= 64 && printable(e.model) && !e.date.IsZero()
}

// score reads "CVE-2024-0001,0.00043,0.0821".
func (e *epss) score(line []byte) error {
	id, rest, ok := bytes.Cut(line, []byte(","))
	c, isCVE := parseCVE(string(id))
	if !ok || !isCVE {
		return fmt.Errorf("%.80q does not begin with a CVE", line)
	}
	number, _, _ := bytes.Cut(rest, []byte(","))
	s, err := strconv.ParseFloat(string(number), 64)
	if err != nil || !(s >= 0 && s <= 1) {
		return fmt.Errorf("%s: %.40q is no probability", id, number)
	}
	e.scores[c] = uint32(math.Round(s * 1e6))
	return nil
}

// csvLine returns the next line without its end; io.EOF where there is none, and
// an error for one that is cut short or too long.
func csvLine(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	switch {
	case err == nil:
		return bytes.TrimRight(line, "\r\n"), nil
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, errors.New("longer than any line of the format")
	case errors.Is(err, io.EOF) && len(line) > 0:
		return nil, fmt.Errorf("%.80q is cut short: %w", line, io.ErrUnexpectedEOF)
	}
	return nil, err
}
