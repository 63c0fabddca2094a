package signing

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// WholeRegExp compiles an expression of RE2 so that it matches whole texts only.
// One that matches anything is an error: it would trust everybody.
func WholeRegExp(expr string) (*regexp.Regexp, error) {
	re, err := regexp.Compile(`^(?:` + expr + `)$`)
	if err != nil {
		return nil, err
	}
	if re.MatchString("") || re.MatchString("x\u2603@unlikely.example/0") {
		return nil, fmt.Errorf("%q matches everything", expr)
	}
	return re, nil
}

// NameGlob compiles a pattern of names: * stands for any run of characters
// without a slash, ** for any run at all, everything else for itself. One that
// begins with a star is an error: it would trust every registry or host.
func NameGlob(pattern string) (*regexp.Regexp, error) {
	switch {
	case pattern == "":
		return nil, errors.New("the pattern is empty")
	case strings.HasPrefix(pattern, "*"):
		return nil, errors.New("the pattern matches every host: begin with one")
	case strings.Contains(pattern, "***"):
		return nil, errors.New("*** has no meaning: * stops at /, ** does not")
	}
	quoted := regexp.QuoteMeta(pattern)
	quoted = strings.ReplaceAll(quoted, `\*\*`, `.*`)
	quoted = strings.ReplaceAll(quoted, `\*`, `[^/]*`)
	return regexp.Compile(`^(?:` + quoted + `)$`)
}
