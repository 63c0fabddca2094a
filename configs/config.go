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
	Release          Release             `yaml:"release"`
	TagTTL           Duration            `yaml:"tagTTL"`       // how long a tag's digest is not asked for again
	StaleIfError     Duration            `yaml:"staleIfError"` // how much longer it holds while the upstream fails
	Cache            Cache               `yaml:"cache"`
	Advisories       Advisories          `yaml:"advisories"`
	Policy           Policy              `yaml:"policy"`
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
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
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
	Hold   Duration `yaml:"hold"`   // longest wait for a verdict; keep under 30s (containerd's header time-out)
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
	From        string   `yaml:"from"`        // URL or directory of the OSV export layout
	KEV         string   `yaml:"kev"`         // URL or file of CISA's catalogue; "" = none
	Ecosystems  []string `yaml:"ecosystems"`  // empty = all that From has
	MaxAge      Duration `yaml:"maxAge"`      // older than this is a fact for the policy; 0 = never
	UpdateEvery Duration `yaml:"updateEvery"` // 0 = never by itself
	WhenMissing string   `yaml:"whenMissing"` // pending, deny or annotate
}

// Policy names the policy file.
type Policy struct {
	File string `yaml:"file"` // "" = the shipped policy
}

// Analysis bounds what one image may cost.
type Analysis struct {
	Parallel   int      `yaml:"parallel"`   // layers analysed at once; 0 = one for each CPU
	MaxEntries int      `yaml:"maxEntries"` // entries of one layer
	MaxBytes   Size     `yaml:"maxBytes"`   // uncompressed bytes of one layer
	Timeout    Duration `yaml:"timeout"`    // of one image's analysis
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
		Release:      Release{Hold: 20 * second, Stream: true},
		TagTTL:       5 * minute,
		StaleIfError: 24 * hour,
		Advisories: Advisories{
			From:        "https://osv-vulnerabilities.storage.googleapis.com",
			KEV:         "https://www.cisa.gov/sites/default/files/feeds/known_exploited_vulnerabilities.json",
			MaxAge:      120 * hour,
			UpdateEvery: 24 * hour,
			WhenMissing: "pending",
		},
		Analysis: Analysis{MaxEntries: 1_000_000, MaxBytes: 32 << 30, Timeout: 15 * minute},
		Log:      Log{Level: "info", Format: "console"},
		Shutdown: Shutdown{Drain: 45 * second},
	}
}

// Redacted returns a copy of c without the values of its secrets.
func (c *Config) Redacted() *Config {
	out := *c
	out.Ops.Token = c.Ops.Token.redacted()
	out.Upstreams = make(map[string]Upstream, len(c.Upstreams))
	for name, u := range c.Upstreams {
		u.Password, u.Token = u.Password.redacted(), u.Token.redacted()
		out.Upstreams[name] = u
	}
	return &out
}
