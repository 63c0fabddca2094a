package configs

// Config is all that can be configured. Its zero value is not useful: start
// with Default or Load. The comments for operators are in default.yaml.
type Config struct {
	Listen           string              `yaml:"listen"`           // address of the registry listener
	Ops              Ops                 `yaml:"ops"`              // operations listener
	Data             string              `yaml:"data"`             // directory of content, records and the advisory index
	TLS              TLS                 `yaml:"tls"`              // certificate of the registry listener
	Default          string              `yaml:"default"`          // upstream of names without one; "" = none
	LocalPrefix      string              `yaml:"localPrefix"`      // first component that no upstream may take
	UpstreamDefaults bool                `yaml:"upstreamDefaults"` // false drops the well-known registries that are not named
	Upstreams        map[string]Upstream `yaml:"upstreams"`        // by canonical name, such as docker.io
	DockerConfig     string              `yaml:"dockerConfig"`     // auto or none
	TrustedProxies   []string            `yaml:"trustedProxies"`   // address ranges whose X-Forwarded-For is believed
	Auth             Auth                `yaml:"auth"`             // who may do what
	Registry         Registry            `yaml:"registry"`         // the gated registry under LocalPrefix
	Release          Release             `yaml:"release"`
	TagTTL           Duration            `yaml:"tagTTL"`       // how long a tag's digest is not asked for again
	StaleIfError     Duration            `yaml:"staleIfError"` // how much longer it holds while the upstream fails
	Cache            Cache               `yaml:"cache"`
	Advisories       Advisories          `yaml:"advisories"`
	Policy           Policy              `yaml:"policy"`
	VEX              VEX                 `yaml:"vex"`
	Waivers          Waivers             `yaml:"waivers"`
	Attest           Attest              `yaml:"attest"` // what Sluice itself signs
	Analysis         Analysis            `yaml:"analysis"`
	Log              Log                 `yaml:"log"`
	Shutdown         Shutdown            `yaml:"shutdown"`

	origin map[string]origin // where a path was set; a path without one has its default or was set by the caller
}

// Ops is the operations listener: health, metrics, REST API.
type Ops struct {
	Listen    string `yaml:"listen"`    // its address
	Token     Secret `yaml:"token"`     // environment only
	TokenFile string `yaml:"tokenFile"` // file that holds the bearer token
}

// TLS names a certificate and its key, both PEM. Both or none are set.
type TLS struct {
	Cert     string `yaml:"cert"`
	Key      string `yaml:"key"`
	ClientCA string `yaml:"clientCA"` // of client certificates, which then are identities; "" = none are asked for
}

// Auth says who may do what on the registry listener.
type Auth struct {
	Htpasswd string       `yaml:"htpasswd"` // file of user:bcrypt lines
	Issuers  []AuthIssuer `yaml:"issuers"`  // of OIDC tokens
	Rules    []AuthRule   `yaml:"rules"`    // none = this machine may pull, nobody else anything
	TokenKey string       `yaml:"tokenKey"` // PEM file of the Ed25519 key of our own tokens; "" = a new one at each start
	TokenTTL Duration     `yaml:"tokenTTL"`
	Realm    string       `yaml:"realm"` // address of the token endpoint; "" = at the host that the client asked
	Rate     Budget       `yaml:"rate"`  // requests of one identity
}

// AuthRule allows something to somebody.
type AuthRule struct {
	Who          []string `yaml:"who"`
	May          []string `yaml:"may"`
	Repositories []string `yaml:"repositories"`
}

// AuthIssuer is an OpenID Connect provider whose tokens are accepted.
type AuthIssuer struct {
	Name     string            `yaml:"name"`
	URL      string            `yaml:"url"` // the iss claim
	Audience string            `yaml:"audience"`
	JWKS     string            `yaml:"jwks"` // URL of its keys
	Groups   string            `yaml:"groups"`
	Require  map[string]string `yaml:"require"` // claims and their values
}

// Registry is the gated registry that teams push to.
type Registry struct {
	Enabled       bool            `yaml:"enabled"`
	Modes         []RegistryMode  `yaml:"modes"`
	ImmutableTags []ImmutableTags `yaml:"immutableTags"`
	Quotas        map[string]Size `yaml:"quotas"`   // by prefix of repository names
	MaxBlob       Size            `yaml:"maxBlob"`  // 0 = any
	PushHold      Duration        `yaml:"pushHold"` // longest wait of a push for its verdict
	GC            GC              `yaml:"gc"`
	Retention     []Retention     `yaml:"retention"` // the first entry for a repository counts
}

