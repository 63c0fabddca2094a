package integration

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// pair is one expected or reported finding.
type pair struct{ Package, Advisory string }

// compareFindings compares the findings on a real AlmaLinux 9 image with a count
// that shares no code with the program: packages from rpm itself, advisories
// from the archive, versions compared by rpmvercmp below. Advisories that are
// errata without a CVE (bug fixes, enhancements) are no vulnerabilities and no
// findings.
func compareFindings(t *testing.T, s *server) {
	const name = "almalinux-9-20231124-aarch64-micro"
	path := shared(t, filepath.Join("rootfs", name+".tar.xz"))
	feed := shared(t, filepath.Join("osv", "AlmaLinux", "all.zip"))
	want := expected(t, installed(t, archive(t, path)), feed, "AlmaLinux:9")
	if len(want) < 10 {
		t.Fatalf("only %d findings expected: the count cannot be right", len(want))
	}

	s.get(t, "/v2/up/"+name+"/manifests/real") // judged, whatever the decision
	t.Logf("%d findings expected", len(want))
	if diff := cmp.Diff(want, s.findings(t, "up/"+name)); diff != "" {
		t.Errorf("findings (-independent count +sluice):\n%s", diff)
	}
}

// findings returns what the server found in the image that has this name.
func (s *server) findings(t *testing.T, image string) []pair {
	t.Helper()
	list := s.verdicts(t, map[string][]string{"image": {image}})
	if len(list) != 1 {
		t.Fatalf("%d verdicts of %s, want 1", len(list), image)
	}
	a := s.api(t, http.MethodGet, "/verdicts/"+list[0].Digest, nil)
	var explained struct {
		Evidence struct {
			Findings []struct {
				Advisory string `json:"advisory"`
				Package  struct {
					Name string `json:"name"`
				} `json:"package"`
			} `json:"findings"`
		} `json:"evidence"`
	}
	if err := json.Unmarshal(a.body, &explained); err != nil || a.status != http.StatusOK {
		t.Fatalf("GET /verdicts/%s: %d (%v)", list[0].Digest, a.status, err)
	}
	var out []pair
	for _, f := range explained.Evidence.Findings {
		out = append(out, pair{f.Package.Name, f.Advisory})
	}
	return sorted(out)
}

// rpmPackage is an installed package, its version as epoch:version-release.
type rpmPackage struct{ name, evr string }

// installed unpacks the rpm database of a root file system and asks rpm for it.
func installed(t *testing.T, rootfs []byte) []rpmPackage {
	t.Helper()
	db := t.TempDir()
	for r := tar.NewReader(bytes.NewReader(rootfs)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if dir, base := filepath.Split(filepath.Clean(h.Name)); dir == "var/lib/rpm/" && h.Typeflag == tar.TypeReg {
			write(t, filepath.Join(db, base), must(io.ReadAll(r))(t))
		}
	}
	out := must(command(t, tool(t, "rpm"), "--dbpath", db, "-qa", "--qf", `%{NAME} %|EPOCH?{%{EPOCH}}:{0}|:%{VERSION}-%{RELEASE}\n`))(t)
	var pkgs []rpmPackage
	for line := range strings.Lines(out) {
		name, evr, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok {
			t.Fatalf("rpm says %q", line)
		}
		pkgs = append(pkgs, rpmPackage{name, evr})
	}
	return pkgs
}

// record is what this count needs of an OSV record.
type record struct {
	ID       string   `json:"id"`
	Aliases  []string `json:"aliases"`
	Related  []string `json:"related"`
	Upstream []string `json:"upstream"`
	Affected []struct {
		Package struct {
			Ecosystem string `json:"ecosystem"`
			Name      string `json:"name"`
		} `json:"package"`
		Ranges []struct {
			Events []struct {
				Introduced, Fixed string
			} `json:"events"`
		} `json:"ranges"`
	} `json:"affected"`
}

// vulnerability reports whether the record is one: AlmaLinux publishes its bug
// fixes (ALBA) and enhancements (ALEA) in the same feed.
func (r record) vulnerability() bool {
	return strings.HasPrefix(r.ID, "ALSA-") ||
		slices.ContainsFunc(slices.Concat(r.Aliases, r.Related, r.Upstream), func(id string) bool { return strings.HasPrefix(id, "CVE-") })
}

// expected returns the pairs that the feed implies. AlmaLinux's ranges all have
// the form "introduced 0, fixed V", which it verifies. Fixed versions of
// modules, which the packages here are not built in, do not count.
func expected(t *testing.T, pkgs []rpmPackage, feed, ecosystem string) []pair {
	t.Helper()
	archive := must(zip.OpenReader(feed))(t)
	defer archive.Close()
	seen := map[pair]bool{}
	for _, f := range archive.File {
		var r record
		if err := json.NewDecoder(must(f.Open())(t)).Decode(&r); err != nil {
			t.Fatalf("%s: %v", f.Name, err)
		}
		if !r.vulnerability() {
			continue
		}
		for _, a := range r.Affected {
			for _, rg := range a.Ranges {
				if len(rg.Events) != 2 || rg.Events[0].Introduced != "0" || rg.Events[1].Fixed == "" {
					t.Fatalf("%s: a range that this count does not know: %+v", r.ID, rg)
				}
				for _, p := range pkgs {
					if a.Package.Ecosystem == ecosystem && a.Package.Name == p.name &&
						strings.Contains(rg.Events[1].Fixed, ".module_el") == strings.Contains(p.evr, ".module_el") &&
						compareEVR(p.evr, rg.Events[1].Fixed) < 0 {
						seen[pair{p.name, r.ID}] = true
					}
				}
			}
		}
	}
	var out []pair
	for p := range seen {
		out = append(out, p)
	}
	return sorted(out)
}

