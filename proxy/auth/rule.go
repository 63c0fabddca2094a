package auth

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sluiceproxy/sluice/proxy/policy"
)

// Rule allows something to somebody.
type Rule struct {
	// Who are patterns of identities: "user:alice", "robot:ci-*", "cert:*",
	// "oidc:github:repo:acme/app:*", "group:corp:admins", "authenticated" for
	// everyone with a name, "anonymous" for those without, "*" for both. A star
	// stands for any run of characters.
	Who []string
	// May are the actions; push and delete include pull.
	May []Action
	// Repositories are patterns of canonical names, as in the policy: * stops at
	// a slash, ** does not. Empty means all.
	Repositories []string
}

type rule struct {
	who          []string
	may          []Action
	repositories []policy.Glob
}

// compile checks r. The error names what is wrong with it.
func (r Rule) compile() (rule, error) {
	out := rule{who: r.Who, may: slices.Clone(r.May)}
	if len(r.Who) == 0 {
		return out, fmt.Errorf(`who: name at least one identity, or "*" for everyone`)
	}
	for _, w := range r.Who {
		kind, rest, named := strings.Cut(w, ":")
		switch {
		case w == "*" || w == "authenticated" || w == "anonymous":
		case named && rest != "" && slices.Contains([]string{"user", "robot", "cert", "oidc", "group"}, kind):
		default:
			return out, fmt.Errorf(`who: %q is none of user:…, robot:…, cert:…, oidc:…, group:…, authenticated, anonymous, *`, w)
		}
	}
	if len(r.May) == 0 {
		return out, fmt.Errorf("may: name at least one of pull, push, delete, operate")
	}
	for _, a := range r.May {
		if !slices.Contains(actions, a) {
			return out, fmt.Errorf("may: %q is none of pull, push, delete, operate", a)
		}
	}
	if slices.Contains(out.may, Push) || slices.Contains(out.may, Delete) {
		out.may = append(out.may, Pull)
	}
	for _, g := range r.Repositories {
		glob, err := policy.ParseGlob(g)
		if err == nil && strings.ContainsAny(g, ":@") {
			err = fmt.Errorf("rights are given for repositories, not for tags or digests")
		}
		if err != nil {
			return out, fmt.Errorf("repositories: %q: %w", g, err)
		}
		out.repositories = append(out.repositories, glob)
	}
	return out, nil
}

func (r rule) allows(id Identity, repository string, a Action) bool {
	return slices.Contains(r.may, a) && r.isFor(id) && r.covers(repository)
}

func (r rule) isFor(id Identity) bool {
	return slices.ContainsFunc(r.who, func(w string) bool {
		group, isGroup := strings.CutPrefix(w, "group:")
		switch {
		case w == "*":
			return true
		case id.Anonymous():
			return w == "anonymous"
		case w == "authenticated":
			return true
		case isGroup:
			return slices.ContainsFunc(id.Groups, func(g string) bool { return wild(group, g) })
		}
		return wild(w, id.Name)
	})
}

func (r rule) covers(repository string) bool {
	return len(r.repositories) == 0 ||
		slices.ContainsFunc(r.repositories, func(g policy.Glob) bool { return g.Match(repository, nil, "") })
}

// wild matches s with a pattern in which a star stands for any run of bytes.
func wild(pattern, s string) bool {
	parts := strings.Split(pattern, "*")
	last := len(parts) - 1
	if last == 0 {
		return pattern == s
	}
	if !strings.HasPrefix(s, parts[0]) {
		return false
	}
	s = s[len(parts[0]):]
	for _, p := range parts[1:last] {
		i := strings.Index(s, p)
		if i < 0 {
			return false
		}
		s = s[i+len(p):]
	}
	return strings.HasSuffix(s, parts[last])
}
