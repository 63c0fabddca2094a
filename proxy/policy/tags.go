package policy

import (
	"fmt"
	"slices"
	"time"

	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.yaml.in/yaml/v3"

	"github.com/sluiceproxy/sluice/signing"
)

// TagAction is what becomes of a tag that moved.
type TagAction uint8

// Actions, from the mildest to the strictest.
const (
	TagFollow TagAction = iota // the new digest is served; the move is on record
	TagHold                    // the digest that was served before is served on
	TagDeny                    // the tag is refused; digests are not
)

var tagActionNames = [...]string{"alert", "hold", "deny"}

// String is the action's name in a policy file.
func (a TagAction) String() string {
	if int(a) < len(tagActionNames) {
		return tagActionNames[a]
	}
	return fmt.Sprintf("action(%d)", uint8(a))
}

// MoveClass says who vouches for a tag's new digest.
type MoveClass string

// Classes of moves.
const (
	MovePublished MoveClass = "published" // a lock lists it
	MoveSigned    MoveClass = "signed"    // by an authority that also signed the one before
	MoveUnknown   MoveClass = "unknown"   // nobody
	MoveRollback  MoveClass = "rollback"  // it is older than the one before
)

// tagRule is a policy's tags section.
type tagRule struct {
	onMove, onRollback TagAction
	holdFor            time.Duration
}

// defaultHold is how long a move is held unless the file says otherwise.
const defaultHold = 72 * time.Hour

// Move is a tag for which the upstream names another digest than is served.
type Move struct {
	// Image is that of the new digest. Tags holds the one tag.
	Image Image
	From  godigest.Digest // served until now; "" if the tag is new here
	Seen  time.Time       // since when the upstream names Image.Digest, without a break
	// Older says why the new digest is older than From: "it was served until
	// 2026-11-01"; "" = nothing says so.
	Older string
	// Signed says that an authority that signed From has signed the new digest.
	Signed  bool
	Waivers []Waiver // beside those of the policy file
	Now     time.Time
}

// Moved is what becomes of a Move.
type Moved struct {
	Class   MoveClass
	Action  TagAction
	Until   time.Time // of a hold: when the new digest is followed
	Message string    // one sentence without a final stop
	// Verdict is that of the tag, a denial, if Action is TagDeny. It says nothing
	// of either digest.
	Verdict Verdict
}

// Move judges a move by the tags sections of the policies that cover the image
// under the tag; the strictest outcome wins, and the longest hold. Without such
// a section every move is followed. A new tag moves from nowhere: of it only a
// lock can say that its digest is an old one.
//
// What a lock publishes, and what is signed as its predecessor was, is followed;
// what is older than its predecessor is a rollback.
func (p *Policy) Move(m *Move) Moved {
	class, why := p.classify(m)
	if class != MoveRollback && (m.From == "" || m.From == m.Image.Digest) {
		return Moved{Class: class}
	}
	out := Moved{Class: class, Message: sayMove(m, why)}
	r := Reason{Rule: RuleTagMoved, Action: Deny}
	if class == MoveRollback {
		r.Rule = RuleTagRollback
	}
	d := decision{Evidence: &Evidence{Image: m.Image, Waivers: m.Waivers, Now: m.Now}, policy: p}
	for _, s := range p.sets {
		if s.tags == nil || !s.covers(&m.Image) {
			continue
		}
		action := TagFollow
		switch class {
		case MoveRollback:
			action = s.tags.onRollback
		case MoveUnknown:
			action = s.tags.onMove
		case MovePublished, MoveSigned:
		}
		switch until := m.Seen.Add(s.tags.holdFor); {
		case action != TagHold:
		case m.From == "": // there is nothing older to serve
			action = TagDeny
		case m.From == m.Image.Digest || !m.Now.Before(until):
			action = TagFollow
		case until.After(out.Until):
			out.Until = until
		}
		if action > out.Action {
			out.Action, r.Policy = action, s.name
		}
	}
	if out.Action == TagFollow {
		return out
	}
	d.gatherWaivers()
	if w := d.longest(&r, nil, nil, func(w *waiver) bool { return w.Advisory == "" }); w != nil {
		return Moved{Class: class, Message: out.Message + "; waived by " + sayWaiver(&w.Waiver)}
	}
	switch out.Action {
	case TagHold:
		out.Message = printable(out.Message + "; the old digest is served until " + day(out.Until))
	case TagDeny:
		out.Until = time.Time{}
		r.Message = out.Message
		d.add(r)
		out.Verdict = d.verdict()
		out.Message = d.reasons[0].Message
	case TagFollow:
	}
	return out
}

// Watches reports whether a policy's tags section is for the image under its
// tags.
func (p *Policy) Watches(i *Image) bool {
	return slices.ContainsFunc(p.sets, func(s *ruleset) bool { return s.tags != nil && s.covers(i) })
}

// classify says who vouches for the new digest, and why it is thought old.
func (p *Policy) classify(m *Move) (class MoveClass, why string) {
	if p.locks != nil {
		l := p.locks.Listed(&signing.Subject{
			Name: m.Image.Name, Desc: ocispec.Descriptor{Digest: m.Image.Digest, MediaType: m.Image.MediaType}, Tags: m.Image.Tags,
		}, m.Now)
		switch l.Publication {
		case signing.Published, signing.Unproven: // layers are the trust's to prove
			return MovePublished, ""
		case signing.Superseded:
			return MoveRollback, l.Reason
		case signing.Mismatched:
			why = l.Reason
		case signing.Unlisted:
		}
	}
	switch {
	case m.Older != "":
		return MoveRollback, m.Older
	case m.Signed:
		return MoveSigned, ""
	}
	return MoveUnknown, why
}

// sayMove is `the tag docker.io/acme/app:1 moved from sha256:… to sha256:…`.
func sayMove(m *Move, why string) string {
	tag := m.Image.Name
	if len(m.Image.Tags) > 0 {
		tag += ":" + m.Image.Tags[0]
	}
	text := fmt.Sprintf("the tag %s moved from %s to %s", tag, m.From, m.Image.Digest)
	if m.From == "" || m.From == m.Image.Digest {
		text = fmt.Sprintf("the tag %s names %s", tag, m.Image.Digest)
	}
	if why != "" {
		text += ": " + why
	}
	return text
}

// tags reads the section of a policy.
func (r *reader) tags(n *yaml.Node) *tagRule {
	if n == nil {
		return nil
	}
	m := r.mapping(n, "tags", "onMove", "holdFor", "onRollback")
	t := &tagRule{onMove: TagFollow, onRollback: TagDeny, holdFor: defaultHold}
	read := func(key string, unset TagAction) TagAction {
		s := r.choice(m[key], key, tagActionNames[:])
		if i := slices.Index(tagActionNames[:], s); i >= 0 {
			return TagAction(i)
		}
		return unset
	}
	t.onMove, t.onRollback = read("onMove", t.onMove), read("onRollback", t.onRollback)
	if h := m["holdFor"]; h != nil {
		if t.onMove != TagHold && t.onRollback != TagHold {
			r.problem(h, "", "holdFor is for onMove: hold or onRollback: hold")
		}
		if d := r.duration(h, "holdFor"); d > 0 {
			t.holdFor = d
		}
	}
	return t
}
