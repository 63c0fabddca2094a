package secret

import (
	"hash/crc32"
	"strings"
)

// The kinds of tokens.
const (
	kindCloud  = "cloud-token" // of a cloud or infrastructure provider
	kindVCS    = "vcs-token"   // of a source code host
	kindAPI    = "api-token"   // of another service
	kindPublic = "api-key"     // names a client; often public by design
)

// token is a credential with a prefix of its own.
type token struct {
	kind, rule string
	prefix     string
	chars      alphabet // of what follows the prefix
	min, max   int      // how many
	check      func(value string) bool
	proof      bool // check proves; without, the value must be random as well
}

// tokens are the formats as their makers document or as secret scanning
// programs register them (docs.github.com, "Supported secret scanning
// patterns").
func tokens() []token {
	return []token{
		{kindVCS, "github-token", "ghp_", isWord, 36, 36, checksum, true},
		{kindVCS, "github-token", "gho_", isWord, 36, 36, checksum, true},
		{kindVCS, "github-token", "ghu_", isWord, 36, 36, checksum, true},
		{kindVCS, "github-token", "ghs_", isWord, 36, 36, checksum, true},
		{kindVCS, "github-token", "ghr_", isWord, 36, 36, checksum, true},
		{kindVCS, "github-refresh-token", "ghr_", isAlnum, 76, 76, nil, false},
		{kindVCS, "github-fine-grained-token", "github_pat_", isWord, 82, 82, nil, false},
		{kindVCS, "gitlab-token", "glpat-", isDotted, 20, 320, nil, false},
		{kindVCS, "gitlab-token", "gldt-", isURLSafe, 20, 320, nil, false},
		{kindVCS, "gitlab-token", "glrt-", isDotted, 20, 320, nil, false},
		{kindVCS, "gitlab-token", "glcbt-", isURLSafe, 20, 320, nil, false},
		{kindVCS, "gitlab-token", "glptt-", isHex, 40, 40, nil, false},
		{kindVCS, "gitlab-token", "gloas-", isHex, 64, 64, nil, false},
		{kindVCS, "gitlab-token", "glagent-", isURLSafe, 50, 320, nil, false},
		{kindVCS, "gitlab-token", "glsoat-", isURLSafe, 20, 320, nil, false},
		{kindVCS, "bitbucket-app-password", "ATBB", isAlnum, 32, 32, nil, false},
		{kindVCS, "atlassian-token", "ATATT3xFfGF0", isAtlassian, 160, 400, nil, false},
		{kindCloud, "azure-storage-key", "AccountKey=", isPadded, 88, 88, padded, false},
		{kindCloud, "azure-shared-access-key", "SharedAccessKey=", isPadded, 44, 44, padded, false},
		{kindCloud, "digitalocean-token", "dop_v1_", isHex, 64, 64, nil, false},
		{kindCloud, "digitalocean-token", "doo_v1_", isHex, 64, 64, nil, false},
		{kindCloud, "digitalocean-token", "dor_v1_", isHex, 64, 64, nil, false},
		{kindCloud, "vault-token", "hvs.", isURLSafe, 90, 320, nil, false},
		{kindCloud, "vault-token", "hvb.", isURLSafe, 130, 320, nil, false},
		{kindCloud, "heroku-key", "HRKU-", isURLSafe, 36, 60, nil, false},
		{kindCloud, "databricks-token", "dapi", isHex, 32, 32, nil, false},
		{kindCloud, "pulumi-token", "pul-", isHex, 40, 40, nil, false},
		{kindCloud, "planetscale-token", "pscale_tkn_", isDotted, 32, 64, nil, false},
		{kindCloud, "planetscale-password", "pscale_pw_", isDotted, 32, 64, nil, false},
		{kindCloud, "supabase-token", "sbp_", isHex, 40, 40, nil, false},
		{kindCloud, "supabase-secret-key", "sb_secret_", isURLSafe, 31, 36, nil, false},
		{kindCloud, "tailscale-key", "tskey-auth-", isDashedNum, 20, 80, nil, false},
		{kindCloud, "tailscale-key", "tskey-api-", isDashedNum, 20, 80, nil, false},
		{kindCloud, "netlify-token", "nfp_", isAlnum, 36, 36, nil, false},
		{kindCloud, "fly-token", "FlyV1 fm2_", isPadded, 100, 1000, nil, false},
		{kindAPI, "npm-token", "npm_", isWord, 36, 36, nil, false},
		{kindAPI, "pypi-token", "pypi-AgEIcHlwaS5vcmc", isURLSafe, 50, 1000, nil, false},
		{kindAPI, "pypi-token", "pypi-AgENdGVzdC5weXBpLm9yZw", isURLSafe, 50, 1000, nil, false},
		{kindAPI, "rubygems-token", "rubygems_", isHex, 48, 48, nil, false},
		{kindAPI, "crates-io-token", "cio", isAlnum, 32, 32, mixed, false},
		{kindAPI, "nuget-key", "oy2", isLowerNum, 43, 43, mixed, false},
		{kindAPI, "packagist-token", "packagist_", isWord, 32, 100, nil, false},
		{kindAPI, "docker-hub-token", "dckr_pat_", isURLSafe, 27, 27, nil, false},
		{kindAPI, "docker-hub-token", "dckr_oat_", isURLSafe, 32, 32, nil, false},
		{kindAPI, "artifactory-token", "AKCp", isAlnum, 69, 69, nil, false},
		{kindAPI, "artifactory-token", "cmVmdGtuOj", isAlnum, 54, 54, nil, false},
		{kindAPI, "circleci-token", "CCIPAT_", isWord, 63, 63, nil, false},
		{kindAPI, "circleci-token", "CCIPRJ_", isWord, 63, 63, nil, false},
		{kindAPI, "buildkite-token", "bkua_", isHex, 40, 40, nil, false},
		{kindAPI, "slack-token", "xoxb-", isDashedNum, 40, 250, slack, false},
		{kindAPI, "slack-token", "xoxp-", isDashedNum, 40, 250, slack, false},
		{kindAPI, "slack-token", "xoxa-", isDashedNum, 40, 250, slack, false},
		{kindAPI, "slack-token", "xoxr-", isDashedNum, 40, 250, slack, false},
		{kindAPI, "slack-token", "xoxs-", isDashedNum, 40, 250, slack, false},
		{kindAPI, "slack-token", "xapp-", isDashedNum, 80, 250, slack, false},
		{kindAPI, "stripe-key", "sk_live_", isAlnum, 24, 99, nil, false},
		{kindAPI, "stripe-key", "rk_live_", isAlnum, 24, 99, nil, false},
		{kindAPI, "square-secret", "sq0csp-", isURLSafe, 43, 43, nil, false},
		{kindAPI, "shopify-token", "shpat_", isHex, 32, 32, nil, false},
		{kindAPI, "shopify-token", "shpca_", isHex, 32, 32, nil, false},
		{kindAPI, "shopify-token", "shppa_", isHex, 32, 32, nil, false},
		{kindAPI, "shopify-secret", "shpss_", isHex, 32, 32, nil, false},
		{kindAPI, "sendgrid-key", "SG.", isDotted, 66, 66, sendgrid, false},
		{kindAPI, "huggingface-token", "hf_", isAlnum, 34, 34, nil, false},
		{kindAPI, "anthropic-key", "sk-ant-api03-", isURLSafe, 80, 120, nil, false},
		{kindAPI, "anthropic-key", "sk-ant-admin01-", isURLSafe, 80, 120, nil, false},
		{kindAPI, "anthropic-token", "sk-ant-oat01-", isURLSafe, 80, 120, nil, false},
		{kindAPI, "openrouter-key", "sk-or-v1-", isHex, 64, 64, nil, false},
		{kindAPI, "xai-key", "xai-", isAlnum, 80, 80, nil, false},
		{kindAPI, "groq-key", "gsk_", isAlnum, 52, 52, nil, false},
		{kindAPI, "perplexity-key", "pplx-", isAlnum, 48, 56, nil, false},
		{kindAPI, "replicate-token", "r8_", isAlnum, 37, 37, nil, false},
		{kindAPI, "newrelic-key", "NRAK-", isUpperNum, 27, 27, nil, false},
		{kindAPI, "grafana-token", "glsa_", isWord, 41, 41, nil, false},
		{kindAPI, "grafana-cloud-token", "glc_eyJ", isPadded, 60, 400, nil, false},
		{kindAPI, "sentry-token", "sntryu_", isHex, 64, 64, nil, false},
		{kindAPI, "sentry-token", "sntrys_eyJ", isPaddedWord, 100, 400, nil, false},
		{kindAPI, "postman-key", "PMAK-", isDashedNum, 59, 59, nil, false},
		{kindAPI, "linear-key", "lin_api_", isAlnum, 40, 40, nil, false},
		{kindAPI, "notion-token", "ntn_", isAlnum, 46, 46, nil, false},
		{kindAPI, "figma-token", "figd_", isURLSafe, 40, 46, nil, false},
		{kindAPI, "doppler-token", "dp.pt.", isAlnum, 43, 43, nil, false},
		{kindAPI, "doppler-token", "dp.st.", isDotted, 40, 80, nil, false},
		{kindAPI, "1password-token", "ops_eyJ", isPadded, 250, 2000, nil, false},
		{kindKey, "age-secret-key", "AGE-SECRET-KEY-1", isUpperNum, 58, 58, bech32, true},
		{kindPublic, "google-api-key", "AIza", isURLSafe, 35, 35, nil, false},
		{kindPublic, "google-oauth-secret", "GOCSPX-", isURLSafe, 28, 28, nil, false},
	}
}

