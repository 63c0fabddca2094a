package policy

import (
	"fmt"
	"reflect"
	"slices"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/sluiceproxy/sluice/analyzer"
)

// kind is what a rule looks at: the value of its "for".
type kind string

const (
	forFinding   kind = "finding"
	forSecret    kind = "secret"
	forUndecided kind = "undecided"
	forImage     kind = "image"
)

var kinds = []string{string(forFinding), string(forSecret), string(forUndecided), string(forImage)}

// subject is what one evaluation of a condition looks at: one piece of the
// evidence (none in a rule for the image), the image, and the advisories.
type subject struct {
	*Evidence
	finding   *analyzer.Finding
	secret    *analyzer.Secret
	undecided *analyzer.Undecided
}

// object is the CEL type of one of a condition's variables.
type object struct {
	name   string // sluice.Finding
	typ    *cel.Type
	fields []*field
}

// field is one field of an object.
type field struct {
	name string
	typ  *cel.Type
	get  func(*subject) any

	// base is set on an age: the instant that it counts from.
	base func(*subject) time.Time
	// turn is set on another field that time alone changes: when it does.
	turn func(*subject) time.Time
	// say is set where the value alone would not tell the reader what is wrong.
	say func(*subject) string
}

// age returns a field that holds the time since base. An unknown base is the
// longest age of all: a date is no reason for lenience unless it is known. One
// that lies in the future is an age of zero.
func age(name string, base func(*subject) time.Time, say func(*subject) string) *field {
	return &field{name: name, typ: cel.DurationType, base: base, say: say, get: func(s *subject) any {
		return ageOf(base(s), s.Now)
	}}
}

func ageOf(base, now time.Time) time.Duration {
	if base.IsZero() {
		return 1<<63 - 1
	}
	return max(0, now.Sub(base))
}

func text(name string, get func(*subject) string) *field {
	return &field{name: name, typ: cel.StringType, get: func(s *subject) any { return get(s) }}
}

func number(name string, get func(*subject) int64) *field {
	return &field{name: name, typ: cel.IntType, get: func(s *subject) any { return get(s) }}
}

func truth(name string, get func(*subject) bool) *field {
	return &field{name: name, typ: cel.BoolType, get: func(s *subject) any { return get(s) }}
}

func list(name string, get func(*subject) []string) *field {
	return &field{name: name, typ: cel.ListType(cel.StringType), get: func(s *subject) any { return get(s) }}
}

// saying sets how f is told.
func (f *field) saying(say func(*subject) string) *field {
	f.say = say
	return f
}

func newObject(name string, fields ...*field) *object {
	return &object{name: name, typ: cel.ObjectType(name), fields: fields}
}

func (o *object) field(name string) *field {
	if i := slices.IndexFunc(o.fields, func(f *field) bool { return f.name == name }); i >= 0 {
		return o.fields[i]
	}
	return nil
}

func (o *object) names() []string {
	names := make([]string, len(o.fields))
	for i, f := range o.fields {
		names[i] = f.name
	}
	return names
}

// vocabulary is all that conditions can name.
type vocabulary struct {
	objects   map[string]*object // by CEL type
	variables map[string]*object // by variable
}

// variablesOf returns the names of the variables of a rule for k.
func variablesOf(k kind) []string {
	if k == forImage {
		return []string{"image", "advisories"}
	}
	return []string{string(k), "image", "advisories"}
}

func newVocabulary() *vocabulary {
	analysis, hardening, base := analysisObject(), hardeningObject(), baseObject()
	v := &vocabulary{
		objects: map[string]*object{analysis.name: analysis, hardening.name: hardening, base.name: base},
		variables: map[string]*object{
			"finding": findingObject(), "secret": secretObject(), "undecided": undecidedObject(),
			"image": imageObject(analysis, hardening, base), "advisories": advisoriesObject(),
		},
	}
	for _, o := range v.variables {
		v.objects[o.name] = o
	}
	return v
}

