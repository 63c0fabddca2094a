package lock

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	godigest "github.com/opencontainers/go-digest"

	"github.com/sluiceproxy/sluice/signing"
	"github.com/sluiceproxy/sluice/signing/sigstore"
)

// PayloadType is that of a DSSE envelope which holds a lock.
const PayloadType = "application/vnd.sluice.images-lock+yaml"

// Lock is an images.lock whose signature held when it was opened. It is
// immutable and safe for concurrent use.
type Lock struct {
	id        signing.LockID
	warnStale bool
	expires   time.Time
	key       signing.Key // that signed; zero for an unsigned lock
	byName    map[string][]Image
}

var (
	_ signing.Locks = (*Lock)(nil)
	_ signing.Locks = (*Set)(nil)
)

// Open verifies and parses a lock whose files are loaded. The error names the
// lock; one of parsing is a Problems.
func Open(l signing.Lock) (*Lock, error) {
	text, key, err := verified(l)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", l.Name, err)
	}
	name := l.File
	if name == "" {
		name = l.Name
	}
	f, err := Parse(name, text)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", l.Name, err)
	}
	o := &Lock{
		id:        signing.LockID{Name: l.Name, Serial: f.Serial, Digest: godigest.FromBytes(text)},
		warnStale: l.WarnStale, expires: f.Expires, key: key, byName: map[string][]Image{},
	}
	for _, im := range f.Images {
		o.byName[im.Name] = append(o.byName[im.Name], im)
	}
	return o, nil
}

// verified returns the bytes that were signed, and by which key.
func verified(l signing.Lock) ([]byte, signing.Key, error) {
	switch {
	case l.Unsigned && l.SignedBy != nil:
		return nil, signing.Key{}, errors.New("it is both signed and unsigned")
	case l.Unsigned:
		return l.Data, signing.Key{}, nil
	case l.SignedBy == nil:
		return nil, signing.Key{}, errors.New("nobody is named who must have signed it")
	}
	ring, err := sigstore.NewKeyRing(*l.SignedBy)
	if err != nil {
		return nil, signing.Key{}, fmt.Errorf("signedBy: %w", err)
	}
	if len(l.Signature.Data) > 0 {
		key, err := ring.VerifyBlob(l.Data, l.Signature.Data)
		if err != nil {
			return nil, signing.Key{}, fmt.Errorf("signature: %w", err)
		}
		return l.Data, key, nil
	}
	if !bytes.Contains(l.Data, []byte(`"payloadType"`)) {
		return nil, signing.Key{}, fmt.Errorf("it is not signed: there is no %s, and it is no envelope", l.Signature.File)
	}
	payload, key, err := ring.OpenEnvelope(l.Data, PayloadType)
	if err != nil {
		return nil, signing.Key{}, fmt.Errorf("signature: %w", err)
	}
	return payload, key, nil
}

// ID is the lock's name, serial and content.
func (l *Lock) ID() signing.LockID { return l.id }

// Expires is when the lock becomes stale; zero for never.
func (l *Lock) Expires() time.Time { return l.expires }

// Set is several locks.
type Set struct{ locks []*Lock }

// OpenAll opens locks whose files are loaded. The error has one line for each
// that cannot be.
func OpenAll(locks []signing.Lock) (*Set, error) {
	s := &Set{}
	var problems []error
	for _, one := range locks {
		l, err := Open(one)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		s.locks = append(s.locks, l)
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return s, nil
}

// IDs are those of the locks, in their order.
func (s *Set) IDs() []signing.LockID {
	ids := make([]signing.LockID, len(s.locks))
	for i, l := range s.locks {
		ids[i] = l.id
	}
	return ids
}
