package gate

import (
	"bytes"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluiceproxy/sluice/proxy/policy"
)

// TestBaseRule: an image needs a base that came through here from whom the policy
// trusts, and passes once that is so.
func TestBaseRule(t *testing.T) {
	w := newTagWorld(t, "  - name: built\n    images: [\"up/app\"]\n    base: {required: true, trusted: [\"up/debian\"]}\n")
	w.image("debian:12", []string{"base"})
	w.image("evil:12", []string{"evil base"})
	w.image("copy:12", []string{"base"})
	w.image("app:1", []string{"base"}, []string{"own"})
	w.image("app:2", []string{"evil base"}, []string{"own"})

	_, err := w.pull("app:1")
	wantRule(t, err, policy.RuleBaseUnknown)
	if _, err := w.pull("evil:12"); err != nil {
		t.Fatal(err)
	}
	_, err = w.pull("app:2")
	wantRule(t, err, policy.RuleBaseUntrusted)
	if _, err := w.pull("copy:12"); err != nil { // the same layers by another name
		t.Fatal(err)
	}
	w.pass(2 * time.Minute)
	_, err = w.pull("app:1")
	wantRule(t, err, policy.RuleBaseUntrusted)
	if _, err := w.pull("debian:12"); err != nil {
		t.Fatal(err)
	}
	w.pass(2 * time.Minute)
	if _, err := w.pull("app:1"); err != nil {
		t.Fatal(err)
	}
	_, err = w.pull("app:2")
	wantRule(t, err, policy.RuleBaseUntrusted)
}

// TestThreatTagSwap: an upstream that names another digest on every request gets
// nothing served that was not judged.
func TestThreatTagSwap(t *testing.T) {
	w := newWorldWith(t, t.TempDir(), func(o *Options) { o.TagTTL = 0 })
	w.image("app:good", []string{"fine"})
	w.image("app:evil", []string{"bad"})
	var turn atomic.Int64
	swap := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if rest, ok := strings.CutSuffix(r.URL.Path, "/manifests/1"); ok {
			r.URL.Path = rest + "/manifests/" + []string{"good", "evil"}[turn.Add(1)%2]
		}
		w.registry.ServeHTTP(rw, r)
	})
	w.answer.Store(&swap)
	served, refused := 0, 0
	for range 200 {
		a, err := w.pull("app:1")
		switch {
		case denied(err):
			refused++
		case err != nil:
			t.Fatal(err)
		default:
			served++
			if want := w.goodBytes(); !bytes.Equal(a.Bytes, want) || a.Verdict.Decision != policy.Allow {
				t.Fatalf("served %s under %s", a.Manifest.Descriptor.Digest, a.Verdict.Decision)
			}
		}
	}
	if served == 0 || refused == 0 {
		t.Errorf("%d served, %d refused: nothing was swapped", served, refused)
	}
}

// goodBytes is the manifest that may be served.
func (w *world) goodBytes() []byte {
	a, err := w.pull("app:good")
	if err != nil {
		w.t.Fatal(err)
	}
	return a.Bytes
}
