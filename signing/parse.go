package signing

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Materials are the named parts of a policy file that several trusts may use.
type Materials struct {
	keys   map[string]KeyRing
	roots  map[string]Material
	stores map[string]NotationStore
	locks  map[string]Lock
	order  []string // of locks
}

// Locks returns the file's locks in its order, whether or not a trust has an
// authority by them.
func (m *Materials) Locks() []Lock {
	out := make([]Lock, len(m.order))
	for i, name := range m.order {
		l := m.locks[name]
		out[i] = l.clone()
	}
	return out
}

// ParseMaterials reads the lists keys, roots, stores and locks of a policy file;
// each may be nil. No file is opened.
//
//	locks:
//	  - name: base-images           # default: the file as written
//	    file: images.lock
//	    signedBy: release           # of keys; or unsigned: true
//	    signature: images.lock.sig  # (default: the file's name with .sig)
//	    onStale: warn               # deny (default) or warn, once the lock has expired
func ParseMaterials(keys, roots, stores, locks *yaml.Node) (*Materials, []Problem) {
	var p parser
	m := &Materials{keys: map[string]KeyRing{}, roots: map[string]Material{}, stores: map[string]NotationStore{}, locks: map[string]Lock{}}
	for _, n := range p.list(keys, "keys") {
		v := p.object(n, "a key", "name", "any")
		p.require(n, "a key", v, "name", "any")
		name := named(&p, n, v["name"], "key", m.keys)
		var ring KeyRing
		for _, e := range p.list(v["any"], "any") {
			ring.Keys = append(ring.Keys, p.key(e))
		}
		m.keys[name] = ring
	}
	for _, n := range p.list(roots, "roots") {
		v := p.object(n, "a root", "name", "trustedRoot", "sha256")
		p.require(n, "a root", v, "name", "trustedRoot")
		name := named(&p, n, v["name"], "root", m.roots)
		m.roots[name] = Material{File: p.text(v["trustedRoot"], "trustedRoot"), SHA256: p.digest(v["sha256"], "sha256")}
	}
	for _, n := range p.list(stores, "stores") {
		v := p.object(n, "a store", "name", "type", "ca", "signingAuthority", "tsa", "crl", "revocation")
		p.require(n, "a store", v, "name")
		name := named(&p, n, v["name"], "store", m.stores)
		if v["type"] != nil && p.text(v["type"], "type") != "notation" {
			p.problem(v["type"], "the type of a store is notation")
		}
		st := NotationStore{
			CAs: p.files(v["ca"], "ca"), SigningAuthorities: p.files(v["signingAuthority"], "signingAuthority"),
			TSAs: p.files(v["tsa"], "tsa"), CRLs: p.files(v["crl"], "crl"),
		}
		if r := v["revocation"]; r != nil {
			if st.SkipRevocation = p.text(r, "revocation") == "skip"; !st.SkipRevocation {
				p.problem(r, "revocation is skip; lists are named by crl")
			}
		}
		m.stores[name] = st
	}
	for _, n := range p.list(locks, "locks") {
		l := p.lock(n, m)
		if _, taken := m.locks[l.Name]; taken {
			p.problem(n, "the lock %q is there twice", l.Name)
			continue
		}
		m.locks[l.Name] = l
		m.order = append(m.order, l.Name)
	}
	return m, p.problems
}

