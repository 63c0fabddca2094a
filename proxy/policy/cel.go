package policy

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/ext"

	"github.com/sluiceproxy/sluice/analyzer"
)

const (
	maxExpression = 4096    // characters of a condition
	maxDepth      = 64      // nesting of a condition
	maxCost       = 100_000 // CEL's units for one evaluation: about 10 ms
)

// constants are the severities as conditions write them.
var constants = map[string]analyzer.Severity{
	"UNKNOWN": analyzer.SeverityUnknown, "NONE": analyzer.SeverityNone, "LOW": analyzer.SeverityLow,
	"MEDIUM": analyzer.SeverityMedium, "HIGH": analyzer.SeverityHigh, "CRITICAL": analyzer.SeverityCritical,
}

// compiler compiles conditions. It is made once for a file.
type compiler struct {
	vocabulary *vocabulary
	envs       map[kind]*cel.Env
}

// provider adds the vocabulary's objects to CEL's own types.
type provider struct {
	*types.Registry
	objects map[string]*object
}

func (p *provider) FindStructType(name string) (*types.Type, bool) {
	if o, ok := p.objects[name]; ok {
		return types.NewTypeTypeWithParam(o.typ), true
	}
	return p.Registry.FindStructType(name)
}

func (p *provider) FindStructFieldNames(name string) ([]string, bool) {
	if o, ok := p.objects[name]; ok {
		return o.names(), true
	}
	return p.Registry.FindStructFieldNames(name)
}

func (p *provider) FindStructFieldType(name, fieldName string) (*types.FieldType, bool) {
	o, ok := p.objects[name]
	if !ok {
		return p.Registry.FindStructFieldType(name, fieldName)
	}
	f := o.field(fieldName)
	if f == nil {
		return nil, false
	}
	get := func(obj any) (any, error) {
		s, ok := obj.(*subject)
		if !ok {
			return nil, fmt.Errorf("%s.%s: unexpected %T", name, fieldName, obj)
		}
		return f.get(s), nil
	}
	return &types.FieldType{Type: f.typ, GetFrom: get, IsSet: func(obj any) bool {
		v, err := get(obj)
		return err == nil && !reflect.ValueOf(v).IsZero()
	}}, true
}

// NewValue refuses: conditions look at evidence, they do not make any.
func (p *provider) NewValue(name string, fields map[string]ref.Val) ref.Val {
	if _, ok := p.objects[name]; ok {
		return types.NewErr("%s cannot be made in a condition", name)
	}
	return p.Registry.NewValue(name, fields)
}

func newCompiler() (*compiler, error) {
	registry, err := types.NewRegistry()
	if err != nil {
		return nil, fmt.Errorf("cel types: %w", err)
	}
	v := newVocabulary()
	options := []cel.EnvOption{
		cel.CustomTypeAdapter(registry),
		cel.CustomTypeProvider(&provider{registry, v.objects}),
		cel.ParserExpressionSizeLimit(maxExpression),
		cel.ParserRecursionLimit(maxDepth),
		cel.ExtendedValidations(), // literals of durations, times and regular expressions
		ext.Strings(),
		cel.Variable("image", v.variables["image"].typ),
		cel.Variable("advisories", v.variables["advisories"].typ),
	}
	for name, severity := range constants {
		options = append(options, cel.Constant(name, cel.IntType, types.Int(severity)))
	}
	base, err := cel.NewEnv(options...)
	if err != nil {
		return nil, fmt.Errorf("cel environment: %w", err)
	}
	c := &compiler{vocabulary: v, envs: map[kind]*cel.Env{forImage: base}}
	for _, k := range []kind{forFinding, forSecret, forUndecided} {
		if c.envs[k], err = base.Extend(cel.Variable(string(k), v.variables[string(k)].typ)); err != nil {
			return nil, fmt.Errorf("cel environment for %s: %w", k, err)
		}
	}
	return c, nil
}

// fault is what is wrong with an expression, and where in it.
type fault struct {
	line, column int // 1-based, 0-based: as CEL counts
	message      string
	suggestion   string
}

// compile checks and plans an expression of a rule for k.
func (c *compiler) compile(k kind, expression string) (*condition, []fault) {
	env := c.envs[k]
	checked, issues := env.Compile(expression)
	if issues.Err() != nil {
		var faults []fault
		for _, e := range issues.Errors() {
			faults = append(faults, c.explain(k, expression, e))
		}
		return nil, faults
	}
	if checked.OutputType() != cel.BoolType {
		return nil, []fault{{line: 1, message: fmt.Sprintf("the condition gives %s, not true or false", checked.OutputType())}}
	}
	options := []cel.ProgramOption{cel.EvalOptions(cel.OptOptimize)}
	if !frugal(checked.NativeRep()) {
		options = append(options, cel.CostLimit(maxCost)) // counting doubles the time of an evaluation
	}
	program, err := env.Program(checked, options...)
	if err != nil {
		return nil, []fault{{line: 1, message: err.Error()}}
	}
	cond := &condition{program: program, objects: c.vocabulary.variables}
	cond.inspect(checked.NativeRep(), c.vocabulary.objects)
	return cond, nil
}