func isPadded(c byte) bool     { return isBase64(c) || c == '=' }
func isPaddedWord(c byte) bool { return isPadded(c) || c == '_' }
func isAtlassian(c byte) bool  { return isURLSafe(c) || c == '=' }

// at recognises t at its prefix: nothing before it that it could belong to, as
// many characters behind it as there have to be and no more, and none of an
// example's.
func (t token) at(text []byte, hint int) (match, bool) {
	if hint > 0 {
		if c := text[hint-1]; isWord(c) || (c == '-' || c == '.') && t.chars(c) {
			return match{}, false
		}
	}
	from := hint + len(t.prefix)
	n := run(text[from:min(len(text), from+t.max+1)], t.chars)
	for n > t.min && (text[from+n-1] == '.' || text[from+n-1] == '-') {
		n-- // the end of a sentence
	}
	if n < t.min || n > t.max {
		return match{}, false
	}
	v := string(text[from : from+n])
	if !t.proof && !random(v) || t.check != nil && !t.check(v) {
		return match{}, false
	}
	return match{kind: t.kind, rule: t.rule, off: hint, excerpt: mask(t.prefix + v)}, true
}

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// checksum reports whether v ends in the CRC-32 of the rest, six characters in
// base 62 ("Behind GitHub's new authentication token formats", github.blog,
// April 2021).
func checksum(v string) bool {
	const sum = 6
	crc := crc32.ChecksumIEEE([]byte(v[:len(v)-sum]))
	want := [sum]byte{}
	for i := sum - 1; i >= 0; i-- {
		want[i] = base62[crc%62]
		crc /= 62
	}
	return v[len(v)-sum:] == string(want[:])
}

