package secret

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sluiceproxy/sluice/analyzer"
)

// Config finds secrets in an image's config (OCI image-spec, config.md): in its
// environment, labels, entrypoint and command, and in its history, which keeps
// the values of build arguments. b that is no config gives none: whoever reads
// configs reports that.
func Config(b []byte) []analyzer.Secret {
	var img ocispec.Image
	if json.Unmarshal(b, &img) != nil {
		return nil
	}
	c := &config{scanner: NewScanner(), seen: map[string]bool{}}
	for _, env := range img.Config.Env {
		name, value, _ := strings.Cut(env, "=")
		c.setting("config:env/"+name, "image-env", name, value)
	}
	for _, name := range slices.Sorted(maps.Keys(img.Config.Labels)) {
		c.text("config:label/"+name, img.Config.Labels[name])
	}
	c.text("config:entrypoint", strings.Join(img.Config.Entrypoint, " "))
	c.text("config:cmd", strings.Join(img.Config.Cmd, " "))
	for i, h := range img.History {
		at := fmt.Sprintf("config:history/%d", i+1)
		for _, m := range assignments.FindAllStringSubmatch(h.CreatedBy, 1000) {
			c.setting(at, "build-argument", m[1], m[2])
		}
		c.text(at, h.CreatedBy)
		c.text(at, h.Comment)
	}
	return c.found
}

// assignments are NAME=value in a history line: ENV, ARG, the build arguments
// before a RUN ("|2 A=1 B=2 /bin/sh -c …"), and what a shell sets.
var assignments = regexp.MustCompile(`(?:^|[\s;&|"'])([A-Za-z_][A-Za-z0-9_.-]*)=("[^"]*"|'[^']*'|[^\s;&|"']+)`)

type config struct {
	scanner *Scanner
	seen    map[string]bool // values that have been reported, of this image only
	found   []analyzer.Secret
}

// text applies the rules for text.
func (c *config) text(at, text string) {
	c.scanner.Reset(at, Everything)
	for _, s := range c.scanner.Whole([]byte(text)) {
		if key := s.Rule + s.Excerpt; !c.seen[key] {
			c.seen[key] = true
			s.Line = 1
			c.found = append(c.found, s)
		}
	}
	if from, to, ok := userinfo([]byte(text)); ok {
		c.password(at, "url-password", text[from:to])
	}
}

// setting looks at a variable: its value may be a token of a known format, or
// its name may promise a secret.
func (c *config) setting(at, rule, name, value string) {
	n := len(c.found)
	c.text(at, value)
	if len(c.found) == n && secretName(name) && password(value) && !c.seen[value] {
		c.password(at, rule, value)
	}
}

func (c *config) password(at, rule, value string) {
	value = strings.Trim(value, `"'`)
	if c.seen[value] || len(c.found) >= maxFindings {
		return
	}
	c.seen[value] = true
	c.found = append(c.found, analyzer.Secret{Kind: kindPassword, Rule: rule, Path: at, Line: 1, Excerpt: mask(value)})
}
