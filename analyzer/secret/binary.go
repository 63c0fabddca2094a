package secret

import (
	"bytes"
	"encoding/binary"
	"path"
	"strings"

	"github.com/sluiceproxy/sluice/analyzer"
)

// maxKeystore is the size of the largest file that is read as a keystore, in bytes.
const maxKeystore = 4 << 20

// WantsBinary reports a file that is no text and whose name or first bytes say
// that it may hold keys. Keystore is then worth calling with its content.
func WantsBinary(p string, head []byte, size int64) bool {
	if size > maxKeystore || isText(head) || published(p) || (library(p) || system(p)) && inTests(p) {
		return false
	}
	switch strings.ToLower(path.Ext(p)) {
	case ".jks", ".keystore", ".ks", ".jceks", ".bcfks", ".p12", ".pfx", ".keytab", ".kdb", ".kdbx", ".der", ".key", ".p8", ".pk8", ".gpg", ".pgp":
		return true
	}
	return bytes.HasPrefix(head, jksMagic) || bytes.HasPrefix(head, jceksMagic) || bytes.HasPrefix(head, kdbxMagic) ||
		path.Base(p) == "krb5.keytab" || gnupg(p)
}

var (
	jksMagic   = []byte{0xfe, 0xed, 0xfe, 0xed}
	jceksMagic = []byte{0xce, 0xce, 0xce, 0xce}
	kdbxMagic  = []byte{0x03, 0xd9, 0xa2, 0x9a} // KeePass
	// The bags of PKCS #12 that hold keys (RFC 7292, appendix D):
	// 1.2.840.113549.1.12.10.1.1 and .2, as DER writes them.
	keyBag         = []byte{0x06, 0x0b, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x0a, 0x01, 0x01}
	shroudedKeyBag = []byte{0x06, 0x0b, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x0a, 0x01, 0x02}
)

// Keystore looks for private keys in the binary file b. Stores of certificates
// alone, such as Java's cacerts, hold nothing to find.
func Keystore(p string, b []byte) []analyzer.Secret {
	found := func(kind, rule string) []analyzer.Secret {
		return []analyzer.Secret{{Kind: kind, Rule: rule, Path: p, Line: 1, Excerpt: path.Ext(p) + "…"}}
	}
	switch {
	case bytes.HasPrefix(b, jksMagic), bytes.HasPrefix(b, jceksMagic):
		if javaKeys(b) {
			return found(kindKeystore, "java-keystore")
		}
	case bytes.HasPrefix(b, kdbxMagic):
		return found(kindKeystore, "keepass-database")
	case bytes.HasPrefix(b, []byte{0x05, 0x02}) || bytes.HasPrefix(b, []byte{0x05, 0x01}): // MIT krb5, "keytab file format"
		if len(b) > 2+4+16 {
			return found(kindKeystore, "kerberos-keytab")
		}
	case bytes.Contains(b, keyBag) || bytes.Contains(b, shroudedKeyBag):
		return found(kindKeystore, "pkcs12-keystore")
	case gnupg(p) && bytes.Contains(b[:min(len(b), 64)], []byte("private-key")): // GnuPG's agent
		return found(kindKey, "gnupg-private-key")
	case bytes.HasPrefix(b, []byte{0x30}):
		for _, label := range []string{"PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"} {
			if parses(label, b) {
				return found(kindKey, "der-private-key")
			}
		}
	case len(b) > 64 && pgpSecretKey(b) && b[0]&0x80 != 0 && pgpVersion(b):
		return found(kindKey, "pgp-private-key")
	}
	return nil
}

// javaKeys reports an entry of a Java keystore that is a key: tag 1 is a private
// key, 2 a trusted certificate, 3 a secret key (OpenJDK, JavaKeyStore.java,
// JceKeyStore.java). Only stores of certificates alone can be read on to the
// next entry, so the first other tag decides; what cannot be read is taken for a key.
func javaKeys(b []byte) bool {
	if len(b) < 12 {
		return false
	}
	version, count, rest := binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[8:]), b[12:]
	text := func() bool {
		if len(rest) < 2 || len(rest)-2 < int(binary.BigEndian.Uint16(rest)) {
			return false
		}
		rest = rest[2+int(binary.BigEndian.Uint16(rest)):]
		return true
	}
	for range count {
		if len(rest) < 4 || binary.BigEndian.Uint32(rest) != 2 {
			return true
		}
		rest = rest[4:]
		if !text() || len(rest) < 8 { // alias, date
			return true
		}
		rest = rest[8:]
		if version == 2 && !text() || len(rest) < 4 || uint64(len(rest)-4) < uint64(binary.BigEndian.Uint32(rest)) {
			return true
		}
		rest = rest[4+int(binary.BigEndian.Uint32(rest)):]
	}
	return false
}

// pgpVersion reports a version of a key packet (RFC 9580, 5.5.2) behind a header
// of either format.
func pgpVersion(b []byte) bool {
	n := 2 // new format, one byte of length
	switch {
	case b[0]&0x40 == 0:
		n = 1 + 1<<(b[0]&3)
	case b[1] >= 192 && b[1] < 224:
		n = 3
	case b[1] == 255:
		n = 6
	}
	return n < len(b) && b[n] >= 3 && b[n] <= 6
}