// mixed is for short prefixes that words have too: at least four digits.
func mixed(v string) bool {
	digits := 0
	for i := range len(v) {
		if isDigit(v[i]) {
			digits++
		}
	}
	return digits >= 4 && digits < len(v)-4
}

// padded reports base 64 of whole groups with its padding at the end.
func padded(v string) bool {
	return strings.HasSuffix(v, "=") && !strings.Contains(strings.TrimRight(v, "="), "=")
}

// slack reports the numbers of a workspace or app before the secret part.
func slack(v string) bool {
	parts := strings.Split(v, "-")
	return len(parts) >= 2 && strings.ContainsAny(parts[0], "0123456789") && len(parts[len(parts)-1]) >= 20
}

// sendgrid is an id of 22 characters, a dot, a secret of 43.
func sendgrid(v string) bool { return v[22] == '.' && strings.Count(v, ".") == 1 }

// bech32 reports a valid checksum of an age identity (BIP 173, "Checksum").
func bech32(v string) bool {
	const charset = "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L"
	values := make([]byte, 0, 128)
	const hrp = "age-secret-key-"
	for i := range len(hrp) {
		values = append(values, hrp[i]>>5)
	}
	values = append(values, 0)
	for i := range len(hrp) {
		values = append(values, hrp[i]&31)
	}
	for i := range len(v) {
		k := strings.IndexByte(charset, v[i])
		if k < 0 {
			return false
		}
		values = append(values, byte(k))
	}
	chk := uint32(1)
	for _, v := range values {
		top := chk >> 25
		chk = chk&0x1ffffff<<5 ^ uint32(v)
		for i, g := range [...]uint32{0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3} {
			if top>>i&1 == 1 {
				chk ^= g
			}
		}
	}
	return chk == 1
}