// RegistryMode says what becomes of denied images of some repositories.
type RegistryMode struct {
	Repositories []string `yaml:"repositories"`
	Mode         string   `yaml:"mode"` // reject, quarantine or annotate
}

// ImmutableTags are tags that do not move once their image was served.
type ImmutableTags struct {
	Repositories []string `yaml:"repositories"`
	Tags         []string `yaml:"tags"`
}

// GC removes what no manifest names.
type GC struct {
	Every Duration `yaml:"every"` // 0 = never by itself
	Grace Duration `yaml:"grace"` // since a client was last told that it exists
}

// Retention says which images of some repositories may go: those that nothing
// here keeps.
type Retention struct {
	Repositories       []string `yaml:"repositories"`
	KeepLast           int      `yaml:"keepLast"`
	KeepTags           []string `yaml:"keepTags"`
	MaxAge             Duration `yaml:"maxAge"`
	UnlessPulledWithin Duration `yaml:"unlessPulledWithin"`
}

// Upstream is a registry that images are pulled from.
type Upstream struct {
	URL          string   `yaml:"url"`          // http or https, host and port only
	Aliases      []string `yaml:"aliases"`      // other names of the same registry
	Library      bool     `yaml:"library"`      // nginx means library/nginx, as on Docker Hub
	Username     string   `yaml:"username"`     // with Password or PasswordFile
	Password     Secret   `yaml:"password"`     // environment only
	PasswordFile string   `yaml:"passwordFile"` // file that holds the password
	Token        Secret   `yaml:"token"`        // environment only
	TokenFile    string   `yaml:"tokenFile"`    // file that holds a registry bearer token, instead of user and password
	AllowPrivate bool     `yaml:"allowPrivate"` // it may be, and redirect to, an address of a private network
	Budget       Budget   `yaml:"budget"`       // manifest requests that Sluice allows itself
}

// Release says how a first pull waits for its verdict.
type Release struct {
	Hold   Duration `yaml:"hold"`   // longest wait for a verdict; keep under 30s (containerd's header time-out); 0 = stream at once
	Stream bool     `yaml:"stream"` // past Hold: send the image with the end of each blob withheld until the verdict
}

// Cache bounds the content of upstreams that is kept.
type Cache struct {
	MaxBytes Size `yaml:"maxBytes"` // 0 = until the disk is nearly full
}

// Budget bounds the manifest requests to an upstream.
type Budget struct {
	Requests int      `yaml:"requests"` // 0 = no bound
	Per      Duration `yaml:"per"`      // the window
}

// Advisories says where advisories come from and how old they may be.
type Advisories struct {
	From        string   `yaml:"from"`        // URL or directory of the OSV export layout, or an artifact: oci://… or a tar file
	KEV         string   `yaml:"kev"`         // URL or file of CISA's catalogue; "" = none
	EPSS        string   `yaml:"epss"`        // URL or file of FIRST's scores; "" = none
	NVD         []string `yaml:"nvd"`         // URLs, files or directories of NVD's JSON 2.0
	Private     []string `yaml:"private"`     // OSV records of one's own: URLs, files or directories, with #sha256=… where they are pinned
	Ecosystems  []string `yaml:"ecosystems"`  // empty = all that From has
	MaxAge      Duration `yaml:"maxAge"`      // older than this is a fact for the policy; 0 = never
	UpdateEvery Duration `yaml:"updateEvery"` // 0 = never by itself
	WhenMissing string   `yaml:"whenMissing"` // pending, deny or annotate
	WhenStale   string   `yaml:"whenStale"`   // pending, deny, or annotate: what the policy's rules say
}

// Policy names the policy file.
type Policy struct {
	File string `yaml:"file"` // "" = the shipped policy
}

// VEX names the documents that say what does not affect an image. Whoever can
// write them can hide vulnerabilities.
type VEX struct {
	Files []string `yaml:"files"` // OpenVEX and CSAF VEX: files, or directories of *.json
}

