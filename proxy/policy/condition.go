package policy

import (
	"slices"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// coarse is how often a condition is looked at again whose use of an age is
// not a plain comparison with a literal.
const coarse = time.Minute

// condition is the compiled "when" of a rule.
type condition struct {
	program cel.Program
	objects map[string]*object // by variable

	fields      []*field    // that it looks at, each once, in their order
	thresholds  []threshold // instants at which it can change
	everyMoment bool        // an age is used in a way that thresholds do not tell
}

// threshold is a comparison of an age with a literal: finding.age > duration("72h").
type threshold struct {
	field *field
	limit time.Duration
	after bool // changes just after the limit (>, <=), not at it (>=, <)
}

// inspect notes which fields the expression looks at, and when time alone can
// change its outcome.
func (c *condition) inspect(tree *ast.AST, objects map[string]*object) {
	fieldOf := func(e ast.Expr) *field {
		if e.Kind() != ast.SelectKind {
			return nil
		}
		o := objects[tree.GetType(e.AsSelect().Operand().ID()).TypeName()]
		if o == nil {
			return nil
		}
		return o.field(e.AsSelect().FieldName())
	}
	ages := 0
	ast.PreOrderVisit(tree.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if f := fieldOf(e); f != nil {
			if f.base != nil {
				ages++
			}
			if !slices.Contains(c.fields, f) {
				c.fields = append(c.fields, f)
			}
		}
		if e.Kind() != ast.CallKind || len(e.AsCall().Args()) != 2 {
			return
		}
		function, left, right := e.AsCall().FunctionName(), e.AsCall().Args()[0], e.AsCall().Args()[1]
		if limit, ok := durationLiteral(left); ok {
			if f := fieldOf(right); f != nil && f.base != nil {
				c.addThreshold(mirrored[function], f, limit)
			}
		} else if limit, ok := durationLiteral(right); ok {
			if f := fieldOf(left); f != nil && f.base != nil {
				c.addThreshold(function, f, limit)
			}
		}
	}))
	c.everyMoment = len(c.thresholds) < ages
}

// frugalFunctions take time in proportion to their operands and make nothing
// that is longer than these.
var frugalFunctions = []string{
	operators.LogicalAnd, operators.LogicalOr, operators.LogicalNot, operators.Conditional,
	operators.Equals, operators.NotEquals, operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals,
	operators.In, operators.Index, "size", "startsWith", "endsWith", "contains", "matches", "duration", "timestamp",
}

// frugal reports whether an evaluation is bounded by the lengths of the
// expression and of the evidence that it looks at: it has no loop (exists, all,
// map, filter) and only frugal functions.
func frugal(tree *ast.AST) bool {
	yes := true
	ast.PreOrderVisit(tree.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		switch e.Kind() {
		case ast.ComprehensionKind:
			yes = false
		case ast.CallKind:
			yes = yes && slices.Contains(frugalFunctions, e.AsCall().FunctionName())
		default:
		}
	}))
	return yes
}

// mirrored gives the operator with its operands exchanged.
var mirrored = map[string]string{
	operators.Less: operators.Greater, operators.LessEquals: operators.GreaterEquals,
	operators.Greater: operators.Less, operators.GreaterEquals: operators.LessEquals,
}

func (c *condition) addThreshold(operator string, f *field, limit time.Duration) {
	switch operator {
	case operators.Less, operators.GreaterEquals:
		c.thresholds = append(c.thresholds, threshold{f, limit, false})
	case operators.LessEquals, operators.Greater:
		c.thresholds = append(c.thresholds, threshold{f, limit, true})
	}
}

// durationLiteral returns the value of duration("…").
func durationLiteral(e ast.Expr) (time.Duration, bool) {
	if e.Kind() != ast.CallKind || e.AsCall().FunctionName() != "duration" || len(e.AsCall().Args()) != 1 {
		return 0, false
	}
	arg := e.AsCall().Args()[0]
	if arg.Kind() != ast.LiteralKind {
		return 0, false
	}
	s, ok := arg.AsLiteral().(types.String)
	if !ok {
		return 0, false
	}
	d, err := time.ParseDuration(string(s))
	return d, err == nil
}

// changes returns when, after s.Now, the condition can change for s though no
// input does; the zero time if never.
func (c *condition) changes(s *subject) time.Time {
	var next time.Time
	for _, t := range c.thresholds {
		base := t.field.base(s)
		if base.IsZero() {
			continue // an unknown date does not come closer
		}
		at := base.Add(t.limit)
		if t.after {
			at = at.Add(1)
		}
		next = earlier(next, at, s.Now)
	}
	for _, f := range c.fields {
		if f.turn != nil {
			next = earlier(next, f.turn(s), s.Now)
		}
	}
	if c.everyMoment {
		next = earlier(next, s.Now.Add(coarse), s.Now)
	}
	return next
}

// earlier returns the earlier one of next and at, of which next may be unset
// and at counts only if it lies after now.
func earlier(next, at, now time.Time) time.Time {
	if !at.After(now) || !next.IsZero() && next.Before(at) {
		return next
	}
	return at
}
