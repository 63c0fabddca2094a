package secret

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// generate makes a random value of an alphabet.
func generate(r *rand.Rand, a alphabet, n int) string {
	var chars []byte
	for c := range 128 {
		if isAlnum(byte(c)) && a(byte(c)) {
			chars = append(chars, byte(c))
		}
	}
	b := make([]byte, n)
	for i := range b {
		b[i] = chars[r.IntN(len(chars))]
	}
	return string(b)
}

// valid makes a value that t must recognise.
func valid(r *rand.Rand, t token) string {
	v := generate(r, t.chars, t.min)
	switch t.rule {
	case "github-token":
		return githubToken("", generate(r, isAlnum, 30))
	case "age-secret-key":
		return "JYCAVRQ5ZJK4UA4V8JSUEGZJ6ZUMHNCRHMV5EGCTHGEJ4SH3WXAQ3NRH3N"
	case "azure-storage-key":
		return generate(r, isBase64, 86) + "=="
	case "azure-shared-access-key":
		return generate(r, isBase64, 43) + "="
	case "sendgrid-key":
		return v[:22] + "." + v[23:]
	case "slack-token":
		return "1" + v[:12] + "-" + v[13:]
	}
	return v
}

// TestTokens makes tokens of each format, and asserts that one is found, and
// that neither a shorter one, nor one in a word, nor an example is.
func TestTokens(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	rules := func(text string) []string {
		var got []string
		for _, s := range scan("etc/x", text) {
			if s.Excerpt == "" || len(s.Excerpt) > 8+len("…") {
				t.Errorf("excerpt %q", s.Excerpt)
			}
			got = append(got, s.Rule)
		}
		return got
	}
	for _, tok := range tokens() {
		t.Run(tok.prefix, func(t *testing.T) {
			if tok.rule == "age-secret-key" {
				t.Skip("see TestAge")
			}
			for range 50 {
				v := valid(r, tok)
				if tok.check != nil && !tok.check(v) || !tok.proof && !random(v) {
					continue // of few digits, by chance
				}
				if d := cmp.Diff([]string{tok.rule}, rules("TOKEN="+tok.prefix+v+"\n")); d != "" {
					t.Fatalf("%s%s (-want +got):\n%s", tok.prefix, v, d)
				}
				for what, text := range map[string]string{
					"short":   tok.prefix + v[:tok.min-1],
					"word":    "a" + tok.prefix + v,
					"example": tok.prefix + strings.Repeat("x", tok.min),
				} {
					if got := rules(text); len(got) > 0 {
						t.Fatalf("%s %q: found %v", what, text, got)
					}
				}
				if !tok.chars('-') && tok.max == tok.min {
					if got := rules(tok.prefix + v + "0"); len(got) > 0 && got[0] == tok.rule {
						t.Fatalf("longer: found %v", got)
					}
				}
			}
		})
	}
}

// TestAge uses the key of the age specification's test vectors, and one with a
// character changed.
func TestAge(t *testing.T) {
	const key = "AGE-SECRET-KEY-1XMWWC06LY3EE5RYTXM9MFLAZ2U56JJJ36S0MYPDRWSVLUL66MV4QX3S7F6"
	for text, want := range map[string]int{key: 1, strings.Replace(key, "XMWWC", "XMWWD", 1): 0} {
		if got := scan("etc/x", text); len(got) != want {
			t.Errorf("%s: %+v", text, got)
		}
	}
}

