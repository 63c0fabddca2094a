package configs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	second = Duration(time.Second)
	minute = Duration(time.Minute)
	hour   = Duration(time.Hour)
	day    = 24 * hour
)

// Duration is a span of time of zero or more, written as Go writes it (90s,
// 1h30m) or in whole days (5d).
type Duration time.Duration

// String writes d in the shortest form that UnmarshalText reads.
func (d Duration) String() string {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// MarshalText writes what String writes.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads a duration. A negative one, and a number without a unit
// other than 0, is an error.
func (d *Duration) UnmarshalText(b []byte) error {
	s := string(b)
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		if err == nil {
			*d = Duration(n) * day
			return nil
		}
	}
	v, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Errorf("%q is not a duration such as 20s, 5m or 120h", s)
	}
	if v < 0 {
		return fmt.Errorf("%q is negative", s)
	}
	*d = Duration(v)
	return nil
}

// Size is a number of bytes of zero or more, written with a binary unit
// (64KiB, 10GiB), a decimal one (1GB) or none.
type Size int64

var units = []struct {
	name  string
	bytes int64
}{
	{"TiB", 1 << 40},
	{"GiB", 1 << 30},
	{"MiB", 1 << 20},
	{"KiB", 1 << 10},
	{"TB", 1e12},
	{"GB", 1e9},
	{"MB", 1e6},
	{"kB", 1e3},
	{"B", 1},
}

// String writes s in the largest binary unit that divides it.
func (s Size) String() string {
	for _, u := range units[:4] {
		if s != 0 && int64(s)%u.bytes == 0 {
			return strconv.FormatInt(int64(s)/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// MarshalText writes what String writes.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads a size in whole units.
func (s *Size) UnmarshalText(b []byte) error {
	number, unit := string(b), int64(1)
	for _, u := range units {
		if n, ok := strings.CutSuffix(number, u.name); ok {
			number, unit = strings.TrimSpace(n), u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 {
		return fmt.Errorf("%q is not a size such as 65536, 64KiB or 10GiB", b)
	}
	if n > math.MaxInt64/unit {
		return fmt.Errorf("%q is too large", b)
	}
	*s = Size(n * unit)
	return nil
}

// Secret is a value that is never printed. string(s) reveals it.
type Secret string

const hidden = "[redacted]"

// String hides the value.
func (s Secret) String() string { return string(s.redacted()) }

// GoString hides the value from %#v.
func (s Secret) GoString() string { return strconv.Quote(s.String()) }

// MarshalText hides the value.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

func (s Secret) redacted() Secret {
	if s == "" {
		return ""
	}
	return hidden
}

// maxSecret is more than any token of a registry has.
const maxSecret = 64 << 10

// ReadSecret returns value when it is set, else the content of file without
// the space around it, else "". An empty file is an error: it would turn a
// check off.
func ReadSecret(value Secret, file string) (Secret, error) {
	if value != "" || file == "" {
		return value, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("secret: %w", err)
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return "", fmt.Errorf("secret: %w", err)
	}
	b = bytes.TrimSpace(b)
	switch {
	case len(b) == 0:
		return "", fmt.Errorf("secret file %s: %w", file, errors.New("it is empty"))
	case len(b) > maxSecret:
		return "", fmt.Errorf("secret file %s: %w", file, errors.New("it is larger than 64 KiB"))
	}
	return Secret(b), nil
}
