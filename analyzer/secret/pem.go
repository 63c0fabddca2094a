package secret

import (
	"bytes"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"math/big"
	"strings"
)

// The kinds and rules of private keys. A key under a passphrase is another
// kind: it is not usable by whoever finds it.
const (
	kindKey          = "private-key"
	kindEncryptedKey = "encrypted-private-key"
	kindPublishedKey = "published-key" // in a library that anyone can download
	kindCertificate  = "certificate"
	rulePEM          = "pem-private-key"
	rulePEMEncrypted = "pem-private-key-encrypted"
)

// pemAt recognises a private key block (RFC 7468; RFC 4716-like for OpenSSH;
// RFC 9580, 6.2 for PGP), also where it is quoted in JSON or indented in YAML.
func pemAt(text []byte, hint int) (match, bool) {
	rest := text[hint+len("-----BEGIN "):]
	n := bytes.Index(rest[:min(len(rest), 64)], []byte("-----"))
	if n < 0 {
		return match{}, false
	}
	label := string(rest[:n])
	body := rest[n+len("-----"):]
	switch label {
	case "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "DSA PRIVATE KEY", "OPENSSH PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "PGP PRIVATE KEY BLOCK":
	case "CERTIFICATE", "TRUSTED CERTIFICATE", "X509 CERTIFICATE":
		return match{kind: kindCertificate, off: hint}, true // read at the end, if the file is no bundle
	default:
		return match{}, false
	}
	end := bytes.Index(body, []byte("-----")) // the next boundary: no block is read twice, however many begin
	if end < 0 || !bytes.HasPrefix(body[end:], []byte("-----END "+label+"-----")) {
		return match{}, false
	}
	headers, b64 := unwrap(body[:end])
	der, err := base64.StdEncoding.DecodeString(b64)
	if err != nil || len(der) < 16 {
		return match{}, false
	}
	m := match{kind: kindKey, rule: rulePEM, off: hint, excerpt: "-----BEGIN " + label + "----- " + mask(b64)}
	encrypted, ok := false, false
	switch {
	case strings.Contains(headers, "ENCRYPTED"): // RFC 1421, 4.6.1.1: Proc-Type: 4,ENCRYPTED
		encrypted, ok = true, true
	case label == "ENCRYPTED PRIVATE KEY":
		var seq struct { // RFC 5958, section 3
			Algorithm asn1.RawValue
			Data      []byte
		}
		_, err := asn1.Unmarshal(der, &seq)
		encrypted, ok = true, err == nil
	case label == "OPENSSH PRIVATE KEY":
		encrypted, ok = openSSH(der)
	case label == "PGP PRIVATE KEY BLOCK":
		ok = pgpSecretKey(der)
	default:
		ok = parses(label, der)
	}
	if encrypted {
		m.kind, m.rule = kindEncryptedKey, rulePEMEncrypted
	}
	return m, ok
}

// unwrap returns a block's header lines and its body without white space,
// armor checksum, and the escapes and quotes of the languages that quote it.
func unwrap(body []byte) (headers, b64 string) {
	s := strings.NewReplacer(`\r`, "", `\n`, "\n", `"`, "", `'`, "", `,`+"\n", "\n", `\`, "", "\r", "").Replace(string(body))
	var h, b strings.Builder
	for line := range strings.SplitSeq(s, "\n") {
		line = strings.TrimSpace(line)
		switch {
		case strings.Contains(line, ":"):
			h.WriteString(line + "\n")
		case len(line) == 5 && line[0] == '=': // RFC 9580, 6.1: CRC-24
		default:
			b.WriteString(strings.Join(strings.Fields(line), ""))
		}
	}
	return h.String(), b.String()
}

// parses reports whether der has the structure that the label promises. It does
// not check the mathematics of a key, which takes minutes for one that is made
// to, but for the product of RSA's primes.
func parses(label string, der []byte) bool {
	switch label {
	case "RSA PRIVATE KEY":
		var key struct { // RFC 8017, A.1.2
			Version              int
			N, E, D, P, Q        *big.Int
			DP, DQ, Coefficient  *big.Int
			AdditionalPrimeInfos asn1.RawValue `asn1:"optional"`
		}
		_, err := asn1.Unmarshal(der, &key)
		if err != nil || key.N.BitLen() < 512 {
			return false
		}
		return key.Version == 1 || key.N.Cmp(new(big.Int).Mul(key.P, key.Q)) == 0 // 1: more than two primes
	case "EC PRIVATE KEY":
		var key struct { // RFC 5915, section 3
			Version int
			Key     []byte
			Curve   asn1.RawValue `asn1:"optional,explicit,tag:0"`
			Public  asn1.RawValue `asn1:"optional,explicit,tag:1"`
		}
		_, err := asn1.Unmarshal(der, &key)
		return err == nil && len(key.Key) >= 16
	case "DSA PRIVATE KEY":
		var key struct {
			Version       int
			P, Q, G, Y, X *big.Int
		}
		_, err := asn1.Unmarshal(der, &key)
		return err == nil
	case "PRIVATE KEY":
		var key struct { // RFC 5958, section 2
			Version   int
			Algorithm struct {
				ID         asn1.ObjectIdentifier
				Parameters asn1.RawValue `asn1:"optional"`
			}
			Key        []byte
			Attributes asn1.RawValue `asn1:"optional,tag:0"`
			Public     asn1.RawValue `asn1:"optional,tag:1"`
		}
		_, err := asn1.Unmarshal(der, &key)
		if err == nil && key.Algorithm.ID.Equal(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}) {
			return parses("RSA PRIVATE KEY", key.Key)
		}
		return err == nil && len(key.Key) >= 16
	}
	return false
}

// openSSH reads the head of OpenSSH's format (PROTOCOL.key): magic, cipher.
func openSSH(der []byte) (encrypted, ok bool) {
	rest, ok := bytes.CutPrefix(der, []byte("openssh-key-v1\x00"))
	if !ok || len(rest) < 4 {
		return false, false
	}
	n := binary.BigEndian.Uint32(rest)
	if n > 64 || int(n) > len(rest)-4 {
		return false, false
	}
	return string(rest[4:4+n]) != "none", len(rest) > 100
}

// puttyAt recognises PuTTY's own format (PuTTY manual, appendix C): a private
// key under a message authentication code, encrypted or not.
func puttyAt(text []byte, hint int) (match, bool) {
	head := text[hint:min(len(text), hint+8<<10)]
	_, rest, ok := bytes.Cut(head, []byte("\nEncryption: "))
	if !ok || !bytes.Contains(rest, []byte("\nPrivate-Lines: ")) || !bytes.Contains(rest, []byte("\nPrivate-MAC: ")) {
		return match{}, false
	}
	m := match{kind: kindKey, rule: "putty-private-key", off: hint, excerpt: "PuTTY-User-Key-File…"}
	if !bytes.HasPrefix(rest, []byte("none")) {
		m.kind, m.rule = kindEncryptedKey, "putty-private-key-encrypted"
	}
	return m, true
}

// pgpSecretKey reports a first packet with tag 5, Secret Key (RFC 9580, 4.2 and 5).
func pgpSecretKey(b []byte) bool {
	switch {
	case b[0]&0xc0 == 0xc0:
		return b[0]&0x3f == 5
	case b[0]&0x80 != 0:
		return b[0]>>2&0x0f == 5
	}
	return false
}
