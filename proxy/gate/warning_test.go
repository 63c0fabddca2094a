package gate

import (
	"strings"
	"testing"
	"time"

	"github.com/sluiceproxy/sluice/proxy/policy"
)

// TestWarningIsOneSafeLine: texts of packages and policies are foreign.
func TestWarningIsOneSafeLine(t *testing.T) {
	v := policy.Verdict{ID: "v-1", Decision: policy.Annotate, Reasons: []policy.Reason{{
		Action: policy.Annotate, Message: "a \"quoted\" back\\slash\r\nSet-Cookie: x=1 é " + strings.Repeat("long ", 1000),
	}}}
	got := warning(v)
	if !strings.HasPrefix(got, `299 - "a \"quoted\" back\\slash  Set-Cookie`) || strings.ContainsAny(got, "\r\né") || len(got) > 4096 || !strings.HasSuffix(got, `..."`) {
		t.Errorf("warning = %.200q, %d bytes", got, len(got))
	}
}

// TestWarningIsKeptWithItsVerdict and made anew for the next one.
func TestWarningIsKeptWithItsVerdict(t *testing.T) {
	e := &entry{}
	v := policy.Verdict{ID: "v-1", Decision: policy.Annotate, At: time.Unix(1, 0)}
	if n := testing.AllocsPerRun(10, func() { e.warn(v) }); n > 0 {
		t.Errorf("%v allocations for a text that was made before", n)
	}
	first := e.warn(v)
	v.ID = "v-2"
	if second := e.warn(v); second == first || second != warning(v) {
		t.Errorf("the next verdict's warning is %q", second)
	}
	v.At, v.Reasons = time.Unix(2, 0), []policy.Reason{{Action: policy.Annotate, Message: "other"}}
	if third := e.warn(v); third != warning(v) {
		t.Errorf("the same verdict taken again has the warning %q", third)
	}
}
