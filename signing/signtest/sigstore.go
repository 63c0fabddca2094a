//go:build !nokeyless

package signtest

import (
	"encoding/base64"
	"encoding/hex"
	"testing"
	"time"

	godigest "github.com/opencontainers/go-digest"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protodsse "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	protorekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/testing/ca"
	"github.com/sigstore/sigstore-go/pkg/tlog"
	"github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"google.golang.org/protobuf/encoding/protojson"
)

// Sigstore is a deployment in memory. Its certificates carry no SCT and no
// extension but the issuer.
type Sigstore struct {
	*ca.VirtualSigstore
	Root []byte // trusted_root.json
}

// NewSigstore returns a deployment with keys of its own.
func NewSigstore(t testing.TB) *Sigstore {
	t.Helper()
	vs, err := ca.NewVirtualSigstore()
	if err != nil {
		t.Fatal(err)
	}
	// Its log IDs are hexadecimal text where a file holds the bytes.
	bytes := func(logs map[string]*root.TransparencyLog) map[string]*root.TransparencyLog {
		for id, l := range logs {
			if l.ID, err = hex.DecodeString(id); err != nil {
				t.Fatal(err)
			}
		}
		return logs
	}
	ct := bytes(vs.CTLogs())
	for _, l := range ct {
		l.SignatureHashFunc = l.HashFunc
	}
	tr, err := root.NewTrustedRoot(root.TrustedRootMediaType01, vs.FulcioCertificateAuthorities(), ct, vs.TimestampingAuthorities(), bytes(vs.RekorLogs()))
	if err != nil {
		t.Fatal(err)
	}
	s := &Sigstore{VirtualSigstore: vs}
	if s.Root, err = tr.MarshalJSON(); err != nil {
		t.Fatal(err)
	}
	return s
}

// Bundle is a layer for a referrer, signed by a certificate for subject, logged
// and time-stamped.
func (s *Sigstore) Bundle(t testing.TB, subject, issuer string, statement []byte) Layer {
	t.Helper()
	return s.BundleAt(t, subject, issuer, statement, time.Now().Add(2*time.Minute))
}

// BundleAt is Bundle, logged at another time.
func (s *Sigstore) BundleAt(t testing.TB, subject, issuer string, statement []byte, at time.Time) Layer {
	t.Helper()
	e, err := s.AttestAtTime(subject, issuer, statement, at, true)
	if err != nil {
		t.Fatal(err)
	}
	return Layer{MediaType: TypeBundle, Data: bundleOf(t, e)}
}

