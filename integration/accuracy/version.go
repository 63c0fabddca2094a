package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
)

// versions compares versions, each pair once.
type versions struct {
	known  map[[3]string]int
	python *python // nil until it is needed
}

func (v *versions) compare(ctx context.Context, ecosystem, a, b string) (int, error) {
	base, _, _ := strings.Cut(ecosystem, ":")
	key := [3]string{base, a, b}
	if n, ok := v.known[key]; ok {
		return n, nil
	}
	var n int
	var err error
	switch base {
	case "Debian":
		n, err = dpkgCompare(ctx, a, b)
	case "AlmaLinux":
		n, err = rpmCompare(ctx, a, b)
	case "PyPI":
		if v.python == nil {
			v.python, err = startPython(ctx)
		}
		if err == nil {
			n, err = v.python.compare(a, b)
		}
	case "Alpine":
		n = apkCompare(a, b)
	default:
		n = dotted(strings.TrimPrefix(a, "v"), strings.TrimPrefix(b, "v"))
	}
	if err != nil {
		return 0, err
	}
	if v.known == nil {
		v.known = map[[3]string]int{}
	}
	v.known[key] = n
	return n, nil
}

func dpkgCompare(ctx context.Context, a, b string) (int, error) {
	for n, op := range map[int]string{-1: "lt", 1: "gt"} {
		err := exec.CommandContext(ctx, "dpkg", "--compare-versions", a, op, b).Run()
		var exit *exec.ExitError
		switch {
		case err == nil:
			return n, nil
		case !errors.As(err, &exit) || exit.ExitCode() != 1:
			return 0, fmt.Errorf("dpkg --compare-versions %s %s %s: %w", a, op, b, err)
		}
	}
	return 0, nil
}

// rpmCompare compares the epochs as numbers, the rest by rpm.
func rpmCompare(ctx context.Context, a, b string) (int, error) {
	ea, ra, ok := strings.Cut(a, ":")
	if !ok {
		ea, ra = "0", a
	}
	eb, rb, ok := strings.Cut(b, ":")
	if !ok {
		eb, rb = "0", b
	}
	if ea != eb {
		return dotted(ea, eb), nil
	}
	out, err := output(ctx, "", "rpm", "--eval", fmt.Sprintf(`%%{lua:print(rpm.vercmp(%q,%q))}`, ra, rb))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(out))
}

// python compares versions by pip's own library, in one process for all.
type python struct {
	in  io.WriteCloser
	out *bufio.Reader
	cmd *exec.Cmd
}

func startPython(ctx context.Context) (*python, error) {
	p := &python{cmd: exec.CommandContext(ctx, "python3", "-u", "-c", `
import sys
from pip._vendor.packaging.version import Version
for line in sys.stdin:
    a, b = map(Version, line.rstrip("\n").split("\t"))
    print((a > b) - (a < b))`)}
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewReader(out)
	return p, p.cmd.Start()
}

func (p *python) compare(a, b string) (int, error) {
	if _, err := fmt.Fprintf(p.in, "%s\t%s\n", a, b); err != nil {
		return 0, err
	}
	line, err := p.out.ReadString('\n')
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(line))
}

func (v *versions) close() error {
	if v.python == nil {
		return nil
	}
	return errors.Join(v.python.in.Close(), v.python.cmd.Wait())
}

var (
	apkParts = regexp.MustCompile(`^([0-9.]+)([a-z]?)((?:_[a-z]+[0-9]*)*)(?:-r([0-9]+))?$`)
	apkWords = map[string]int{"alpha": -4, "beta": -3, "pre": -2, "rc": -1, "cvs": 1, "svn": 2, "git": 3, "hg": 4, "p": 5}
	word     = regexp.MustCompile(`_([a-z]+)([0-9]*)`)
)

// apkCompare compares numbers, the letter, suffixes and the revision, in this
// order, which is apk's for the versions that Alpine's database and feed have.
func apkCompare(a, b string) int {
	x, y := apkParts.FindStringSubmatch(a), apkParts.FindStringSubmatch(b)
	if x == nil || y == nil {
		return strings.Compare(a, b)
	}
	if n := cmp.Or(dotted(x[1], y[1]), strings.Compare(x[2], y[2])); n != 0 {
		return n
	}
	s, t := word.FindAllStringSubmatch(x[3], -1), word.FindAllStringSubmatch(y[3], -1)
	for i := range max(len(s), len(t)) {
		rank := func(w [][]string) (int, int) {
			if i >= len(w) {
				return 0, 0
			}
			n, _ := strconv.Atoi(w[i][2])
			return apkWords[w[i][1]], n
		}
		sr, sn := rank(s)
		tr, tn := rank(t)
		if n := cmp.Or(cmp.Compare(sr, tr), cmp.Compare(sn, tn)); n != 0 {
			return n
		}
	}
	return dotted("0"+x[4], "0"+y[4])
}

var (
	pieces    = regexp.MustCompile(`[0-9]+|[A-Za-z]+`)
	preletter = regexp.MustCompile(`[-.]?[A-Za-z]`)
)

// dotted compares the numbers of versions up to the first letter, then the rest
// piece by piece; a version without such a rest is the newer one (1.0 > 1.0-rc.1).
// It is what SemVer, RubyGems and Maven agree upon. What follows "+" has no order.
func dotted(a, b string) int {
	a, _, _ = strings.Cut(a, "+")
	b, _, _ = strings.Cut(b, "+")
	split := func(s string) (numbers, rest []string) {
		at := len(s)
		if loc := preletter.FindStringIndex(s); loc != nil {
			at = loc[0]
		}
		if i := strings.IndexByte(s, '-'); i >= 0 {
			at = min(at, i)
		}
		return pieces.FindAllString(s[:at], -1), pieces.FindAllString(s[at:], -1)
	}
	xn, xr := split(a)
	yn, yr := split(b)
	for i := range max(len(xn), len(yn)) {
		if n := cmp.Compare(number(xn, i), number(yn, i)); n != 0 {
			return n
		}
	}
	if len(xr) == 0 || len(yr) == 0 {
		return cmp.Compare(len(yr), len(xr))
	}
	for i := range min(len(xr), len(yr)) {
		p, perr := strconv.Atoi(xr[i])
		q, qerr := strconv.Atoi(yr[i])
		n := strings.Compare(xr[i], yr[i])
		if perr == nil && qerr == nil {
			n = cmp.Compare(p, q)
		}
		if n != 0 {
			return n
		}
	}
	return cmp.Compare(len(xr), len(yr))
}

func number(s []string, i int) int {
	if i >= len(s) {
		return 0
	}
	n, _ := strconv.Atoi(s[i])
	return n
}