func (p *parser) lock(n *yaml.Node, m *Materials) Lock {
	v := p.object(n, "a lock", "name", "file", "sha256", "signedBy", "signature", "unsigned", "onStale")
	p.require(n, "a lock", v, "file")
	l := Lock{
		Name: p.text(v["name"], "name"), Material: Material{File: p.text(v["file"], "file"), SHA256: p.digest(v["sha256"], "sha256")},
		Unsigned: p.flag(v["unsigned"], "unsigned", false),
	}
	if l.Name == "" {
		l.Name = l.File
	}
	switch {
	case l.Unsigned && v["signedBy"] != nil:
		p.problem(n, "the lock %q has both signedBy and unsigned", l.Name)
	case l.Unsigned:
	case v["signedBy"] == nil:
		p.problem(n, "the lock %q has no signedBy: name one of keys, or say unsigned: true", l.Name)
	default:
		ring := lookup(p, v["signedBy"], "key", m.keys)
		l.SignedBy = &ring
		l.Signature = Material{File: l.File + ".sig", Optional: true}
		if v["signature"] != nil {
			l.Signature = Material{File: p.text(v["signature"], "signature")}
		}
	}
	if s := v["onStale"]; s != nil {
		switch text := p.text(s, "onStale"); text {
		case "deny", "":
		case "warn":
			l.WarnStale = true
		default:
			p.problem(s, "onStale is deny or warn, not %q", text)
		}
	}
	return l
}

// named returns the name of an element, which must not be taken.
func named[T any](p *parser, n, name *yaml.Node, what string, taken map[string]T) string {
	s := p.text(name, "the name of a "+what)
	if _, ok := taken[s]; ok && s != "" {
		p.problem(n, "the %s %q is there twice", what, s)
	}
	return s
}

func (p *parser) files(n *yaml.Node, what string) []Material {
	var out []Material
	for _, f := range p.texts(n, what) {
		out = append(out, Material{File: f})
	}
	return out
}

func (p *parser) key(n *yaml.Node) Key {
	v := p.object(n, "a key", "file", "data", "sha256", "notBefore", "notAfter", "revoked")
	if (v["file"] == nil) == (v["data"] == nil) {
		p.problem(n, "a key has either file or data")
	}
	return Key{
		Material:  Material{File: p.text(v["file"], "file"), SHA256: p.digest(v["sha256"], "sha256"), Data: []byte(p.text(v["data"], "data"))},
		NotBefore: p.time(v["notBefore"], "notBefore", false),
		NotAfter:  p.time(v["notAfter"], "notAfter", true),
		Revoked:   p.flag(v["revoked"], "revoked", false),
	}
}

// ParseTrust reads the trust part of a policy, whose names are in m. No file is
// opened; verify.Compile checks the rest once Load has.
//
//	trust:
//	  require: any                # any (default), all, or a number of authorities
//	  platformInherit: true       # (default) a verified index covers what it lists
//	  authorities:
//	    - name: ci
//	      keyless:
//	        root: public-good     # of the file's roots; sct, tlog, timestamps: 1 by default
//	        identities: [{issuer: "https://…", subjectRegExp: "https://github\\.com/acme/.+"}]
//	      attestations:           # each must be met; then signature: true demands that as well
//	        - {name: prov, predicateType: "https://slsa.dev/provenance/v1", slsa: {builders: [...], sources: [...]}}
//	    - {name: release, key: {ref: release}, formats: [legacy, bundle], signedAs: "ghcr.io/acme/**"}
//	    - {name: corp, notation: {store: acme, identities: ["x509.subject: O=Acme, CN=release"]}}
//	    - {name: published, hash: {lock: base-images}} # listed in a lock
//	  issuers:                    # believed in these attestations; they approve nothing
//	    - {name: security, key: {ref: vex}, attestations: [{name: vex, predicateType: "https://openvex.dev/ns", use: exemptions}]}
//	  revoked: ["sha256:…"]       # keys, certificates, signatures, artifacts, images
func ParseTrust(n *yaml.Node, m *Materials) (Trust, []Problem) {
	var p parser
	v := p.object(n, "trust", "require", "platformInherit", "authorities", "issuers", "revoked")
	t := Trust{Inherit: p.flag(v["platformInherit"], "platformInherit", true)}
	for _, e := range p.list(v["authorities"], "authorities") {
		t.Authorities = append(t.Authorities, p.authority(e, m))
	}
	for _, e := range p.list(v["issuers"], "issuers") {
		t.Issuers = append(t.Issuers, p.authority(e, m))
	}
	for _, e := range p.list(v["revoked"], "revoked") {
		if d := p.digest(e, "revoked"); d != "" {
			t.Revoked = append(t.Revoked, d)
		}
	}
	if len(t.Authorities)+len(t.Issuers) == 0 {
		p.problem(n, "trust names no authority")
	}
	switch r := v["require"]; {
	case r == nil, resolve(r).Value == "any":
		t.Require = min(1, len(t.Authorities))
	case resolve(r).Value == "all":
		t.Require = len(t.Authorities)
	default:
		if t.Require = p.number(r, "require", 0); t.Require < 1 || t.Require > len(t.Authorities) {
			p.problem(r, "require is any, all or a number from 1 to that of the authorities, %d", len(t.Authorities))
		}
	}
	return t, p.problems
}

