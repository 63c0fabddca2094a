package extract

import "testing"

// BenchmarkWants is asked for every file of every layer.
func BenchmarkWants(b *testing.B) {
	e := newExtractor(b, Options{})
	paths := []string{"usr/share/doc/base-files/copyright", "usr/lib/python3/dist-packages/django/db/models/base.py", "usr/lib/x86_64-linux-gnu/libc.so.6", "etc/passwd"}
	for b.Loop() {
		for _, p := range paths {
			e.Wants(p, nil)
		}
	}
}