// Attest says with which key Sluice signs that an image passed.
type Attest struct {
	Key          string      `yaml:"key"`          // file, env:NAME, or address of a KMS key; "" = nothing is signed
	Password     Secret      `yaml:"password"`     // of an encrypted key; environment only
	PasswordFile string      `yaml:"passwordFile"` // file that holds the password
	NotBefore    string      `yaml:"notBefore"`    // time that is published with the key, RFC 3339; "" = none
	NotAfter     string      `yaml:"notAfter"`
	Older        []AttestKey `yaml:"older"`    // public keys that are published beside it
	Verifier     string      `yaml:"verifier"` // URI by which consumers know this Sluice
	Every        Duration    `yaml:"every"`    // least time between two attestations of an image
}

// AttestKey is a public key that signed before.
type AttestKey struct {
	File      string `yaml:"file"` // PEM
	NotBefore string `yaml:"notBefore"`
	NotAfter  string `yaml:"notAfter"`
}

// Waivers bounds the exceptions that the API grants.
type Waivers struct {
	Longest Duration `yaml:"longest"` // how far ahead one may expire; 0 = any time
}

// Analysis bounds what one image may cost.
type Analysis struct {
	Parallel   int      `yaml:"parallel"`   // layers analysed at once; 0 = one for each CPU, and 8 at least
	MaxEntries int      `yaml:"maxEntries"` // entries of one layer
	MaxBytes   Size     `yaml:"maxBytes"`   // uncompressed bytes of one layer
	Timeout    Duration `yaml:"timeout"`    // of one image's analysis
	Isolation  string   `yaml:"isolation"`  // auto, process or off
}

// Log says what is logged and how.
type Log struct {
	Level  string `yaml:"level"`  // debug, info, warn or error
	Format string `yaml:"format"` // console or json
}

// Shutdown says how the server ends.
type Shutdown struct {
	Drain Duration `yaml:"drain"` // how long running requests may take to end
}

// Default returns the configuration of a server without a file. It equals
// default.yaml.
func Default() *Config {
	return &Config{
		Listen:           ":5000",
		Ops:              Ops{Listen: "127.0.0.1:5001"},
		Data:             "./sluice-data",
		Default:          "docker.io",
		LocalPrefix:      "local",
		UpstreamDefaults: true,
		Upstreams: map[string]Upstream{
			"docker.io": {
				URL:     "https://registry-1.docker.io",
				Aliases: []string{"index.docker.io", "registry-1.docker.io"},
				Library: true,
			},
			"gcr.io":                     {URL: "https://gcr.io"},
			"ghcr.io":                    {URL: "https://ghcr.io"},
			"mcr.microsoft.com":          {URL: "https://mcr.microsoft.com"},
			"public.ecr.aws":             {URL: "https://public.ecr.aws"},
			"quay.io":                    {URL: "https://quay.io"},
			"registry.access.redhat.com": {URL: "https://registry.access.redhat.com"},
			"registry.k8s.io":            {URL: "https://registry.k8s.io"},
		},
		DockerConfig: "auto",
		Auth:         Auth{TokenTTL: 5 * minute},
		Registry:     Registry{Enabled: true, PushHold: 90 * second, GC: GC{Every: 6 * hour, Grace: 24 * hour}},
		Release:      Release{Hold: 20 * second, Stream: true},
		TagTTL:       5 * minute,
		StaleIfError: 24 * hour,
		Advisories: Advisories{
			From:        "https://osv-vulnerabilities.storage.googleapis.com",
			KEV:         "https://www.cisa.gov/sites/default/files/feeds/known_exploited_vulnerabilities.json",
			MaxAge:      120 * hour,
			UpdateEvery: 24 * hour,
			WhenMissing: "pending",
			WhenStale:   "pending",
		},
		Attest:   Attest{Verifier: "https://github.com/sluiceproxy/sluice", Every: hour},
		Analysis: Analysis{MaxEntries: 1_000_000, MaxBytes: 32 << 30, Timeout: 15 * minute, Isolation: "auto"},
		Log:      Log{Level: "info", Format: "console"},
		Shutdown: Shutdown{Drain: 45 * second},
	}
}

// Redacted returns a copy of c without the values of its secrets.
func (c *Config) Redacted() *Config {
	out := *c
	out.Ops.Token = c.Ops.Token.redacted()
	out.Attest.Password = c.Attest.Password.redacted()
	out.Upstreams = make(map[string]Upstream, len(c.Upstreams))
	for name, u := range c.Upstreams {
		u.Password, u.Token = u.Password.redacted(), u.Token.redacted()
		out.Upstreams[name] = u
	}
	return &out
}
