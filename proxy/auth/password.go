package auth

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// users are the lines of an htpasswd file, and what was proven lately: bcrypt
// takes tens of milliseconds by design, and clients send their password with
// each token request.
type users struct {
	hashes map[string][]byte
	decoy  []byte        // some user's hash, compared where there is no such user, so that the time taken does not tell
	slots  chan struct{} // bcrypt runs on half of the processors at most, so that guesses leave room for pulls

	mu     sync.Mutex
	proven map[[32]byte]time.Time // SHA-256 of user and password: until when it counts
}

const (
	provenFor = 10 * time.Minute
	maxProven = 1 << 14
	maxUsers  = 1 << 16
)

// readUsers reads user:bcrypt lines; empty lines and those with # are skipped.
func readUsers(file string) (*users, error) {
	u := &users{hashes: map[string][]byte{}, slots: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)), proven: map[[32]byte]time.Time{}}
	if file == "" {
		return u, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("htpasswd: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	if err := u.read(f); err != nil {
		return nil, fmt.Errorf("htpasswd %s: %w", file, err)
	}
	return u, nil
}

func (u *users) read(r io.Reader) error {
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		name, hash, ok := strings.Cut(line, ":")
		if !ok || name == "" {
			return fmt.Errorf("line %d: not name:hash", n)
		}
		if _, err := bcrypt.Cost([]byte(hash)); err != nil {
			return fmt.Errorf("line %d: user %q: not a bcrypt hash (make one with 'htpasswd -nB %s')", n, name, name)
		}
		if _, twice := u.hashes[name]; twice {
			return fmt.Errorf("line %d: user %q stands there twice", n, name)
		}
		if len(u.hashes) == maxUsers {
			return fmt.Errorf("line %d: more than %d users", n, maxUsers)
		}
		u.hashes[name] = []byte(hash)
		u.decoy = []byte(hash)
	}
	return lines.Err()
}

// verify reports whether the password is the user's.
func (u *users) verify(ctx context.Context, name, password string, now time.Time) (bool, error) {
	key := sha256.Sum256([]byte(name + "\x00" + password))
	u.mu.Lock()
	until, ok := u.proven[key]
	u.mu.Unlock()
	if ok && now.Before(until) {
		return true, nil
	}
	hash, known := u.hashes[name]
	if !known {
		hash = u.decoy
	}
	select {
	case u.slots <- struct{}{}:
		defer func() { <-u.slots }()
	case <-ctx.Done():
		return false, ctx.Err()
	}
	if err := bcrypt.CompareHashAndPassword(hash, []byte(password)); err != nil || !known {
		return false, nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.proven) >= maxProven {
		clear(u.proven)
	}
	u.proven[key] = now.Add(provenFor)
	return true, nil
}

// password identifies Basic credentials: a robot's name and secret, an OIDC token under
// the user name oauth2accesstoken or <token>, or a user of the htpasswd file.
func (c *Controller) password(ctx context.Context, user, password string) (Identity, error) {
	if user == "oauth2accesstoken" || user == "<token>" {
		return c.bearer(ctx, password)
	}
	id, err := c.robot(ctx, func(r Robot) bool { return r.Name == user }, password)
	if err == nil || !errors.Is(err, ErrCredentials) {
		return id, err
	}
	ok, err := c.users.Load().verify(ctx, user, password, c.opts.Now())
	switch {
	case err != nil:
		return Identity{}, err
	case !ok:
		return Identity{}, fmt.Errorf("%w: user %q", ErrCredentials, user)
	}
	return Identity{Name: "user:" + user}, nil
}

// robot identifies the secret of one of the robots that may.
func (c *Controller) robot(ctx context.Context, may func(Robot) bool, secret string) (Identity, error) {
	if c.opts.Robots == nil {
		return Identity{}, fmt.Errorf("%w: there are no robots", ErrCredentials)
	}
	robots, err := c.opts.Robots.Robots(ctx)
	if err != nil {
		return Identity{}, fmt.Errorf("robots: %w", err)
	}
	hash := sha256.Sum256([]byte(secret))
	for _, r := range robots {
		if !may(r) || subtle.ConstantTimeCompare(hash[:], r.Hash[:]) != 1 {
			continue
		}
		if !r.Expires.IsZero() && !c.opts.Now().Before(r.Expires) {
			return Identity{}, fmt.Errorf("%w: robot %q expired at %s", ErrCredentials, r.Name, r.Expires.Format(time.RFC3339))
		}
		return Identity{Name: "robot:" + r.Name}, nil
	}
	return Identity{}, fmt.Errorf("%w: no robot has this secret", ErrCredentials)
}

// alive reports whether the identity of a token of our own still exists.
func (c *Controller) alive(ctx context.Context, name string) (bool, error) {
	kind, rest, _ := strings.Cut(name, ":")
	switch kind {
	case "user":
		_, ok := c.users.Load().hashes[rest]
		return ok, nil
	case "robot":
		if c.opts.Robots == nil {
			return false, nil
		}
		robots, err := c.opts.Robots.Robots(ctx)
		if err != nil {
			return false, fmt.Errorf("robots: %w", err)
		}
		for _, r := range robots {
			if r.Name == rest {
				return r.Expires.IsZero() || c.opts.Now().Before(r.Expires), nil
			}
		}
		return false, nil
	}
	return true, nil
}
