package policy

import (
	_ "embed"
	"fmt"
	"time"

	"github.com/sluiceproxy/sluice/signing"
)

//go:embed default.yaml
var defaultText []byte

// Policy is one revision of the rules, compiled. It is immutable and can be
// used by many goroutines at once. Parse and Default make one; the zero Policy
// covers no image, so it denies all of them.
type Policy struct {
	name     string // of the file, for problems
	text     []byte
	revision string
	sets     []*ruleset
	waivers  []waiver
	files    map[string]pos // where the trust material names its files

	lockFiles []signing.Lock
	locks     signing.Locks // nil before Bind
}

// ruleset is one of the file's policies.
type ruleset struct {
	name            string
	images, exclude []Glob
	rules           []*rule
	trust           *Trust // nil = signatures do not matter
	tags            *tagRule
	base            *baseRule
}

// rule is one condition and what follows from it.
type rule struct {
	id      string
	kind    kind
	when    *condition
	action  Decision
	grace   time.Duration
	message string // "" = the default sentence
}

// Default returns the policy that is shipped: default.yaml. It is compiled at
// each call.
func Default() *Policy {
	p, err := Parse("default.yaml", defaultText)
	if err != nil { // a test compiles the embedded file; if it were broken, nothing would be allowed
		return &Policy{text: defaultText, revision: "broken: " + err.Error()}
	}
	return p
}

// Revision names the content: "p-" and the first 12 hexadecimal digits of the
// text's sha256, to which Bind adds the files that trust rests on.
func (p *Policy) Revision() string { return p.revision }

// Text returns the file as it was parsed. The caller must not change it.
func (p *Policy) Text() []byte { return p.text }

// Waivers returns those of the file, in its order.
func (p *Policy) Waivers() []Waiver {
	out := make([]Waiver, len(p.waivers))
	for i := range p.waivers {
		out[i] = p.waivers[i].Waiver
	}
	return out
}

// String is the revision with the number of rules and waivers, for a log.
func (p *Policy) String() string {
	rules := 0
	for _, s := range p.sets {
		rules += len(s.rules)
	}
	return fmt.Sprintf("%s (%d policies, %d rules, %d waivers)", p.revision, len(p.sets), rules, len(p.waivers))
}