func findingObject() *object {
	return newObject("sluice.Finding",
		text("advisory", func(s *subject) string { return s.finding.Advisory }),
		list("aliases", func(s *subject) []string { return s.finding.Aliases }),
		text("class", func(s *subject) string { return string(s.finding.Class) }),
		number("severity", func(s *subject) int64 { return int64(s.finding.Severity) }),
		&field{name: "score", typ: cel.DoubleType, get: func(s *subject) any { return s.finding.Score }},
		text("ratedBy", func(s *subject) string { return s.finding.RatedBy }), // "" = nobody rated it
		truth("kev", func(s *subject) bool { return s.finding.KEV }),
		&field{name: "epss", typ: cel.DoubleType, get: func(s *subject) any { return epss(s.finding) }},
		text("fixed", func(s *subject) string { return s.finding.Fixed }),
		text("vex", func(s *subject) string { return vexStatus(s) }), // "" = nobody said anything
		&field{name: "published", typ: cel.TimestampType, get: func(s *subject) any { return s.finding.Published }},
		age("age", func(s *subject) time.Time { return s.finding.Published }, nil),
		text("source", func(s *subject) string { return s.finding.Source }),
		text("package", func(s *subject) string { return s.finding.Package.Name }),
		text("version", func(s *subject) string { return s.finding.Package.Version }),
		text("ecosystem", func(s *subject) string { return s.finding.Package.Ecosystem }),
		text("type", func(s *subject) string { return s.finding.Package.Type }),
		text("purl", func(s *subject) string { return s.finding.Package.PURL }),
		text("path", func(s *subject) string { return s.finding.Package.Path }),
		text("layer", func(s *subject) string { return s.finding.Package.Layer.String() }),
	)
}

// epss is the probability of exploitation, -1 where it is not known.
func epss(f *analyzer.Finding) float64 {
	if f.EPSS == nil {
		return -1
	}
	return *f.EPSS
}

func vexStatus(s *subject) string {
	if v := s.statement(s.finding.VEX, s.finding.Advisory, &s.finding.Package); v != nil {
		return string(v.Status)
	}
	return ""
}

func secretObject() *object {
	return newObject("sluice.Secret",
		text("kind", func(s *subject) string { return s.secret.Kind }),
		text("rule", func(s *subject) string { return s.secret.Rule }),
		text("path", func(s *subject) string { return s.secret.Path }),
		truth("deleted", func(s *subject) bool { return s.secret.Deleted }),
		text("layer", func(s *subject) string { return s.secret.Layer.String() }),
		text("owner", func(s *subject) string { return s.secret.Owner }), // "" = no distribution package's file
		expiredField(),
	)
}

func undecidedObject() *object {
	return newObject("sluice.Undecided",
		text("advisory", func(s *subject) string { return s.undecided.Advisory }), // "" = no advisories for the package's release at all
		text("reason", func(s *subject) string { return s.undecided.Reason }),
		text("package", func(s *subject) string { return s.undecided.Package.Name }),
		text("version", func(s *subject) string { return s.undecided.Package.Version }),
		text("ecosystem", func(s *subject) string { return s.undecided.Package.Ecosystem }),
		text("type", func(s *subject) string { return s.undecided.Package.Type }),
		text("purl", func(s *subject) string { return s.undecided.Package.PURL }),
		text("path", func(s *subject) string { return s.undecided.Package.Path }),
	)
}

func imageObject(analysis, hardening, base *object) *object {
	return newObject("sluice.Image",
		text("name", func(s *subject) string { return s.Image.Name }),
		text("upstream", func(s *subject) string { return s.Image.Upstream }),
		text("repository", func(s *subject) string { return s.Image.Repository }),
		text("digest", func(s *subject) string { return s.Image.Digest.String() }),
		list("tags", func(s *subject) []string { return s.Image.Tags }),
		text("artifactType", func(s *subject) string { return s.report().ArtifactType }).saying(sayArtifact), // "" for a container image
		text("sbom", func(s *subject) string { return s.report().SBOM }).saying(saySBOM),                     // format of the document that the packages are from; "" = files were looked at
		text("user", func(s *subject) string { return s.report().User }).saying(sayUser),
		text("os", func(s *subject) string { return s.report().OS.ID }),
		text("osVersion", func(s *subject) string { return s.report().OS.VersionID }),
		endOfLifeField(),
		text("platform", func(s *subject) string { return s.report().Platform }),
		&field{name: "created", typ: cel.TimestampType, get: func(s *subject) any { return s.report().Created }},
		age("age", func(s *subject) time.Time { return s.report().Created }, func(s *subject) string { return "built " + day(s.report().Created) }),
		age("firstSeenAge", firstSeen, func(s *subject) string { return "first seen here " + day(firstSeen(s)) }),
		number("layers", func(s *subject) int64 { return int64(len(s.report().Layers)) }),
		number("packages", func(s *subject) int64 { return int64(len(s.report().Packages)) }),
		number("size", imageSize), // bytes of the layers as stored
		list("setuid", func(s *subject) []string { return s.report().Setuid }),
		list("urls", externalURLs).saying(sayURLs),
		truth("digestChainBroken", func(s *subject) bool { return s.report().DiffIDBroken != "" }).saying(sayChain),
		number("wasted", func(s *subject) int64 { return s.report().Hardening.Wasted }), // bytes that later layers delete or replace
		&field{name: "analysis", typ: analysis.typ, get: func(s *subject) any { return &value{analysis, s} }},
		&field{name: "hardening", typ: hardening.typ, get: func(s *subject) any { return &value{hardening, s} }},
		&field{name: "base", typ: base.typ, get: func(s *subject) any { return &value{base, s} }},
	)
}

