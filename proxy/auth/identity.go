package auth

import (
	"slices"
	"strings"
)

// Action is what somebody wants to do with a repository.
type Action string

// The actions. Pull and push mean what they mean in Docker's token scopes.
const (
	Pull    Action = "pull"
	Push    Action = "push"
	Delete  Action = "delete"
	Operate Action = "operate" // see and release what is in quarantine
)

var actions = []Action{Pull, Push, Delete, Operate}

// Identity is who asks. The zero Identity is nobody that is known: Anonymous.
type Identity struct {
	// Name is "" for nobody, else "user:<name>" of htpasswd, "robot:<name>",
	// "cert:<first URI, DNS name or common name>" or "oidc:<issuer's name>:<subject>".
	Name   string
	Groups []string // of an OIDC token; each with the issuer's name in front: "github:acme/admins"
	Local  bool     // asked from this machine, not through a reverse proxy

	scopes []scope // of a token of our own
	scoped bool    // there is such a token: only its scopes count
}

// Anonymous reports whether the identity is nobody's.
func (id Identity) Anonymous() bool { return id.Name == "" }

// String is the name for logs and records: "anonymous" for nobody.
func (id Identity) String() string {
	if id.Anonymous() {
		return "anonymous"
	}
	return id.Name
}

// scope is one entry of a token's access claim (distribution, "Token
// Authentication Specification", section "access").
type scope struct {
	Type    string   `json:"type"`
	Name    string   `json:"name"`
	Actions []Action `json:"actions"`
}

// within reports whether the identity's token covers the action on the name as
// the client wrote it.
func (id Identity) within(asked string, a Action) bool {
	if !id.scoped || a == Operate {
		return true
	}
	return slices.ContainsFunc(id.scopes, func(s scope) bool {
		return s.Type == "repository" && s.Name == asked && slices.Contains(s.Actions, a)
	})
}

// parseScopes reads the scope parameters of a token request, each one or more
// scopes "repository:<name>:<action>,<action>" with blanks between them. The
// name may have a port, so it ends at the last colon. Other types are dropped:
// nothing is granted for them.
func parseScopes(params []string) []scope {
	var out []scope
	for _, p := range params {
		for _, s := range strings.Fields(p) {
			typ, rest, _ := strings.Cut(s, ":")
			i := strings.LastIndexByte(rest, ':')
			if typ != "repository" || i <= 0 || len(out) == maxScopes {
				continue
			}
			sc := scope{Type: typ, Name: rest[:i]}
			for _, a := range strings.Split(rest[i+1:], ",") {
				switch a {
				case string(Pull), string(Push), string(Delete):
					sc.Actions = append(sc.Actions, Action(a))
				case "*":
					sc.Actions = append(sc.Actions, Pull, Push, Delete)
				}
			}
			out = append(out, sc)
		}
	}
	return out
}

// maxScopes bounds the scopes of one token, so that it fits in a header.
const maxScopes = 32
