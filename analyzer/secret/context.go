package secret

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"
)

// The rules of this file recognise credentials by more than a prefix.

// word returns the n letters, digits and underscores at hint, if there are
// exactly that many and none before.
func word(text []byte, hint, n int) (string, bool) {
	if hint+n > len(text) || hint > 0 && isWord(text[hint-1]) || run(text[hint:min(len(text), hint+n+1)], isWord) != n {
		return "", false
	}
	return string(text[hint : hint+n]), true
}

// near is how far from its id a secret is looked for, in bytes.
const near = 512

// around is the text on both sides of a match of n bytes.
func around(text []byte, hint, n int) []byte {
	return text[max(0, hint-near):min(len(text), hint+n+near)]
}

// words calls yield for each run of the alphabet in text, until it returns true.
func words(text []byte, a alphabet, yield func(w []byte) bool) bool {
	for i := 0; i < len(text); {
		n := run(text[i:], a)
		if n > 0 && yield(text[i:i+n]) {
			return true
		}
		i += n + 1
	}
	return false
}

// awsAt recognises an access key id (AKIA or ASIA and 16 of base 32) that has a
// secret access key, 40 characters of base 64, close by ("IAM identifiers" and
// "Managing access keys", AWS documentation).
func awsAt(text []byte, hint int) (match, bool) {
	id, ok := word(text, hint, 20)
	if !ok || strings.HasSuffix(id, "EXAMPLE") || strings.Trim(id[4:], "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") != "" || !random(id[4:]) {
		return match{}, false
	}
	ok = words(around(text, hint, len(id)), isBase64, func(w []byte) bool { return len(w) == 40 && isAWSSecret(w) })
	return match{kind: kindCloud, rule: "aws-access-key", off: hint, excerpt: mask(id)}, ok
}

// isAWSSecret tells a secret from other words of 40 characters: a SHA-1, a
// path, a name, Amazon's example.
func isAWSSecret(b []byte) bool {
	var upper, lower, digit int
	seen := map[byte]bool{}
	for _, c := range b {
		seen[c] = true
		switch {
		case isUpper(c):
			upper++
		case isLower(c):
			lower++
		case isDigit(c):
			digit++
		}
	}
	return upper >= 4 && lower >= 4 && digit >= 2 && len(seen) >= 18 && !bytes.HasSuffix(b, []byte("EXAMPLEKEY"))
}

// openAIAt recognises OpenAI's keys by the middle that all of them have: "OpenAI"
// in base 64, between two equally long random parts.
func openAIAt(text []byte, hint int) (match, bool) {
	const middle = len("T3BlbkFJ")
	left := runBack(text[max(0, hint-200):hint], isURLSafe)
	right := run(text[hint+middle:min(len(text), hint+middle+200)], isURLSafe)
	v := string(text[hint-left : hint+middle+right])
	if !strings.HasPrefix(v, "sk-") || left < 20 || right < 20 || !random(v[3:left]) || !random(v[left+middle:]) {
		return match{}, false
	}
	return match{kind: kindAPI, rule: "openai-key", off: hint - left, excerpt: mask(v)}, true
}

// terraformAt recognises HCP Terraform's tokens: 14 characters, .atlasv1., 60 to 70.
func terraformAt(text []byte, hint int) (match, bool) {
	const middle = len(".atlasv1.")
	left := runBack(text[max(0, hint-20):hint], isAlnum)
	right := run(text[hint+middle:min(len(text), hint+middle+80)], isURLSafe)
	if left != 14 || right < 60 || right > 70 || !random(string(text[hint+middle:hint+middle+right])) {
		return match{}, false
	}
	v := string(text[hint-left : hint+middle+right])
	return match{kind: kindCloud, rule: "terraform-token", off: hint - left, excerpt: mask(v)}, true
}

// telegramAt recognises bot tokens: the bot's number, a colon, 35 characters.
func telegramAt(text []byte, hint int) (match, bool) {
	left := runBack(text[max(0, hint-12):hint], isDigit)
	right := run(text[hint+1:min(len(text), hint+40)], isURLSafe)
	if left < 8 || left > 10 || right != 35 || hint > left && isWord(text[hint-left-1]) || !random(string(text[hint+1:hint+1+right])) {
		return match{}, false
	}
	return match{kind: kindAPI, rule: "telegram-bot-token", off: hint - left, excerpt: mask(string(text[hint-left : hint+1+right]))}, true
}

