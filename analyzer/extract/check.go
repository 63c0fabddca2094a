package extract

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/sluiceproxy/sluice/analyzer"
)

// maxNesting is how deep brackets may nest in a document. Recursive parsers
// pay for each level with stack, and a Go stack overflow cannot be recovered.
const maxNesting = 2000

// checkNesting refuses documents whose brackets nest deeper than maxNesting.
// It counts without knowing strings, so it may refuse a document that only
// quotes that many brackets.
func checkNesting(c Content) error {
	buf := make([]byte, 64<<10)
	depth := 0
	for off := int64(0); off < c.Size; {
		n, err := c.ReadAt(buf[:min(int64(len(buf)), c.Size-off)], off)
		for _, b := range buf[:n] {
			switch b {
			case '[', '{', '(':
				if depth++; depth > maxNesting {
					return fmt.Errorf("nested deeper than %d levels", maxNesting)
				}
			case ']', '}', ')':
				depth = max(0, depth-1)
			}
		}
		off += int64(n)
		if n == 0 || err != nil && !errors.Is(err, io.EOF) {
			return err
		}
	}
	return nil
}

// checkAPK compares the packages with the records of an apk database (apk(5):
// a record names its package in a line "P:").
func checkAPK(c Content, got []analyzer.Package) error {
	want := 0
	err := eachLine(c, func(line []byte) {
		if bytes.HasPrefix(line, []byte("P:")) {
			want++
		}
	})
	if err == nil && want == 0 && c.Size > 0 && len(got) == 0 {
		err = blank(c)
	}
	return errors.Join(err, shortfall(want, len(got)))
}

// checkDpkg compares the packages with the records of a dpkg database that say
// they are installed (deb-control(5), dpkg-query(1)). Files in status.d carry no
// Status field: there every record counts.
func checkDpkg(c Content, got []analyzer.Package) error {
	want, named, status, seen := 0, false, "", 0
	flush := func() {
		if named && (status == "" || strings.HasSuffix(status, " installed")) {
			want++
		}
		named, status = false, ""
	}
	err := eachLine(c, func(line []byte) {
		if v, ok := field(line, "package:"); ok {
			named = v != ""
			seen++
		} else if v, ok := field(line, "status:"); ok {
			status = v
		} else if len(bytes.TrimSpace(line)) == 0 {
			flush()
		}
	})
	flush()
	if err == nil && seen == 0 {
		err = blank(c)
	}
	return errors.Join(err, shortfall(want, len(got)))
}

// field returns the value of a control field, whose name is given in lower case.
func field(line []byte, name string) (string, bool) {
	if len(line) < len(name) || !strings.EqualFold(string(line[:len(name)]), name) {
		return "", false
	}
	return strings.TrimSpace(string(line[len(name):])), true
}

// blank accepts a database of white space only, which an empty system has.
func blank(c Content) error {
	b, err := io.ReadAll(io.NewSectionReader(c, 0, min(c.Size, 4<<10)))
	if err != nil {
		return err
	}
	if len(bytes.TrimSpace(b)) == 0 {
		return nil
	}
	return errors.New("no record found")
}

func shortfall(want, got int) error {
	if got >= want {
		return nil
	}
	return fmt.Errorf("%d of %d installed packages could not be read", want-got, want)
}

// goMagic starts the build information that the Go linker writes, at a multiple
// of 16 bytes (debug/buildinfo).
var goMagic = []byte("\xff Go buildinf:")

// checkGo finds a Go binary whose build information could not be read, which
// scalibr takes for a program in another language.
func checkGo(c Content, got []analyzer.Package) error {
	if len(got) > 0 {
		return nil
	}
	const step = 256 << 10
	buf := make([]byte, step+len(goMagic))
	for off := int64(0); off < c.Size; off += step {
		n, err := c.ReadAt(buf[:min(int64(len(buf)), c.Size-off)], off)
		for b, base := buf[:n], off; ; {
			i := bytes.Index(b, goMagic)
			if i < 0 {
				break
			}
			if (base+int64(i))%16 == 0 {
				return errors.New("build information cannot be read")
			}
			base += int64(i + 1)
			b = b[i+1:]
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return &machineError{err}
		}
	}
	return nil
}

func eachLine(c Content, f func([]byte)) error {
	r := bufio.NewReaderSize(io.NewSectionReader(c, 0, c.Size), 64<<10)
	for {
		line, prefix, err := r.ReadLine()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		f(line)
		for prefix && err == nil { // the rest of a long line is nobody's field
			_, prefix, err = r.ReadLine()
		}
	}
}
