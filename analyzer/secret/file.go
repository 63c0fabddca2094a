package secret

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// The kinds of what a path promises.
const (
	kindPassword    = "password"         // in a file or a setting that is not made for it
	kindCredentials = "credentials-file" // made to hold credentials, and holds one
	kindKeystore    = "keystore"
	kindHistory     = "history-file"
)

// fileRule looks at files of a name. Its check proves that there is something
// in it, and returns the value or the text that shows it, as an offset range.
type fileRule struct {
	kind, rule string
	names      func(p string) bool
	check      func(b []byte) (from, to int, ok bool)
}

// file applies the rules for the file's path to its beginning.
func (s *Scanner) file(b []byte) []match {
	if s.depth < Everything || len(b) == 0 || inTests(s.path) {
		return nil
	}
	var found []match
	for _, r := range s.files {
		if !r.names(s.path) {
			continue
		}
		if from, to, ok := r.check(b); ok {
			found = append(found, match{kind: r.kind, rule: r.rule, off: from, excerpt: mask(string(b[from:to]))})
		}
	}
	return found
}

func fileRules() []fileRule {
	assigned := func(names string) func([]byte) (int, int, bool) {
		return value(`(?im)^[ \t]*(?:export[ \t]+)?["']?(?:` + names + `)["']?[ \t]*[:=][ \t]*(\S+)[ \t]*$`)
	}
	return []fileRule{
		{kindCredentials, "dotenv", dotenv, setting},
		{kindCredentials, "kubeconfig", kubeconfig, value(`(?m)^[ \t-]*"?(?:client-key-data|token|password|id-token|refresh-token)"?:[ \t]*["']?([^\s"',]+)`)},
		{kindCredentials, "docker-config", named(".docker/config.json", ".dockercfg", ".dockerconfigjson", "containers/auth.json", "kaniko/.docker/config.json"), dockerAuth},
		{kindCredentials, "netrc", named(".netrc", "_netrc", "netrc", "apt/auth.conf"), value(`(?m)^[^#\n]*\bpassword\s+(\S+)`)},
		{kindCredentials, "apt-auth", under("etc/apt/auth.conf.d/"), value(`(?m)^[^#\n]*\bpassword\s+(\S+)`)},
		{kindCredentials, "npmrc", named(".npmrc", "etc/npmrc", "npmrc"), value(`(?m)^[^#;\n]*(?:_authToken|_auth|_password)[ \t]*=[ \t]*(\S+)`)},
		{kindCredentials, "yarnrc", named(".yarnrc.yml"), value(`(?m)^\s*(?:npmAuthToken|npmAuthIdent):\s*(\S+)`)},
		{kindCredentials, "pypirc", named(".pypirc"), assigned("password")},
		{kindCredentials, "pip-config", named("pip.conf", "pip/config", "uv.toml", ".condarc"), userinfo},
		{kindCredentials, "git-credentials", named(".git-credentials", "git/credentials"), userinfo},
		{kindCredentials, "git-config", named(".git/config", ".gitconfig", "etc/gitconfig"), userinfo},
		{kindCredentials, "gh-config", named("gh/hosts.yml", ".config/hub"), value(`(?m)^\s*oauth_token:\s*(\S+)`)},
		{kindCredentials, "pgpass", named(".pgpass", "pgpass.conf"), value(`(?m)^[^#\n:]+:[^:\n]*:[^:\n]*:[^:\n]*:(.+)$`)},
		{kindCredentials, "mysql-config", named(".my.cnf", "my.cnf", ".mylogin.cnf", "debian.cnf"), assigned("password")},
		{kindCredentials, "aws-credentials", named(".aws/credentials", ".aws/config", ".s3cfg", ".boto", ".passwd-s3fs"), value(`(?m)^\s*(?:aws_secret_access_key|aws_session_token|secret_key|gs_oauth2_refresh_token)\s*=\s*(\S+)`)},
		{kindCredentials, "gcloud-credentials", named("application_default_credentials.json", "gcloud/legacy_credentials/adc.json"), value(`"refresh_token"\s*:\s*"([^"]+)"`)},
		{kindCredentials, "azure-credentials", named("accessTokens.json", "msal_token_cache.json", "azureProfile.json", "service_principal_entries.json"), value(`"(?:refreshToken|accessToken|secret|client_secret)"\s*:\s*"([^"]+)"`)},
		{kindCredentials, "maven-settings", named(".m2/settings.xml", "conf/settings.xml"), value(`<(?:password|passphrase)>([^<{\s][^<\s]*)</`)},
		{kindCredentials, "gradle-properties", named("gradle.properties"), value(`(?im)^\s*[\w.]*(?:password|token|secret)\s*[=:]\s*(\S+)`)},
		{kindCredentials, "nuget-config", named("nuget.config", "NuGet.Config", "NuGet/NuGet.Config"), value(`(?i)key="(?:ClearText)?Password"\s+value="([^"]+)"`)},
		{kindCredentials, "composer-auth", named("composer/auth.json", "auth.json"), value(`"(?:password|github\.com|gitlab\.com)"\s*:\s*"([^"]+)"`)},
		{kindCredentials, "gem-credentials", named(".gem/credentials", "gem/credentials"), value(`(?m)^:?[\w-]+:\s*(\S+)`)},
		{kindCredentials, "cargo-credentials", named(".cargo/credentials", ".cargo/credentials.toml"), value(`(?m)^\s*token\s*=\s*"([^"]+)"`)},
		{kindCredentials, "terraform-credentials", named(".terraformrc", "credentials.tfrc.json"), value(`"?token"?\s*[:=]\s*"([^"]+)"`)},
		{kindCredentials, "terraform-state", suffixed(".tfstate", ".tfstate.backup"), value(`"(?:resources|modules)"\s*:\s*\[(\s*\{)`)},
		{kindCredentials, "vault-token-file", named(".vault-token"), value(`\A(\S{20,})\s*\z`)},
		{kindCredentials, "rclone-config", named("rclone.conf"), value(`(?m)^(?:pass|secret_access_key|token|key)\s*=\s*(\S.*)$`)},
		{kindCredentials, "rails-master-key", suffixed("config/master.key", "config/credentials.key"), value(`\A([0-9a-f]{32})\s*\z`)},
		{kindCredentials, "wifi-password", func(p string) bool {
			return strings.HasPrefix(p, "etc/NetworkManager/system-connections/") || strings.HasPrefix(p, "etc/wpa_supplicant")
		}, assigned("psk|password")},
		{kindCredentials, "chap-secrets", under("etc/ppp/"), value(`(?m)^[^#\s]\S*\s+\S+\s+("[^"\n]+"|[^"\s]\S*)\s`)},
		{kindCredentials, "ssh-authorized-keys", func(p string) bool { return strings.HasPrefix(path.Base(p), "authorized_keys") }, shown(`(?m)^[^#\n]*?((?:ssh|ecdsa|sk)-[\w@.-]+\s+AAAA[\w+/=]+)`)},
		{kindCredentials, "shadow", named("etc/shadow", "etc/shadow-", "etc/gshadow", "etc/security/opasswd"), shown(`(?m)^[^:#\n]+:(\$[0-9a-z]+\$[^:\n]{16,}|_[./0-9A-Za-z]{19}|[./0-9A-Za-z]{13}):`)},
		{kindCredentials, "htpasswd", func(p string) bool { return strings.Contains(path.Base(p), "htpasswd") }, shown(`(?m)^[^:#\n]+:(\$(?:apr1|2[aby]|5|6)\$[^:\n]{16,}|\{SHA\}[\w+/=]{28}|[./0-9A-Za-z]{13})\s*$`)},
		{kindPassword, "wordpress-config", named("wp-config.php"), value(`define\(\s*['"](?:DB_PASSWORD|AUTH_KEY|SECURE_AUTH_KEY)['"]\s*,\s*['"]([^'"]+)['"]`)},
		{kindKey, "gnupg-private-key", gnupg, shown(`(?m)^Key:\s*(\(private-key)\b`)},
		{kindEncryptedKey, "gnupg-private-key-encrypted", gnupg, shown(`(?m)^Key:\s*(\(protected-private-key)\b`)},
		{kindHistory, "shell-history", history, shown(`\A\s*(\S)`)},
	}
}

