package registry

import (
	"errors"
	"net/http"
	"testing"

	"github.com/sluiceproxy/sluice/proxy/httpx"
)

func TestByteRange(t *testing.T) {
	const size = 100
	for _, tt := range []struct {
		header   string
		from, to int64
		partial  bool
		refused  bool
	}{
		{header: "", from: 0, to: 100},
		{header: "bytes=0-9", from: 0, to: 10, partial: true},
		{header: "bytes=90-", from: 90, to: 100, partial: true},
		{header: "bytes=90-500", from: 90, to: 100, partial: true},
		{header: "bytes=99-99", from: 99, to: 100, partial: true},
		{header: "bytes=-10", from: 90, to: 100, partial: true},
		{header: "bytes=-500", from: 0, to: 100, partial: true},
		{header: "bytes=100-", refused: true},
		{header: "bytes=-0", refused: true},
		{header: "bytes=9-0", from: 0, to: 100}, // invalid specs are ignored (RFC 9110, 14.2)
		{header: "bytes=0-1,5-6", from: 0, to: 100},
		{header: "bytes=x-y", from: 0, to: 100},
		{header: "bytes=0-x", from: 0, to: 100},
		{header: "lines=0-9", from: 0, to: 100},
		{header: "bytes=9223372036854775808-", from: 0, to: 100},
	} {
		t.Run(tt.header, func(t *testing.T) {
			from, to, partial, err := byteRange(tt.header, size)
			var oci *httpx.OCIError
			if refused := errors.As(err, &oci) && oci.Status == http.StatusRequestedRangeNotSatisfiable; refused != tt.refused {
				t.Fatalf("error = %v", err)
			}
			if !tt.refused && (from != tt.from || to != tt.to || partial != tt.partial) {
				t.Errorf("[%d, %d) partial %v, want [%d, %d) %v", from, to, partial, tt.from, tt.to, tt.partial)
			}
		})
	}
}

func FuzzByteRange(f *testing.F) {
	for _, s := range []string{"bytes=0-9", "bytes=-1", "bytes=5-", "bytes=9223372036854775807-9223372036854775807"} {
		f.Add(s, int64(10))
	}
	f.Fuzz(func(t *testing.T, h string, size int64) {
		if size < 0 {
			return
		}
		from, to, _, err := byteRange(h, size)
		if err == nil && (from < 0 || to > size || from > to) {
			t.Fatalf("%q of %d: [%d, %d)", h, size, from, to)
		}
	})
}

// TestWarningIsOneSafeLine: texts of packages and policies are foreign.