// BundleV2 is Bundle with an entry of a Rekor v2 log, which tells no time.
func (s *Sigstore) BundleV2(t testing.TB, subject, issuer string, statement []byte) Layer {
	t.Helper()
	e, err := s.AttestAtTimeHashedRekordV2(subject, issuer, statement, time.Now().Add(2*time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	return Layer{MediaType: TypeBundle, Data: bundleOf(t, e)}
}

func bundleOf(t testing.TB, e verify.SignedEntity) []byte {
	t.Helper()
	vc, err := e.VerificationContent()
	if err != nil {
		t.Fatal(err)
	}
	sc, err := e.SignatureContent()
	if err != nil {
		t.Fatal(err)
	}
	entries, err := e.TlogEntries()
	if err != nil {
		t.Fatal(err)
	}
	stamps, err := e.Timestamps()
	if err != nil {
		t.Fatal(err)
	}
	vm := &protobundle.VerificationMaterial{
		Content:                   &protobundle.VerificationMaterial_Certificate{Certificate: &protocommon.X509Certificate{RawBytes: vc.Certificate().Raw}},
		TimestampVerificationData: &protobundle.TimestampVerificationData{},
	}
	for _, x := range entries {
		entry := x.TransparencyLogEntry()
		if entry.KindVersion == nil { // left out by the deployment's Rekor v1
			entry.KindVersion = &protorekor.KindVersion{Kind: "dsse", Version: "0.0.1"}
		}
		vm.TlogEntries = append(vm.TlogEntries, entry)
	}
	for _, x := range stamps {
		vm.TimestampVerificationData.Rfc3161Timestamps = append(vm.TimestampVerificationData.Rfc3161Timestamps, &protocommon.RFC3161SignedTimestamp{SignedTimestamp: x})
	}
	env := sc.EnvelopeContent().RawEnvelope()
	payload, err := env.DecodeB64Payload()
	if err != nil {
		t.Fatal(err)
	}
	b, err := protojson.Marshal(&protobundle.Bundle{
		MediaType: TypeBundle, VerificationMaterial: vm,
		Content: &protobundle.Bundle_DsseEnvelope{DsseEnvelope: &protodsse.Envelope{
			Payload: payload, PayloadType: env.PayloadType, Signatures: []*protodsse.Signature{{Sig: sc.Signature()}},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Legacy is a layer for the tag .sig, signed by a certificate for subject and
// logged.
func (s *Sigstore) Legacy(t testing.TB, subject, issuer string, payload []byte) Layer {
	t.Helper()
	e, err := s.SignAtTime(subject, issuer, payload, time.Now().Add(2*time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	l := s.legacy(t, e)
	l.MediaType, l.Data = TypeSimpleSigning, payload
	return l
}

// legacy is the annotations of a legacy layer.
func (s *Sigstore) legacy(t testing.TB, e verify.SignedEntity) Layer {
	t.Helper()
	vc, err := e.VerificationContent()
	if err != nil {
		t.Fatal(err)
	}
	sc, err := e.SignatureContent()
	if err != nil {
		t.Fatal(err)
	}
	entries, err := e.TlogEntries()
	if err != nil {
		t.Fatal(err)
	}
	entry := entries[0].TransparencyLogEntry()
	p := tlog.RekorPayload{
		Body: base64.StdEncoding.EncodeToString(entry.CanonicalizedBody), IntegratedTime: entry.IntegratedTime,
		LogIndex: entry.LogIndex, LogID: hex.EncodeToString(entry.LogId.KeyId),
	}
	set, err := s.RekorSignPayload(p)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := cryptoutils.MarshalCertificateToPEM(vc.Certificate())
	if err != nil {
		t.Fatal(err)
	}
	return Layer{Annotations: map[string]string{
		AnnSignature:   base64.StdEncoding.EncodeToString(sc.Signature()),
		AnnCertificate: string(cert),
		AnnBundle:      string(JSON(t, map[string]any{"SignedEntryTimestamp": set, "Payload": p})),
	}}
}

// LegacyAttestation is a layer for the tag .att, signed by a certificate for
// subject and logged.
func (s *Sigstore) LegacyAttestation(t testing.TB, subject, issuer string, statement []byte) Layer {
	t.Helper()
	e, err := s.AttestAtTime(subject, issuer, statement, time.Now().Add(2*time.Minute), false)
	if err != nil {
		t.Fatal(err)
	}
	sc, err := e.SignatureContent()
	if err != nil {
		t.Fatal(err)
	}
	l := s.legacy(t, e)
	l.MediaType, l.Annotations[AnnSignature] = TypeDSSE, ""
	l.Data = JSON(t, sc.EnvelopeContent().RawEnvelope())
	return l
}

// Stamped is k.Bundle with a time stamp of now.
func (s *Sigstore) Stamped(t testing.TB, k *Key, statement []byte) Layer {
	t.Helper()
	l := k.Bundle(t, statement)
	var b protobundle.Bundle
	if err := protojson.Unmarshal(l.Data, &b); err != nil {
		t.Fatal(err)
	}
	stamp, err := s.TimestampResponse(b.GetDsseEnvelope().GetSignatures()[0].GetSig())
	if err != nil {
		t.Fatal(err)
	}
	b.VerificationMaterial.TimestampVerificationData = &protobundle.TimestampVerificationData{
		Rfc3161Timestamps: []*protocommon.RFC3161SignedTimestamp{{SignedTimestamp: stamp}},
	}
	if l.Data, err = protojson.Marshal(&b); err != nil {
		t.Fatal(err)
	}
	return l
}

// Logged is k.Legacy with an entry of now in the log, as cosign v2 signs by key.
func (s *Sigstore) Logged(t testing.TB, k *Key, name string, d godigest.Digest) Layer {
	t.Helper()
	l := k.Legacy(t, name, d)
	id, err := s.RekorLogID()
	if err != nil {
		t.Fatal(err)
	}
	p := tlog.RekorPayload{
		Body: base64.StdEncoding.EncodeToString(JSON(t, map[string]any{
			"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": map[string]any{
				"data":      map[string]any{"hash": map[string]any{"algorithm": "sha256", "value": godigest.FromBytes(l.Data).Encoded()}},
				"signature": map[string]any{"content": l.Annotations[AnnSignature], "publicKey": map[string]any{"content": k.PEM}},
			},
		})), IntegratedTime: time.Now().Unix(), LogIndex: 1, LogID: id,
	}
	set, err := s.RekorSignPayload(p)
	if err != nil {
		t.Fatal(err)
	}
	l.Annotations[AnnBundle] = string(JSON(t, map[string]any{"SignedEntryTimestamp": set, "Payload": p}))
	return l
}