// named matches the last parts of a path.
func named(names ...string) func(string) bool {
	return func(p string) bool {
		return slices.ContainsFunc(names, func(n string) bool { return p == n || strings.HasSuffix(p, "/"+n) })
	}
}

func suffixed(ends ...string) func(string) bool {
	return func(p string) bool {
		return slices.ContainsFunc(ends, func(e string) bool { return strings.HasSuffix(p, e) })
	}
}

func under(dir string) func(string) bool {
	return func(p string) bool { return strings.HasPrefix(p, dir) }
}

// shown finds the first match of a pattern's group.
func shown(pattern string) func([]byte) (int, int, bool) {
	compile := sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(pattern) }) // most layers have none of these files
	return func(b []byte) (int, int, bool) {
		m := compile().FindSubmatchIndex(b)
		if m == nil {
			return 0, 0, false
		}
		return m[2], m[3], true
	}
}

// value is shown for groups that hold a value: examples and variables are none.
func value(pattern string) func([]byte) (int, int, bool) {
	compile := sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(pattern) })
	return func(b []byte) (int, int, bool) {
		for _, m := range compile().FindAllSubmatchIndex(b, 1000) {
			if v := string(b[m[2]:m[3]]); strings.TrimSpace(v) == "{" || len(strings.Trim(v, `"'`)) >= 4 && !placeholder(v) {
				return m[2], m[3], true
			}
		}
		return 0, 0, false
	}
}