func (p *parser) authority(n *yaml.Node, m *Materials) Authority {
	v := p.object(n, "an authority", "name", "key", "keyless", "notation", "hash", "formats", "signedAs", "signature", "attestations")
	p.require(n, "an authority", v, "name")
	a := Authority{
		Name: p.text(v["name"], "name"), SignedAs: p.texts(v["signedAs"], "signedAs"),
		Signature: p.flag(v["signature"], "signature", false),
	}
	means := 0
	for _, k := range []string{"key", "keyless", "notation", "hash"} {
		if v[k] != nil {
			means++
		}
	}
	if means != 1 {
		p.problem(n, "an authority has one of key, keyless, notation and hash")
	}
	if k := v["key"]; k != nil {
		o := p.object(k, "key", "ref", "root", "tlog", "timestamps")
		p.require(k, "key", o, "ref")
		ring := lookup(p, o["ref"], "key", m.keys)
		ring.Times = p.times(o, m, 0)
		a.Key = &ring
	}
	if k := v["keyless"]; k != nil {
		o := p.object(k, "keyless", "root", "sct", "tlog", "timestamps", "identities")
		p.require(k, "keyless", o, "root", "identities")
		a.Keyless = &Keyless{Times: p.times(o, m, 1)}
		a.Keyless.Times.SCT = p.number(o["sct"], "sct", 1)
		for _, e := range p.list(o["identities"], "identities") {
			a.Keyless.Identities = append(a.Keyless.Identities, p.certificate(e))
		}
	}
	if k := v["notation"]; k != nil {
		o := p.object(k, "notation", "store", "identities")
		p.require(k, "notation", o, "store", "identities")
		st := lookup(p, o["store"], "store", m.stores)
		st.Identities = p.texts(o["identities"], "identities")
		a.Notation = &st
	}
	if k := v["hash"]; k != nil {
		o := p.object(k, "hash", "lock")
		p.require(k, "hash", o, "lock")
		l := lookup(p, o["lock"], "lock", m.locks)
		l = l.clone()
		a.Hash = &l
	}
	for _, e := range p.list(v["formats"], "formats") {
		switch f := p.text(e, "a format"); f {
		case "legacy":
			a.Formats = append(a.Formats, FormatCosignSignature, FormatCosignAttestation)
		case "bundle":
			a.Formats = append(a.Formats, FormatBundle)
		default:
			p.problem(e, "a format is legacy or bundle, not %q", f)
		}
	}
	for _, e := range p.list(v["attestations"], "attestations") {
		a.Attestations = append(a.Attestations, p.rule(e))
	}
	return a
}

// times reads who proves times; each count is least unless it is set.
func (p *parser) times(o map[string]*yaml.Node, m *Materials, least int) Times {
	t := Times{Log: p.number(o["tlog"], "tlog", least), Timestamps: p.number(o["timestamps"], "timestamps", least)}
	if o["root"] != nil {
		t.Root = lookup(p, o["root"], "root", m.roots)
	}
	return t
}