// twilioAt recognises an account (AC and 32 of hex) with its auth token, 32 of
// hex, both close to the provider's name.
func twilioAt(text []byte, hint int) (match, bool) {
	here := around(text, hint, 5)
	if bytes.Contains(text[max(0, hint-64):hint], text[hint:hint+5]) {
		return match{}, false // what is around has been looked at
	}
	account, secret := "", ""
	words(here, isAlnum, func(w []byte) bool {
		switch {
		case len(w) == 34 && string(w[:2]) == "AC" && run(w[2:], isHex) == 32:
			account = string(w)
		case len(w) == 32 && run(w, isHex) == 32 && random(string(w)):
			secret = string(w)
		}
		return false
	})
	if account == "" || secret == "" || !random(account[2:]) {
		return match{}, false
	}
	off := max(0, hint-near) + bytes.Index(here, []byte(secret))
	return match{kind: kindAPI, rule: "twilio-token", off: off, excerpt: mask(secret)}, true
}

// slackHookAt recognises an incoming web hook: whoever has the address may post.
func slackHookAt(text []byte, hint int) (match, bool) {
	from := hint + len("hooks.slack.com/services/")
	n := run(text[from:min(len(text), from+80)], func(c byte) bool { return isAlnum(c) || c == '/' })
	parts := strings.Split(string(text[from:from+n]), "/")
	if len(parts) != 3 || len(parts[0]) < 9 || len(parts[1]) < 9 || parts[1][0] != 'B' || len(parts[2]) != 24 || !random(parts[2]) || !random(parts[0]) {
		return match{}, false
	}
	return match{kind: kindAPI, rule: "slack-webhook", off: hint, excerpt: "hooks.slack.com/…"}, true
}

// kindJWT is apart: many are public or expired.
const kindJWT = "jwt"

// jwtAt recognises signed JSON web tokens (RFC 7519) with a subject, an issuer
// or an audience. When the token ends is part of what is found.
func jwtAt(text []byte, hint int) (match, bool) {
	if hint > 0 && isDotted(text[hint-1]) {
		return match{}, false
	}
	n := run(text[hint:min(len(text), hint+8<<10)], isDotted)
	parts := strings.Split(string(text[hint:hint+n]), ".")
	if len(parts) != 3 || len(parts[2]) < 40 {
		return match{}, false
	}
	var header struct {
		Algorithm string `json:"alg"`
	}
	var claims struct {
		Subject  any     `json:"sub"`
		Issuer   any     `json:"iss"`
		Audience any     `json:"aud"`
		Expires  float64 `json:"exp"`
	}
	if !segment(parts[0], &header) || !segment(parts[1], &claims) || header.Algorithm == "" || header.Algorithm == "none" {
		return match{}, false
	}
	if claims.Subject == nil && claims.Issuer == nil && claims.Audience == nil ||
		claims.Subject == "1234567890" || claims.Issuer == "joe" { // the examples of jwt.io and of RFC 7519
		return match{}, false
	}
	m := match{kind: kindJWT, rule: "jwt", off: hint, excerpt: mask(parts[2])}
	if claims.Expires > 0 && claims.Expires < 1<<40 {
		m.notAfter = time.Unix(int64(claims.Expires), 0).UTC()
	}
	return m, true
}

func segment(s string, v any) bool {
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(s, "="))
	return err == nil && json.Unmarshal(b, v) == nil
}

// jwkAt recognises a private or symmetric JSON web key (RFC 7517, RFC 7518
// section 6) by its flat object.
func jwkAt(text []byte, hint int) (match, bool) {
	const longest = 8 << 10
	from := bytes.LastIndexByte(text[:hint], '{')
	if from < 0 || bytes.Contains(text[from:hint], []byte(`"kty"`)) {
		return match{}, false // each key is read once
	}
	to := bytes.IndexByte(text[hint:min(len(text), hint+longest)], '}')
	if to < 0 || bytes.IndexByte(text[hint:hint+to], '{') >= 0 {
		return match{}, false
	}
	var key struct {
		Type string `json:"kty"`
		D    string `json:"d"`
		K    string `json:"k"`
	}
	if json.Unmarshal(text[from:hint+to+1], &key) != nil {
		return match{}, false
	}
	v := ""
	switch key.Type {
	case "RSA", "EC", "OKP":
		v = key.D
	case "oct":
		v = key.K
	}
	if b, err := base64.RawURLEncoding.DecodeString(v); err != nil || len(b) < 16 || !random(v) {
		return match{}, false
	}
	return match{kind: kindKey, rule: "jwk-private-key", off: from, excerpt: mask(v)}, true
}