// gnupg reports the key files of GnuPG's agent, text since version 2.2.
func gnupg(p string) bool { return path.Base(path.Dir(p)) == "private-keys-v1.d" }

// history reports the files in which shells and clients keep what was typed.
func history(p string) bool {
	switch path.Base(p) {
	case ".bash_history", ".zsh_history", ".zhistory", ".sh_history", ".ash_history", ".ksh_history", ".history", ".histfile", "fish_history",
		".python_history", ".node_repl_history", ".psql_history", ".mysql_history", ".sqlite_history", ".rediscli_history", ".irb_history", ".mongo_history", ".php_history":
		return true
	}
	return false
}

func kubeconfig(p string) bool {
	base := path.Base(p)
	return strings.HasSuffix(p, ".kube/config") || strings.Contains(base, "kubeconfig") ||
		strings.HasPrefix(p, "etc/kubernetes/") && strings.HasSuffix(base, ".conf") || strings.HasPrefix(p, "etc/rancher/")
}

// dotenv reports .env and its variants, but not what is made to be copied.
func dotenv(p string) bool {
	base := path.Base(p)
	if base != ".env" && base != ".envrc" && !strings.HasPrefix(base, ".env.") && !strings.HasSuffix(base, ".env") {
		return false
	}
	for _, word := range []string{"example", "sample", "template", "dist", "default", "tpl", "schema"} {
		if strings.Contains(base, word) {
			return false
		}
	}
	return true
}

// settings are lines NAME=value, with the value in the second group.
var settings = regexp.MustCompile(`(?m)^[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_.-]*)[ \t]*=[ \t]*("[^"\n]*"|'[^'\n]*'|[^\s#]+)`)

// setting finds the first variable whose name promises a secret and whose value
// could be one.
func setting(b []byte) (int, int, bool) {
	for _, m := range settings.FindAllSubmatchIndex(b, 1000) {
		if secretName(string(b[m[2]:m[3]])) && password(string(b[m[4]:m[5]])) {
			return m[4], m[5], true
		}
	}
	return 0, 0, false
}

var (
	secretWords = regexp.MustCompile(`(?i)(^|[_.-])(password|passwd|passphrase|pwd|pass|secret|token|api[_-]?key|apikey|access[_-]?key|secret[_-]?key|private[_-]?key|auth[_-]?key|encryption[_-]?key|credentials?|dsn)($|[_.-]|\d)`)
	otherThings = regexp.MustCompile(`(?i)[_.-](file|path|dir|url|uri|name|id|length|len|ttl|expiry|expires|timeout|type|prefix|header|issuer|algorithm|alg|policy|min|max|enabled|required|version|hash|sha256|fingerprint|user|username|field|provider|endpoint|host|port)$`)
)

// secretName reports the name of a variable that holds a secret, not one that
// tells where a secret is or what it must be like.
func secretName(name string) bool {
	return secretWords.MatchString(name) && !otherThings.MatchString(name)
}

var credentialsInURL = regexp.MustCompile(`[a-z][a-z0-9+.-]*://[^\s:/@'"]*:([^\s:/@'"]+)@`)

// userinfo finds a password in a URL (RFC 3986, 3.2.1).
func userinfo(b []byte) (int, int, bool) {
	for _, m := range credentialsInURL.FindAllSubmatchIndex(b, 100) {
		if v := string(b[m[2]:m[3]]); len(v) >= 4 && !placeholder(v) && v != "password" && v != "pass" && v != "secret" {
			return m[2], m[3], true
		}
	}
	return 0, 0, false
}

// dockerAuth finds a stored login of Docker's ("docker login", credentials
// store): base 64 of name:password, or a token.
func dockerAuth(b []byte) (int, int, bool) {
	type login struct {
		Auth     string `json:"auth"`
		Password string `json:"password"`
		Identity string `json:"identitytoken"`
		Registry string `json:"registrytoken"`
	}
	var doc struct {
		Auths map[string]login `json:"auths"`
	}
	var old map[string]login // .dockercfg has no "auths"
	if json.Unmarshal(b, &doc) != nil || len(doc.Auths) == 0 && json.Unmarshal(b, &old) != nil {
		return 0, 0, false
	}
	if len(doc.Auths) == 0 {
		doc.Auths = old
	}
	for _, l := range doc.Auths {
		v := l.Auth
		if plain, err := base64.StdEncoding.DecodeString(v); err == nil {
			if _, password, ok := strings.Cut(string(plain), ":"); !ok || password == "" || placeholder(password) {
				v = ""
			}
		}
		for _, v := range []string{v, l.Password, l.Identity, l.Registry} {
			if at := bytes.Index(b, []byte(v)); v != "" && at >= 0 {
				return at, at + len(v), true
			}
		}
	}
	return 0, 0, false
}
