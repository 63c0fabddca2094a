package gate

import (
	"net/textproto"
	"strings"

	"github.com/sluiceproxy/sluice/proxy/policy"
)

// maxWarning bounds the header (OCI distribution 1.1, "Warnings": 4096 bytes
// in all).
const maxWarning = 1024

// warning is warningText of a verdict.
func warning(v policy.Verdict) string { return warningText(v.Summary()) }

// warningText is a warning header's value: code 299, no agent, the text quoted
// (RFC 7234, section 5.5).
func warningText(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return ' '
		}
		return r
	}, text)
	if len(text) > maxWarning {
		text = text[:maxWarning] + "..."
	}
	text = strings.ReplaceAll(strings.ReplaceAll(text, `\`, `\\`), `"`, `\"`)
	return `299 - "` + textproto.TrimString(text) + `"`
}

// warn is warning, which it makes once for each verdict in turn.
func (e *entry) warn(v policy.Verdict) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.warned != v.ID || !e.at.Equal(v.At) {
		e.warning, e.warned, e.at = warning(v), v.ID, v.At
	}
	return e.warning
}