var (
	undeclared     = regexp.MustCompile(`^undeclared reference to '([^']*)'`)
	undefinedField = regexp.MustCompile(`^undefined field '([^']*)'`)
	quotedSeverity = regexp.MustCompile(`severity\s*(?:[=!<>]=?|in)\s*\[?\s*["'](\w+)["']`)
	quotedAge      = regexp.MustCompile(`[aA]ge\s*[=!<>]=?\s*["'](\w+)["']`)
	daysLiteral    = regexp.MustCompile(`duration\(["'](\d{1,5})d["']\)`)
)

// explain turns an error of CEL's into one that helps: with the nearest valid
// name, or what to write instead.
func (c *compiler) explain(k kind, expression string, e *common.Error) fault {
	f := fault{line: e.Location.Line(), column: e.Location.Column(), message: e.Message}
	switch {
	case undefinedField.MatchString(e.Message):
		name := undefinedField.FindStringSubmatch(e.Message)[1]
		f.message = fmt.Sprintf("unknown field %q", name)
		f.column++ // CEL points at the dot
		f.suggestion = c.nearestField(expression, name)
	case undeclared.MatchString(e.Message):
		name := undeclared.FindStringSubmatch(e.Message)[1]
		f.message, f.suggestion = c.undeclared(k, name)
		if at := call(expression, f.line, f.column, name); at >= 0 {
			f.column = at
		}
	case strings.HasPrefix(e.Message, "Syntax error"):
		f.message, _, _ = strings.Cut(e.Message, " expecting {") // a list of all tokens helps nobody
	case strings.HasPrefix(e.Message, "found no matching overload"):
		if m := quotedSeverity.FindStringSubmatch(expression); m != nil {
			if s, ok := analyzer.ParseSeverity(m[1]); ok {
				f.suggestion = strings.ToUpper(s.String()) + ", without quotes"
			}
		} else if m := quotedAge.FindStringSubmatch(expression); m != nil {
			f.suggestion = fmt.Sprintf("duration(%q)", hours(m[1]))
		}
	case strings.Contains(e.Message, "duration"):
		if m := daysLiteral.FindStringSubmatch(expression); m != nil {
			f.suggestion = fmt.Sprintf("duration(%q)", hours(m[1]+"d"))
		}
	}
	return f
}

// call returns the column at which the name of a method stands whose opening
// parenthesis is where CEL points; -1 if it is not one.
func call(expression string, line, column int, name string) int {
	lines := strings.Split(expression, "\n")
	if line < 1 || line > len(lines) {
		return -1
	}
	text, length := []rune(lines[line-1]), len([]rune(name))
	if column < length || column >= len(text) || text[column] != '(' || string(text[column-length:column]) != name {
		return -1
	}
	return column - length
}

// undeclared explains a name that stands for nothing in a rule for k.
func (c *compiler) undeclared(k kind, name string) (message, suggestion string) {
	variables := variablesOf(k)
	if c.vocabulary.variables[name] != nil {
		return fmt.Sprintf("%q is not known to a rule for: %s", name, k), ""
	}
	message = fmt.Sprintf("unknown name %q", name)
	for _, v := range variables { // a field without its variable
		if c.vocabulary.variables[v].field(name) != nil {
			return message, v + "." + name
		}
	}
	candidates := slices.Clone(variables)
	for constant := range constants {
		candidates = append(candidates, constant)
	}
	for function := range c.envs[k].Functions() {
		if !strings.ContainsAny(function, "_@!-") {
			candidates = append(candidates, function)
		}
	}
	slices.Sort(candidates)
	return message, nearest(name, candidates)
}

// nearestField returns the path of the field that was meant by name. What
// stands before the dot is read from the expression.
func (c *compiler) nearestField(expression, name string) string {
	before := regexp.MustCompile(`([a-zA-Z_.]+)\.` + regexp.QuoteMeta(name) + `\b`).FindStringSubmatch(expression)
	if before == nil {
		return ""
	}
	parts := strings.Split(before[1], ".")
	o := c.vocabulary.variables[parts[0]]
	for _, p := range parts[1:] {
		if o == nil {
			break
		}
		f := o.field(p)
		if f == nil {
			return ""
		}
		o = c.vocabulary.objects[f.typ.TypeName()]
	}
	if o == nil {
		return ""
	}
	if n := nearest(name, o.names()); n != "" {
		return before[1] + "." + n
	}
	return ""
}

// evaluate reports whether the condition holds for s.
func (c *condition) evaluate(s *subject) (bool, error) {
	out, _, err := c.program.Eval(&activation{c.objects, s})
	if err != nil {
		return false, err
	}
	holds, ok := out.(types.Bool)
	if !ok {
		return false, fmt.Errorf("the condition gave %s", out.Type().TypeName())
	}
	return bool(holds), nil
}

// activation gives a condition its variables.
type activation struct {
	objects map[string]*object
	subject *subject
}

func (a *activation) ResolveName(name string) (any, bool) {
	o, ok := a.objects[name]
	if !ok {
		return nil, false
	}
	return &value{o, a.subject}, true
}

func (a *activation) Parent() cel.Activation { return nil }
