package layer

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
)

// pattern repeats itself for ever.
type pattern struct {
	text string
	at   int
}

func (p *pattern) Read(b []byte) (int, error) {
	for n := 0; n < len(b); {
		c := copy(b[n:], p.text[p.at:])
		p.at, n = (p.at+c)%len(p.text), n+c
	}
	return len(b), nil
}

// TestHugeLine reads a text file of 1 GiB (8 MiB with the race detector) on one
// line, with a key at its end, in bounded memory.
func TestHugeLine(t *testing.T) {
	size := int64(1) << 30
	if raceEnabled {
		size = 8 << 20
	}
	const end = "\n-----BEGIN EC PRIVATE KEY-----\n" +
		"MHcCAQEEIIrYSSNQFaA2Hwf1duRSxKtLYX5CB04fSeQ6tF1aY/PuoAoGCCqGSM49\n" +
		"AwEHoUQDQgAEPR3tU2Fta9ktY+6P9G0cWO+0kETA6SFs38GecTyudlHz6xvCdz8q\n" +
		"EKTcWGekdmdDPsHloRNtsiCa697B2O9IFA==\n-----END EC PRIVATE KEY-----\n"
	var head bytes.Buffer
	w := tar.NewWriter(&head)
	if err := w.WriteHeader(&tar.Header{Name: "srv/export.txt", Size: size + int64(len(end)), Mode: 0o644, Typeflag: tar.TypeReg}); err != nil {
		t.Fatal(err)
	}
	pad := strings.Repeat("\x00", int(-(size+int64(len(end)))&511)+1024)
	line := io.LimitReader(&pattern{text: strings.Repeat("export, 1, 2, 3; ", 500) + "token=no password: AKIA ghp_ -----BEGIN nothing eyJ xoxb- "}, size)
	s, err := New(Options{TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	l, err := s.Scan(t.Context(), io.MultiReader(&head, line, strings.NewReader(end+pad)))
	if err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if grown := int64(after.Sys) - int64(before.Sys); grown > 200<<20 {
		t.Errorf("%d MiB were taken from the system", grown>>20)
	}
	if len(l.Secrets) != 1 || l.Secrets[0].Rule != "pem-private-key" || len(l.Incomplete) > 0 {
		t.Errorf("secrets %s, incomplete %s", fmt.Sprint(l.Secrets), fmt.Sprint(l.Incomplete))
	}
}