func sorted(pairs []pair) []pair {
	slices.SortFunc(pairs, func(a, b pair) int {
		return strings.Compare(a.Package+" "+a.Advisory, b.Package+" "+b.Advisory)
	})
	return pairs
}

// compareEVR compares epoch:version-release; a missing epoch is 0.
func compareEVR(a, b string) int {
	split := func(s string) (e, v, r string) {
		e, rest, ok := strings.Cut(s, ":")
		if !ok {
			e, rest = "0", s
		}
		v, r, _ = strings.Cut(rest, "-")
		return e, v, r
	}
	ae, av, ar := split(a)
	be, bv, br := split(b)
	for _, p := range [][2]string{{ae, be}, {av, bv}, {ar, br}} {
		if c := rpmvercmp(p[0], p[1]); c != 0 {
			return c
		}
	}
	return 0
}

// rpmvercmp is the comparison that rpm documents (docs/man/rpm-version.7):
// segments of digits or letters from left to right, separators ignored; numbers
// by value and above letters; ~ sorts before the end, ^ after it but before
// anything else.
func rpmvercmp(a, b string) int {
	const digits = "0123456789"
	alnum := func(r rune) bool {
		return strings.ContainsRune(digits, r) || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
	}
	separator := func(r rune) bool { return !alnum(r) && r != '~' && r != '^' }
	for a != "" || b != "" {
		a, b = strings.TrimLeftFunc(a, separator), strings.TrimLeftFunc(b, separator)
		if at, bt := strings.HasPrefix(a, "~"), strings.HasPrefix(b, "~"); at || bt {
			if at != bt {
				return sign(bt, at)
			}
			a, b = a[1:], b[1:]
			continue
		}
		if ac, bc := strings.HasPrefix(a, "^"), strings.HasPrefix(b, "^"); ac || bc {
			switch {
			case ac && bc:
				a, b = a[1:], b[1:]
				continue
			case a == "" || b == "":
				return sign(a != "", b != "")
			default:
				return sign(bc, ac)
			}
		}
		if a == "" || b == "" {
			return sign(a != "", b != "")
		}
		number := func(r rune) bool { return strings.ContainsRune(digits, r) }
		class := number
		if !number(rune(a[0])) {
			class = func(r rune) bool { return alnum(r) && !number(r) }
		}
		as, bs := prefix(a, class), prefix(b, class)
		if bs == "" { // of different kinds
			return sign(number(rune(a[0])), !number(rune(a[0])))
		}
		a, b = a[len(as):], b[len(bs):]
		if number(rune(as[0])) {
			as, bs = strings.TrimLeft(as, "0"), strings.TrimLeft(bs, "0")
			if len(as) != len(bs) {
				return sign(len(as) > len(bs), len(as) < len(bs))
			}
		}
		if c := strings.Compare(as, bs); c != 0 {
			return c
		}
	}
	return 0
}

// sign is 1 where only the first is true, -1 where only the second is.
func sign(greater, less bool) int {
	switch {
	case greater && !less:
		return 1
	case less && !greater:
		return -1
	}
	return 0
}

// prefix returns the leading part of s that is of the class.
func prefix(s string, class func(rune) bool) string {
	return s[:len(s)-len(strings.TrimLeftFunc(s, class))]
}

// TestRPMVerCmp takes cases of rpm's own test suite (tests/rpmvercmp.at).
func TestRPMVerCmp(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{
		{"1.0", "1.0", 0},
		{"1.0", "2.0", -1},
		{"2.0.1", "2.0.1a", -1},
		{"5.5p1", "5.5p10", -1},
		{"10xyz", "10.1xyz", -1},
		{"xyz10", "xyz10.1", -1},
		{"xyz.4", "8", -1},
		{"xyz.4", "2", -1},
		{"5.5p2", "5.6p1", -1},
		{"6.0.rc1", "6.0", 1},
		{"10b2", "10a1", 1},
		{"1.0aa", "1.0a", 1},
		{"10.0001", "10.0039", -1},
		{"4.999.9", "5.0", -1},
		{"20101121", "20101122", -1},
		{"2_0", "2.0", 0},
		{"a+", "a_", 0},
		{"1.0~rc1", "1.0", -1},
		{"1.0~rc1", "1.0~rc2", -1},
		{"1.0~rc1~git123", "1.0~rc1", -1},
		{"1.0^", "1.0", 1},
		{"1.0^git1", "1.01", -1},
		{"1.0^git1", "1.0^git2", -1},
		{"1.0^20160101", "1.0.1", -1},
		{"1.0~rc1^git1", "1.0~rc1", 1},
		{"1.0^git1~pre", "1.0^git1", -1},
	} {
		if got := rpmvercmp(tt.a, tt.b); got != tt.want {
			t.Errorf("rpmvercmp(%q, %q) = %d, want %d", tt.a, tt.b, got, tt.want)
		}
		if got := rpmvercmp(tt.b, tt.a); got != -tt.want {
			t.Errorf("rpmvercmp(%q, %q) = %d, want %d", tt.b, tt.a, got, -tt.want)
		}
	}
	if c := compareEVR("2.34-83.el9_3.7", "0:2.34-83.el9_3.12"); c != -1 {
		t.Errorf("compareEVR: %d", c)
	}
}