// TestContext has credentials that are recognised by what is around them.
func TestContext(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	alnum := func(n int) string { return generate(r, isAlnum, n) }
	hex := func(n int) string { return generate(r, isHex, n) }
	const header = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"
	for _, tt := range []struct {
		name, text string
		want       string
	}{
		{"openai", "sk-" + alnum(20) + "T3BlbkFJ" + alnum(20), "openai-key"},
		{"openai project", "sk-proj-" + alnum(70) + "T3BlbkFJ" + alnum(70), "openai-key"},
		{"openai of no key", alnum(20) + "T3BlbkFJ" + alnum(20), ""},
		{"terraform", alnum(14) + ".atlasv1." + alnum(67), "terraform-token"},
		{"telegram", "bot 123456789:AAF" + alnum(32) + " ", "telegram-bot-token"},
		{"telegram in a longer number", "x123456789:AAF" + alnum(32), ""},
		{"twilio", "TWILIO_SID=AC" + hex(32) + "\nTWILIO_TOKEN=" + hex(32) + "\n", "twilio-token"},
		{"twilio account alone", "TWILIO_SID=AC" + hex(32), ""},
		{"slack hook", "https://hooks.slack.com/services/T0" + generate(r, isUpperNum, 9) + "/B0" + generate(r, isUpperNum, 9) + "/" + alnum(24), "slack-webhook"},
		{"jwt", header + ".eyJzdWIiOiJhbGljZSIsImV4cCI6MTcwMDAwMDAwMH0." + alnum(43), "jwt"},
		{"jwt.io", header + ".eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwiaWF0IjoxNTE2MjM5MDIyfQ." + alnum(43), ""},
		{"jwk", `{"keys":[{"kty":"EC","crv":"P-256","x":"` + alnum(43) + `","y":"` + alnum(43) + `","d":"` + alnum(43) + `"}]}`, "jwk-private-key"},
		{"public jwk", `{"kty":"EC","crv":"P-256","x":"` + alnum(43) + `","y":"` + alnum(43) + `"}`, ""},
		{"putty", "PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\nComment: x\nPublic-Lines: 2\nAAAA\nPrivate-Lines: 1\nAAAA\nPrivate-MAC: 00\n", "putty-private-key"},
		{"putty under a passphrase", "PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: aes256-cbc\nPrivate-Lines: 1\nAAAA\nPrivate-MAC: 00\n", "putty-private-key-encrypted"},
	} {
		got := ""
		for _, s := range scan("etc/x", tt.text) {
			got += s.Rule
			if s.Rule == "jwt" && s.NotAfter.Unix() != 1700000000 {
				t.Errorf("%s: ends at %v", tt.name, s.NotAfter)
			}
		}
		if got != tt.want {
			t.Errorf("%s: found %q, want %q", tt.name, got, tt.want)
		}
	}
}

// TestRandom asserts that hardly any random value is taken for an example, and
// that examples are.
func TestRandom(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for name, a := range map[string]alphabet{"alnum": isAlnum, "hex": isHex, "upper": isUpperNum} {
		missed := 0
		for range 20_000 {
			if !random(generate(r, a, 32)) {
				missed++
			}
		}
		if missed > 10 {
			t.Errorf("%s: %d of 20000 taken for examples", name, missed)
		}
	}
	for _, v := range []string{
		strings.Repeat("a", 40), "0123456789abcdef0123456789abcdef", "abcdefghijklmnopqrstuvwxyz0123456789", "your_token_here_000000000",
		"EXAMPLE" + generate(r, isAlnum, 30), "${TOKEN}", "<your token>", strings.Repeat("ab", 20),
	} {
		if random(v) {
			t.Errorf("%q passes as random", v)
		}
	}
}

// TestFilter compares the filter with a search for each keyword.
func TestFilter(t *testing.T) {
	rs := rules()
	f := newFilter(rs)
	r := rand.New(rand.NewPCG(7, 8))
	for _, k := range rs {
		if len(k.keyword) < 3 || len(k.keyword) > maxKeyword {
			t.Errorf("keyword %q has %d bytes", k.keyword, len(k.keyword))
		}
	}
	for round := range 2000 {
		var text []byte
		for range r.IntN(12) {
			text = append(text, rs[r.IntN(len(rs))].keyword...)
			text = append(text, generate(r, isAlnum, r.IntN(9))...)
		}
		from, to := 0, len(text)
		if len(text) > 0 && round%2 == 1 {
			from = r.IntN(len(text))
			to = from + r.IntN(len(text)-from+1)
		}
		want, got := map[string]int{}, map[string]int{}
		for i := range rs {
			for at := from; at < to; at++ {
				if strings.HasPrefix(string(text[at:]), rs[i].keyword) {
					want[fmt.Sprint(i, " at ", at)]++
				}
			}
		}
		f.find(text, from, to, func(k *rule, at int) {
			for i := range rs {
				if &rs[i] == k {
					got[fmt.Sprint(i, " at ", at)]++
				}
			}
		})
		if d := cmp.Diff(want, got); d != "" {
			t.Fatalf("%q from %d to %d (-want +got):\n%s", text, from, to, d)
		}
	}
}

func BenchmarkFilter(b *testing.B) {
	text := []byte(strings.Repeat("The quick brown fox jumps over the lazy dog; sk-ip a few_words, hf_x { return ghp; }\n", 12000))
	s := NewScanner()
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		s.Reset("etc/x", Everything)
		s.Whole(text)
	}
}
