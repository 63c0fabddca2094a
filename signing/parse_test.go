package signing_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	godigest "github.com/opencontainers/go-digest"
	"go.yaml.in/yaml/v3"

	"github.com/sluiceproxy/sluice/signing"
)

const materials = `
keys:
  - name: release
    any: [{file: rel-2025.pub, notAfter: 2026-06-30}, {file: rel-2026.pub, notBefore: 2026-06-01T12:00:00Z}, {data: PEM, revoked: true}]
roots:
  - {name: public-good, trustedRoot: root.json, sha256: "` + zero + `"}
stores:
  - {name: acme, type: notation, ca: ca.pem, tsa: [t1.pem, t2.pem], revocation: skip}
`

const zero = "0000000000000000000000000000000000000000000000000000000000000000"

const trust = `
trust:
  require: all
  revoked: [sha256:` + zero + `]
  authorities:
    - name: ci
      keyless:
        root: public-good
        identities: [{issuer: "https://i", subjectRegExp: "https://github\\.com/acme/.+", sourceRepositoryOwner: "https://github.com/acme"}]
      formats: [bundle, legacy]
      attestations:
        - {name: prov, predicateType: "https://slsa.dev/provenance/v1", slsa: {builders: ["b"], sources: ["github.com/acme/*"], refRegExp: "refs/tags/v.*", matchCertificate: true}}
        - {name: vex, predicateType: "https://openvex.dev/ns", use: exemptions, maxAge: 180d}
    - {name: release-key, key: {ref: release}, formats: [legacy], signedAs: "ghcr.io/acme/**"}
    - {name: corp, notation: {store: acme, identities: ["x509.subject: O=Acme,CN=release"]}}
  issuers:
    - {name: team, key: {ref: release, root: public-good, tlog: 1}, attestations: [{name: sbom, predicateType: "https://cyclonedx.org/bom", use: inventory, maxAge: 72h}]}
`

// parse reads a policy file's trust and returns what is wrong with it.
func parse(t testing.TB, file string) (signing.Trust, []string) {
	t.Helper()
	var f struct{ Keys, Roots, Stores, Locks, Trust yaml.Node }
	if err := yaml.Unmarshal([]byte(file), &f); err != nil {
		t.Fatal(err)
	}
	opt := func(n yaml.Node) *yaml.Node {
		if n.Kind == 0 {
			return nil
		}
		return &n
	}
	m, problems := signing.ParseMaterials(opt(f.Keys), opt(f.Roots), opt(f.Stores), opt(f.Locks))
	tr, more := signing.ParseTrust(&f.Trust, m)
	var out []string
	for _, p := range append(problems, more...) {
		out = append(out, p.String())
	}
	return tr, out
}

