package policy

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
	"time"

	godigest "github.com/opencontainers/go-digest"

	"github.com/sluiceproxy/sluice/signing"
)

// listings is a Locks that knows the answers.
type listings map[godigest.Digest]signing.Publication

func (l listings) Listed(s *signing.Subject, _ time.Time) signing.Listing {
	return signing.Listing{Publication: l[s.Desc.Digest], Reason: "the lock says so"}
}

const tagRules = `version: 1
locks: [{name: l, file: l, unsigned: true}]
policies:
  - name: all
    images: ["**"]
    rules: []
  - name: held
    images: ["docker.io/held/**", "docker.io/both/**"]
    tags: {onMove: hold, onRollback: hold, holdFor: 24h}
  - name: long
    images: ["docker.io/both/**"]
    tags: {onMove: hold, holdFor: 48h, onRollback: alert}
  - name: releases
    images: ["docker.io/strict/app:v*"]
    exclude: ["docker.io/strict/app:v0"]
    tags: {onMove: deny}
waivers:
  - {rule: tag-moved, images: ["docker.io/strict/app:v2"], owner: ops, reason: rebuilt, expires: 2026-12-31}
`

func TestMove(t *testing.T) {
	p, err := Parse("p.yaml", []byte(tagRules))
	if err != nil {
		t.Fatal(err)
	}
	from, to := godigest.FromString("from"), godigest.FromString("to")
	listed, old, other := godigest.FromString("listed"), godigest.FromString("old"), godigest.FromString("mismatched")
	bound, err := p.Bind(Binder{
		Read: func(string) ([]byte, error) { return nil, nil },
		OpenLocks: func([]signing.Lock) (signing.Locks, error) {
			return listings{listed: signing.Published, old: signing.Superseded, other: signing.Mismatched}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name  string
		image string
		move  Move
		class MoveClass
		want  TagAction
		until time.Duration // of a hold, from now
	}{
		{"no rules", "docker.io/free/app:1", Move{From: from}, MoveUnknown, TagFollow, 0},
		{"a new tag", "docker.io/strict/app:v1", Move{}, MoveUnknown, TagFollow, 0},
		{"unknown, denied", "docker.io/strict/app:v1", Move{From: from}, MoveUnknown, TagDeny, 0},
		{"another tag", "docker.io/strict/app:latest", Move{From: from}, MoveUnknown, TagFollow, 0},
		{"an excluded tag", "docker.io/strict/app:v0", Move{From: from}, MoveUnknown, TagFollow, 0},
		{"waived", "docker.io/strict/app:v2", Move{From: from}, MoveUnknown, TagFollow, 0},
		{"a waiver of moves is none of rollbacks", "docker.io/strict/app:v2", Move{From: from, Older: "it is"}, MoveRollback, TagDeny, 0},
		{"signed", "docker.io/strict/app:v1", Move{From: from, Signed: true}, MoveSigned, TagFollow, 0},
		{"signed and older", "docker.io/strict/app:v1", Move{From: from, Signed: true, Older: "it is"}, MoveRollback, TagDeny, 0},
		{"published", "docker.io/strict/app:v1", Move{From: from, Image: Image{Digest: listed}}, MovePublished, TagFollow, 0},
		{"published and older: the publisher went back", "docker.io/strict/app:v1", Move{From: from, Older: "it is", Image: Image{Digest: listed}}, MovePublished, TagFollow, 0},
		{"the lock lists others", "docker.io/strict/app:v1", Move{From: from, Image: Image{Digest: other}}, MoveUnknown, TagDeny, 0},
		{"superseded and signed", "docker.io/strict/app:v1", Move{From: from, Signed: true, Image: Image{Digest: old}}, MoveRollback, TagDeny, 0},
		{"superseded, not moved", "docker.io/strict/app:v1", Move{From: old, Image: Image{Digest: old}}, MoveRollback, TagDeny, 0},
		{"superseded, new", "docker.io/strict/app:v1", Move{Image: Image{Digest: old}}, MoveRollback, TagDeny, 0},
		{"held", "docker.io/held/app:1", Move{From: from, Seen: now}, MoveUnknown, TagHold, 24 * time.Hour},
		{"held for a while", "docker.io/held/app:1", Move{From: from, Seen: now.Add(-23 * time.Hour)}, MoveUnknown, TagHold, time.Hour},
		{"after the hold", "docker.io/held/app:1", Move{From: from, Seen: now.Add(-24 * time.Hour)}, MoveUnknown, TagFollow, 0},
		{"rollback held", "docker.io/held/app:1", Move{From: from, Seen: now, Older: "it is"}, MoveRollback, TagHold, 24 * time.Hour},
		{"nothing to hold", "docker.io/held/app:1", Move{Seen: now, Image: Image{Digest: old}}, MoveRollback, TagDeny, 0},
		{"hold what is held", "docker.io/held/app:1", Move{From: old, Seen: now, Image: Image{Digest: old}}, MoveRollback, TagFollow, 0},
		{"the longest hold", "docker.io/both/app:1", Move{From: from, Seen: now}, MoveUnknown, TagHold, 48 * time.Hour},
		{"the strictest", "docker.io/both/app:1", Move{From: from, Seen: now, Older: "it is"}, MoveRollback, TagHold, 24 * time.Hour},
	} {
		t.Run(tt.name, func(t *testing.T) {
			name, tag, _ := strings.Cut(tt.image, ":")
			tt.move.Image.Name, tt.move.Image.Tags, tt.move.Now = name, []string{tag}, now
			if tt.move.Image.Digest == "" {
				tt.move.Image.Digest = to
			}
			got := bound.Move(&tt.move)
			if got.Class != tt.class || got.Action != tt.want {
				t.Errorf("%+v, want %s, %s", got, tt.class, tt.want)
			}
			if tt.until > 0 && !got.Until.Equal(now.Add(tt.until)) || tt.until == 0 && !got.Until.IsZero() {
				t.Errorf("until %s, want in %s", got.Until, tt.until)
			}
			if tt.want != TagDeny {
				if got.Verdict.ID != "" {
					t.Errorf("verdict %+v", got.Verdict)
				}
				return
			}
			v, again := got.Verdict, bound.Move(&tt.move).Verdict
			if v.Decision != Deny || len(v.Reasons) != 1 || v.Reasons[0].Policy == "" || v.ID == "" || v.ID != again.ID || v.Digest != tt.move.Image.Digest || got.Message == "" {
				t.Errorf("verdict %+v, %s", v, again.ID)
			}
		})
	}
}

// TestBindLocks: what the locks hold is part of the revision, and one that cannot
// be opened keeps the policy out, with its place.
func TestBindLocks(t *testing.T) {
	p, err := Parse("p.yaml", []byte(tagRules))
	if err != nil {
		t.Fatal(err)
	}
	bind := func(content string, fail error) (*Policy, error) {
		return p.Bind(Binder{
			Read: func(string) ([]byte, error) {
				if content == "" {
					return nil, fs.ErrNotExist
				}
				return []byte(content), nil
			},
			OpenLocks: func(l []signing.Lock) (signing.Locks, error) {
				if string(l[0].Data) != content {
					t.Errorf("lock %q", l[0].Data)
				}
				return listings{}, fail
			},
		})
	}
	a, err := bind("a", nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := bind("b", nil)
	if err != nil {
		t.Fatal(err)
	}
	if a.Revision() == b.Revision() || a.Revision() == p.Revision() || a.Locks() == nil {
		t.Errorf("revisions %s, %s, %s", p.Revision(), a.Revision(), b.Revision())
	}
	for name, err := range map[string]error{"missing": second(bind("", nil)), "not signed": second(bind("c", errors.New("not signed")))} {
		var problems Problems
		if !errors.As(err, &problems) || problems[0].Line != 2 || problems[0].Column < 10 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := p.Bind(Binder{Read: func(string) ([]byte, error) { return []byte("x"), nil }}); err == nil {
		t.Error("bound without a way to open locks")
	}
}

func second[T any](_ T, err error) error { return err }
