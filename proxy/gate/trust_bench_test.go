package gate

import (
	"testing"

	"go.uber.org/zap"

	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/signing"
)

// BenchmarkTrust is what a demand for signatures costs. First is the search and
// the verification of a signed image whose signature is in the store; its time
// includes the registry, which runs in the same process. Judge is the
// verification alone. Warm is a pull after it, and plain one without a demand.
func BenchmarkTrust(b *testing.B) {
	w := newTrustWorld(b, byRelease)
	w.opts.Log = zap.NewNop()
	d := w.imageOf("app:1", "fine")
	w.sign("app", d)
	ref := "app@" + d.Digest.String()
	if _, err := w.pull(ref); err != nil {
		b.Fatal(err)
	}
	rt := w.route("app", d.Digest)
	e, err := w.entry(b.Context(), rt, d.Digest)
	if err != nil {
		b.Fatal(err)
	}
	v := w.Policy().Trusts("up/app", d.Digest)[0].Verifier
	b.Run("first", func(b *testing.B) {
		for b.Loop() {
			ev, err := w.collect(rt, e)
			if err != nil {
				b.Fatal(err)
			}
			if r, err := v.Judge(b.Context(), ev, w.now()); err != nil || r.Outcome != signing.Pass {
				b.Fatal(r.Reason, err)
			}
		}
	})
	ev, err := w.collect(rt, e)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("judge", func(b *testing.B) {
		for b.Loop() {
			if r, err := v.Judge(b.Context(), ev, w.now()); err != nil || r.Outcome != signing.Pass {
				b.Fatal(r.Reason, err)
			}
		}
	})
	warm := func(b *testing.B) {
		for b.Loop() {
			if _, err := w.pull(ref); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("warm", warm)
	p, err := policy.Parse("test.yaml", []byte(rules))
	if err != nil {
		b.Fatal(err)
	}
	w.SetPolicy(p)
	b.Run("plain", warm)
}
