package notation

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"testing"
	"time"

	"github.com/digitorus/timestamp"
	"github.com/notaryproject/notation-core-go/signature"
	"github.com/notaryproject/notation-core-go/signature/cose"
	"github.com/notaryproject/notation-core-go/signature/jws"
	tspclient "github.com/notaryproject/tspclient-go"

	"github.com/sluiceproxy/sluice/signing"
	"github.com/sluiceproxy/sluice/signing/signtest"
)

// tsa is a time-stamp authority that says what time it is told.
type tsa struct {
	root, leaf *x509.Certificate
	key        *ecdsa.PrivateKey
	at         time.Time
}

func newTSA(t testing.TB, at time.Time) *tsa {
	t.Helper()
	usage, err := asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 8}})
	if err != nil {
		t.Fatal(err)
	}
	a := &tsa{at: at}
	var rootKey *ecdsa.PrivateKey
	rootKey, a.root = signtest.Certificate(t, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "TSA root"}, NotBefore: at.Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, nil)
	a.key, a.leaf = signtest.Certificate(t, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "TSA"}, NotBefore: at.Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtraExtensions: []pkix.Extension{{Id: []int{2, 5, 29, 37}, Critical: true, Value: usage}},
	}, a.root, rootKey)
	return a
}

func (a *tsa) Timestamp(_ context.Context, req *tspclient.Request) (*tspclient.Response, error) {
	ts := timestamp.Timestamp{
		HashAlgorithm: crypto.SHA256, HashedMessage: req.MessageImprint.HashedMessage, Time: a.at, Nonce: req.Nonce,
		Policy: asn1.ObjectIdentifier{1, 2, 3}, Accuracy: time.Second, AddTSACertificate: true,
	}
	der, err := ts.CreateResponseWithOpts(a.leaf, a.key, crypto.SHA256)
	if err != nil {
		return nil, err
	}
	var resp tspclient.Response
	return &resp, resp.UnmarshalBinary(der)
}

// TestTimestamp: a certificate whose time is over counts with a time stamp of
// when it was not.
func TestTimestamp(t *testing.T) {
	now := time.Now()
	// The signer checks certificates at the time it is told, so an old one signs.
	old := newPKI(t, now.Add(-30*24*time.Hour), now.Add(-10*24*time.Hour))
	signedAt := now.Add(-20 * 24 * time.Hour)
	inside, late := newTSA(t, signedAt), newTSA(t, now.Add(-24*time.Hour))
	for _, mt := range []string{jws.MediaTypeEnvelope, cose.MediaTypeEnvelope} {
		sign := func(a *tsa) signing.Item {
			s := old.Signer()
			s.Change = func(r *signature.SignRequest) {
				r.SigningTime = signedAt
				if a != nil {
					r.Timestamper, r.TSARootCAs = a, x509.NewCertPool()
					r.TSARootCAs.AddCert(a.root)
				}
			}
			return item(s.Sign(t, mt, image))
		}
		for _, tt := range []struct {
			name  string
			stamp *tsa
			trust *tsa
			ok    bool
		}{
			{"stamped inside", inside, inside, true},
			{"stamped after its end", late, late, false},
			{"stamped by another authority", inside, late, false},
			{"no authority is trusted", inside, nil, false},
			{"not stamped", nil, inside, false},
		} {
			t.Run(tt.name+" "+mt, func(t *testing.T) {
				config := old.store()
				if tt.trust != nil {
					config.TSAs = []signing.Material{{Data: signtest.PEM(tt.trust.root)}}
				}
				st, err := NewStore(config)
				if err != nil {
					t.Fatal(err)
				}
				p, err := st.Verify(t.Context(), sign(tt.stamp), now)
				if (err == nil) != tt.ok {
					t.Fatalf("error %v, want verified: %v", err, tt.ok)
				}
				if tt.ok && (len(p.Times) != 1 || !p.Times[0].Equal(signedAt.Truncate(time.Second)) || !p.Until.IsZero()) {
					t.Errorf("proof %+v", p)
				}
			})
		}
	}
}
