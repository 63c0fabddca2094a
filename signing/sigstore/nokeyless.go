//go:build nokeyless

package sigstore

import (
	"context"
	"crypto"
	"errors"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sluiceproxy/sluice/signing"
)

// errLeftOut tells who needs what this build does not have.
var errLeftOut = errors.New("this sluice was built without keyless signatures (tag nokeyless): no trusted root can be used")

// Keyless is left out of this build.
type Keyless struct{}

// NewKeyless always fails.
func NewKeyless(signing.Keyless) (*Keyless, error) { return nil, errLeftOut }

// Verify always fails.
func (*Keyless) Verify(context.Context, signing.Item, time.Time) (signing.Proof, error) {
	return signing.Proof{}, errLeftOut
}

type trustedRoot struct{}

func newTrustedRoot(signing.Material) (*trustedRoot, error) { return nil, errLeftOut }

func (*trustedRoot) keyTimes(*signed, crypto.PublicKey, ocispec.Descriptor, signing.Times) ([]time.Time, error) {
	return nil, errLeftOut
}