func TestParseTrust(t *testing.T) {
	got, problems := parse(t, materials+trust)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	ring := func() *signing.KeyRing {
		return &signing.KeyRing{Keys: []signing.Key{
			{Material: signing.Material{File: "rel-2025.pub", Data: []byte{}}, NotAfter: time.Date(2026, 6, 30, 23, 59, 59, 0, time.UTC)},
			{Material: signing.Material{File: "rel-2026.pub", Data: []byte{}}, NotBefore: time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)},
			{Material: signing.Material{Data: []byte("PEM")}, Revoked: true},
		}}
	}
	root := signing.Material{File: "root.json", SHA256: "sha256:" + zero}
	issuer := ring()
	issuer.Times = signing.Times{Root: root, Log: 1}
	want := signing.Trust{
		Require: 3, Inherit: true, Revoked: []godigest.Digest{"sha256:" + zero},
		Authorities: []signing.Authority{
			{
				Name: "ci", Keyless: &signing.Keyless{
					Times:      signing.Times{Root: root, SCT: 1, Log: 1, Timestamps: 1},
					Identities: []signing.CertificateIdentity{{Issuer: "https://i", SubjectRegExp: `https://github\.com/acme/.+`, SourceOwner: "https://github.com/acme"}},
				},
				Formats: []signing.Format{signing.FormatBundle, signing.FormatCosignSignature, signing.FormatCosignAttestation},
				Attestations: []signing.AttestationRule{
					{Name: "prov", PredicateType: "https://slsa.dev/provenance/v1", SLSA: &signing.SLSARule{
						Builders: []string{"b"}, Sources: []string{"github.com/acme/*"}, RefRegExp: "refs/tags/v.*", MatchCertificate: true,
					}},
					{Name: "vex", PredicateType: "https://openvex.dev/ns", Use: signing.UseExemptions, MaxAge: 180 * 24 * time.Hour},
				},
			},
			{Name: "release-key", Key: ring(), Formats: []signing.Format{signing.FormatCosignSignature, signing.FormatCosignAttestation}, SignedAs: []string{"ghcr.io/acme/**"}},
			{Name: "corp", Notation: &signing.NotationStore{
				CAs: []signing.Material{{File: "ca.pem"}}, TSAs: []signing.Material{{File: "t1.pem"}, {File: "t2.pem"}},
				Identities: []string{"x509.subject: O=Acme,CN=release"}, SkipRevocation: true,
			}},
		},
		Issuers: []signing.Authority{{Name: "team", Key: issuer, Attestations: []signing.AttestationRule{
			{Name: "sbom", PredicateType: "https://cyclonedx.org/bom", Use: signing.UseInventory, MaxAge: 72 * time.Hour},
		}}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestParseTrustProblems(t *testing.T) {
	replace := func(old, new string) string {
		file := strings.Replace(materials+trust, old, new, 1)
		if file == materials+trust {
			t.Fatalf("%q is not in the file", old)
		}
		return file
	}
	for _, tt := range []struct{ file, want string }{
		{replace("require: all", "require: 4"), "require is any, all or a number"},
		{replace("require: all", "require: none"), "require is"},
		{replace("require: all", "requires: all"), `unknown key "requires" in trust`},
		{replace("name: release-key", "nam: release-key"), "an authority has no name"},
		{replace("ref: release}", "ref: relase}"), `no key "relase"`},
		{replace("root: public-good\n", "root: private\n"), `no root "private"`},
		{replace("store: acme", "store: x"), `no store "x"`},
		{replace("keyless:", "keyles:"), "one of key, keyless"},
		{replace(`issuer: "https://i"`, `issuer: "https://i", issuerRegExp: "x"`), "either issuer or issuerRegExp"},
		{replace(`issuer: "https://i", `, ``), "either issuer or issuerRegExp"},
		{replace(`"https://github\\.com/acme/.+"`, `".*"`), "matches everything"},
		{replace(`"https://github\\.com/acme/.+"`, `"("`), "missing closing"},
		{replace("[bundle, legacy]", "[bundles]"), "a format is legacy or bundle"},
		{replace("180d", "180"), "maxAge is a duration"},
		{replace("180d", "-1d"), "maxAge is a duration"},
		{replace("use: exemptions", "use: ignore"), "use is exemptions or inventory"},
		{replace("matchCertificate: true", "matchCertificate: yes"), "true or false"},
		{replace(`["github.com/acme/*"]`, `["**"]`), "every host"},
		{replace("revocation: skip", "revocation: off"), "revocation is skip"},
		{replace("type: notation", "type: cosign"), "type of a store"},
		{replace("notAfter: 2026-06-30", "notAfter: soon"), "notAfter is a date"},
		{replace("{data: PEM,", "{data: PEM, file: x,"), "either file or data"},
		{replace("sha256: \""+zero, "sha256: \"00"), "64 hexadecimal digits"},
		{replace("revoked: [sha256:"+zero, "revoked: [sha256:x"), "64 hexadecimal digits"},
		{materials + "trust: {}\n", "names no authority"},
		{materials + "trust: all\n", "trust is a mapping"},
	} {
		_, problems := parse(t, tt.file)
		if len(problems) == 0 || !strings.Contains(strings.Join(problems, "\n"), tt.want) {
			t.Errorf("want %q, got %q", tt.want, problems)
		}
		for _, p := range problems {
			var line, column int
			if n, err := fmt.Sscanf(p, "%d:%d:", &line, &column); n != 2 || err != nil || line < 1 || column < 1 {
				t.Errorf("%q has no place", p)
			}
		}
	}
}

func TestLoad(t *testing.T) {
	tr, problems := parse(t, strings.Replace(materials+trust, zero+`"}`, godigest.FromString("content of root.json").Encoded()+`"}`, 1))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	var opened []string
	loaded, err := tr.Load(func(name string) ([]byte, error) {
		opened = append(opened, name)
		return []byte("content of " + name), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := string(loaded.Authorities[1].Key.Keys[1].Data); got != "content of rel-2026.pub" {
		t.Errorf("key %q", got)
	}
	if got := string(loaded.Authorities[1].Key.Keys[2].Data); got != "PEM" {
		t.Errorf("inline key %q", got)
	}
	if len(tr.Authorities[1].Key.Keys[1].Data) != 0 {
		t.Error("Load wrote to its receiver")
	}
	a, errA := tr.Revision()
	b, errB := loaded.Revision()
	if a == b || errA != nil || errB != nil {
		t.Error("the revision does not follow the files' contents")
	}

	broken := errors.New("disk")
	if _, err := tr.Load(func(string) ([]byte, error) { return nil, broken }); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	if _, err := tr.Load(func(string) ([]byte, error) { return []byte("other"), nil }); err == nil || !strings.Contains(err.Error(), "pinned") {
		t.Errorf("a root of another digest than pinned: %v", err)
	}
}

func FuzzParseTrust(f *testing.F) {
	f.Add(materials + trust)
	f.Add("trust: &a {authorities: [*a]}")
	f.Add("keys: [{name: x, any: [1]}]\ntrust: {require: 1}")
	f.Fuzz(func(t *testing.T, file string) {
		var doc struct{ Keys, Roots, Stores, Locks, Trust yaml.Node }
		if yaml.Unmarshal([]byte(file), &doc) != nil || doc.Trust.Kind == 0 {
			return
		}
		m, _ := signing.ParseMaterials(&doc.Keys, &doc.Roots, &doc.Stores, &doc.Locks)
		if tr, problems := signing.ParseTrust(&doc.Trust, m); len(problems) == 0 && tr.Require < 1 && len(tr.Issuers) == 0 {
			t.Errorf("%q demands nothing: %+v", file, tr)
		}
	})
}