// lookup returns what a name stands for.
func lookup[T any](p *parser, n *yaml.Node, what string, known map[string]T) (found T) {
	if n == nil {
		return found
	}
	name := p.text(n, what)
	found, ok := known[name]
	if !ok && name != "" {
		p.problem(n, "there is no %s %q in the file's list of %ss", what, name, what)
	}
	return found
}

func (p *parser) certificate(n *yaml.Node) CertificateIdentity {
	var id CertificateIdentity
	fields := []struct {
		key string
		to  *string
	}{
		{"issuer", &id.Issuer},
		{"issuerRegExp", &id.IssuerRegExp},
		{"subject", &id.Subject},
		{"subjectRegExp", &id.SubjectRegExp},
		{"sourceRepository", &id.SourceRepository},
		{"sourceRef", &id.SourceRef},
		{"sourceRepositoryOwner", &id.SourceOwner},
		{"sourceRepositoryID", &id.SourceRepositoryID},
		{"sourceRepositoryOwnerID", &id.SourceOwnerID},
		{"buildSigner", &id.BuildSigner},
		{"buildTrigger", &id.BuildTrigger},
		{"runnerEnvironment", &id.RunnerEnvironment},
	}
	var keys []string
	for _, f := range fields {
		keys = append(keys, f.key)
	}
	v := p.object(n, "an identity", keys...)
	for _, f := range fields {
		*f.to = p.text(v[f.key], f.key)
	}
	p.either(n, v, "issuer", id.Issuer, id.IssuerRegExp)
	p.either(n, v, "subject", id.Subject, id.SubjectRegExp)
	return id
}

// either demands an exact text or an expression of an identity.
func (p *parser) either(n *yaml.Node, v map[string]*yaml.Node, what, exact, expr string) {
	if (exact == "") == (expr == "") {
		p.problem(n, "an identity has either %s or %sRegExp", what, what)
	}
	if expr == "" {
		return
	}
	if _, err := WholeRegExp(expr); err != nil {
		p.problem(v[what+"RegExp"], "%sRegExp: %s", what, err)
	}
}

func (p *parser) rule(n *yaml.Node) AttestationRule {
	v := p.object(n, "an attestation", "name", "predicateType", "use", "maxAge", "slsa")
	p.require(n, "an attestation", v, "name", "predicateType")
	r := AttestationRule{
		Name: p.text(v["name"], "name"), PredicateType: p.text(v["predicateType"], "predicateType"),
		MaxAge: p.duration(v["maxAge"], "maxAge"),
	}
	if v["use"] != nil {
		switch r.Use = Use(p.text(v["use"], "use")); r.Use {
		case UseExemptions, UseInventory:
		default:
			p.problem(v["use"], "use is %s or %s; without it the attestation is required", UseExemptions, UseInventory)
		}
	}
	if s := v["slsa"]; s != nil {
		o := p.object(s, "slsa", "builders", "builderRegExp", "buildTypes", "sources", "refRegExp", "commit", "matchCertificate")
		r.SLSA = &SLSARule{
			Builders: p.texts(o["builders"], "builders"), BuilderRegExp: p.text(o["builderRegExp"], "builderRegExp"),
			BuildTypes: p.texts(o["buildTypes"], "buildTypes"), Sources: p.texts(o["sources"], "sources"),
			RefRegExp: p.text(o["refRegExp"], "refRegExp"), Commit: p.text(o["commit"], "commit"),
			MatchCertificate: p.flag(o["matchCertificate"], "matchCertificate", false),
		}
		for _, g := range r.SLSA.Sources {
			if _, err := NameGlob(g); err != nil {
				p.problem(o["sources"], "source %q: %s", g, err)
			}
		}
	}
	return r
}

// String is "line:column: message".
func (p Problem) String() string {
	return fmt.Sprintf("%d:%d: %s", p.Line, p.Column, strings.TrimSpace(p.Message))
}