// endOfLifeField is true once the distribution gives no more security updates
// to everyone; false where the day is not known.
func endOfLifeField() *field {
	end := func(s *subject) time.Time { return s.report().OS.EndOfLife }
	f := truth("endOfLife", func(s *subject) bool { return !end(s).IsZero() && !s.Now.Before(end(s)) }).saying(sayEndOfLife)
	f.turn = end
	return f
}

func analysisObject() *object {
	return newObject("sluice.Analysis",
		truth("complete", func(s *subject) bool { return len(s.report().Incomplete) == 0 }).saying(sayIncomplete),
		list("incomplete", func(s *subject) []string { // reasons
			reasons := make([]string, len(s.report().Incomplete))
			for i, in := range s.report().Incomplete {
				reasons[i] = in.Reason
			}
			return reasons
		}).saying(sayIncomplete),
	)
}

func advisoriesObject() *object {
	stale := truth("stale", func(s *subject) bool { // older than advisories.maxAge of the configuration
		return s.Advisories.stale(s.Now)
	}).saying(sayUpdated)
	stale.turn = func(s *subject) time.Time { return s.Advisories.turnStale() }
	return newObject("sluice.Advisories",
		age("age", func(s *subject) time.Time { return s.Advisories.Updated }, sayUpdated),
		truth("missing", (*subject).unadvised),
		stale,
	)
}

// firstSeen is when the image was first asked for here: now, if it is not known.
func firstSeen(s *subject) time.Time {
	if s.Image.FirstSeen.IsZero() {
		return s.Now
	}
	return s.Image.FirstSeen
}

func imageSize(s *subject) int64 {
	var n int64
	for _, l := range s.report().Layers {
		n += l.Size
	}
	return n
}

// externalURLs are those of the image's descriptors, each once.
func externalURLs(s *subject) []string {
	urls := slices.Concat(s.Image.URLs, s.report().URLs)
	slices.Sort(urls)
	return slices.Compact(urls)
}

// value is an object with the subject that its fields are read from.
type value struct {
	object  *object
	subject *subject
}

// The methods of CEL's ref.Val and traits.Indexer.

func (v *value) Type() ref.Type { return v.object.typ }
func (v *value) Value() any     { return v.subject }

func (v *value) ConvertToNative(t reflect.Type) (any, error) {
	return nil, fmt.Errorf("%s has no form as %v", v.object.name, t)
}

func (v *value) ConvertToType(t ref.Type) ref.Val {
	if t == types.TypeType {
		return v.object.typ
	}
	return types.NewErr("%s cannot be converted to %s", v.object.name, t.TypeName())
}

func (v *value) Equal(other ref.Val) ref.Val {
	o, ok := other.(*value)
	return types.Bool(ok && o.object == v.object && o.subject == v.subject)
}

func (v *value) Get(index ref.Val) ref.Val {
	name, ok := index.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(index)
	}
	f := v.object.field(string(name))
	if f == nil {
		return types.NewErr("%s has no field %q", v.object.name, string(name))
	}
	return types.DefaultTypeAdapter.NativeToValue(f.get(v.subject))
}
