package notation

import (
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"strings"
)

// attributes are the names of RFC 4514, section 3, and those that openssl
// prints, with their object identifiers.
var attributes = map[string]string{
	"CN": "2.5.4.3", "L": "2.5.4.7", "ST": "2.5.4.8", "S": "2.5.4.8", "O": "2.5.4.10", "OU": "2.5.4.11",
	"C": "2.5.4.6", "STREET": "2.5.4.9", "SERIALNUMBER": "2.5.4.5", "POSTALCODE": "2.5.4.17",
	"DC": "0.9.2342.19200300.100.1.25", "UID": "0.9.2342.19200300.100.1.1",
}

// identity is what a certificate's subject must have, by object identifier. An
// empty one matches all.
type identity map[string]string

// parseIdentity reads "*" or "x509.subject: C=US, O=Acme, CN=release", a
// distinguished name of RFC 4514 in which no attribute stands twice.
func parseIdentity(text string) (identity, error) {
	if text == "*" {
		return identity{}, nil
	}
	rest, ok := strings.CutPrefix(text, "x509.subject:")
	if !ok {
		return nil, errors.New(`it starts with "x509.subject:"`)
	}
	id := identity{}
	for rest != "" {
		var pair string
		pair, rest = cutUnescaped(rest, ',')
		name, value, ok := strings.Cut(pair, "=")
		name = strings.ToUpper(strings.TrimSpace(name))
		oid := attributes[name]
		switch {
		case !ok:
			return nil, fmt.Errorf("%q is not NAME=value", strings.TrimSpace(pair))
		case oid == "":
			return nil, fmt.Errorf("the attribute %q is not known", name)
		}
		if plus, more := cutUnescaped(value, '+'); more != "" || len(plus) != len(value) {
			return nil, errors.New("several values joined by + are not supported")
		}
		value, err := unescape(strings.TrimSpace(value))
		switch {
		case err != nil:
			return nil, err
		case value == "":
			return nil, fmt.Errorf("%s is empty", name)
		case id[oid] != "":
			return nil, fmt.Errorf("%s stands twice", name)
		}
		id[oid] = value
	}
	if len(id) == 0 {
		return nil, errors.New("it names no attribute")
	}
	return id, nil
}

// cutUnescaped cuts s at the first sep without a backslash before it.
func cutUnescaped(s string, sep byte) (before, after string) {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case sep:
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}

// unescape takes the backslashes of RFC 4514, section 2.4, off.
func unescape(s string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' {
			if i++; i == len(s) {
				return "", errors.New("it ends in a backslash")
			}
			if !strings.ContainsRune(` "#+,;<=>\`, rune(s[i])) {
				return "", fmt.Errorf(`\%c is not an escape that is supported`, s[i])
			}
		}
		b.WriteByte(s[i])
	}
	return b.String(), nil
}

// matches reports whether the subject has every attribute of id, once, with its
// value.
func (id identity) matches(subject pkix.Name) bool {
	for oid, want := range id {
		n := 0
		for _, a := range subject.Names {
			if a.Type.String() != oid {
				continue
			}
			if v, ok := a.Value.(string); !ok || v != want {
				return false
			}
			n++
		}
		if n != 1 {
			return false
		}
	}
	return true
}
