package signing

import (
	"fmt"
	"time"

	godigest "github.com/opencontainers/go-digest"
)

// Lock names a file of published digests, images.lock, and who must have signed
// it. Package lock reads it.
type Lock struct {
	Name string
	Material
	// Signature is a detached signature of the file: what cosign sign-blob writes,
	// in base64 or as a bundle. Its file may be missing where the lock is an
	// envelope that holds its own signature.
	Signature Material
	SignedBy  *KeyRing // nil only with Unsigned
	// Unsigned takes the file as it is: whoever can write it decides.
	Unsigned bool
	// WarnStale lets an expired lock count, with a warning; else it fails.
	WarnStale bool
}

// Publication is what locks say of an image.
type Publication uint8

// Publications. The zero one is of an image that no lock lists.
const (
	Unlisted   Publication = iota // no entry for the name, or none with this digest and none for its tags
	Published                     // an entry has the digest, and nothing in it contradicts
	Mismatched                    // an entry is for it, and has other digests, platforms or layers
	Superseded                    // an entry says that the digest is an old one
	Unproven                      // an entry demands layers, and the image's are not known yet
)

var publicationNames = [...]string{"unlisted", "published", "mismatched", "superseded", "unproven"}

// String is the name in lower case.
func (p Publication) String() string {
	if int(p) < len(publicationNames) {
		return publicationNames[p]
	}
	return fmt.Sprintf("publication(%d)", uint8(p))
}

// Listing is an answer of a lock.
type Listing struct {
	Publication Publication
	Reason      string // one sentence, for all but Published
	Lock        string // name of the lock that says so
	Warning     string // one sentence where the lock is expired and counts all the same
	// Until is when the answer may change: the lock's expiry; zero = only with
	// another lock.
	Until time.Time
}

// Locks answer what is published. They are immutable and safe for concurrent
// use.
type Locks interface {
	// Listed looks an image up at a time. The most telling answer of all locks
	// counts: Superseded, Published, Mismatched, Unproven, Unlisted.
	Listed(s *Subject, now time.Time) Listing
}

// LockID is a state of a lock file. Its serial grows: whoever loads locks
// remembers the last and refuses what is older.
type LockID struct {
	Name   string
	Serial uint64
	Digest godigest.Digest // of the file
}
