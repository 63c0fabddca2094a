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
	"golang.org/x/sync/singleflight"
)

// users are the lines of an htpasswd file, and what was compared with them
// lately: bcrypt takes tens of milliseconds by design, and clients send their
// password with each token request. Another file makes other users, so that what
// is remembered here never outlives a change of a password.
type users struct {
	hashes map[string][]byte
	decoy  []byte             // some user's hash, compared where there is no such user, so that the time taken does not tell
	slots  chan struct{}      // bcrypt runs on half of the processors at most, so that guesses leave room for pulls
	comps  singleflight.Group // a crowd with the same password compares it once

	mu     sync.Mutex
	proven map[[32]byte]time.Time // SHA-256 of user and password: until when it is known to be right
	wrong  map[[32]byte]time.Time // the same of pairs that were refused: a client with an old password costs no more
}

const (
	provenFor = time.Hour // from its last use
	wrongFor  = 10 * time.Minute
	maxProven = 1 << 14 // of each kind; past it all are forgotten
	maxUsers  = 1 << 16

	slotPatience = 10 * time.Second // longest wait for a slot
)

// readUsers reads user:bcrypt lines; empty lines and those with # are skipped.
func readUsers(file string) (*users, error) {
	u := &users{hashes: map[string][]byte{}, slots: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)), proven: map[[32]byte]time.Time{}, wrong: map[[32]byte]time.Time{}}
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

// errBusy says that others' passwords are being compared.
var errBusy = errors.New("too many passwords are being compared")

// verify reports whether the password is the user's. What is not remembered
// costs the caller a guess before bcrypt runs: spend says whether there is one
// left, and its error is returned; refund gives it back for a password that is
// right, or that was not compared, which is errBusy.
func (u *users) verify(name, password string, now time.Time, spend func() error, refund func()) (bool, error) {
	if len(u.hashes) == 0 {
		return false, nil
	}
	key := sha256.Sum256([]byte(name + "\x00" + password))
	if right, ok := u.remembered(key, now); ok {
		return right, nil
	}
	right, err, _ := u.comps.Do(string(key[:]), func() (any, error) {
		if right, ok := u.remembered(key, now); ok { // since the look above
			return right, nil
		}
		if err := spend(); err != nil {
			return false, err
		}
		right, err := u.compare(name, password)
		if right || err != nil {
			refund()
		}
		if err == nil {
			u.remember(key, right, now)
		}
		return right, err
	})
	return right.(bool) && err == nil, err //nolint:errcheck,forcetypeassert // what the function above returns
}

// compare runs bcrypt when there is a slot.
func (u *users) compare(name, password string) (bool, error) {
	hash, known := u.hashes[name]
	if !known {
		hash = u.decoy
	}
	patience := time.NewTimer(slotPatience)
	defer patience.Stop()
	select {
	case u.slots <- struct{}{}:
		defer func() { <-u.slots }()
	case <-patience.C:
		return false, errBusy
	}
	return bcrypt.CompareHashAndPassword(hash, []byte(password)) == nil && known, nil
}

func (u *users) remembered(key [32]byte, now time.Time) (right, ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if until, ok := u.proven[key]; ok && now.Before(until) {
		u.proven[key] = now.Add(provenFor)
		return true, true
	}
	until, ok := u.wrong[key]
	return false, ok && now.Before(until)
}

func (u *users) remember(key [32]byte, right bool, now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	m, until := u.wrong, now.Add(wrongFor)
	if right {
		m, until = u.proven, now.Add(provenFor)
	}
	if len(m) >= maxProven {
		clear(m)
	}
	m[key] = until
}

// password identifies Basic credentials: a robot's name and secret, an OIDC token under
// the user name oauth2accesstoken or <token>, or a user of the htpasswd file.
// from is the network that asks, which pays for guesses.
func (c *Controller) password(ctx context.Context, from, user, password string) (Identity, error) {
	if user == "oauth2accesstoken" || user == "<token>" {
		return c.bearer(ctx, password)
	}
	id, err := c.robot(ctx, func(r Robot) bool { return r.Name == user }, password)
	if err == nil || !errors.Is(err, ErrCredentials) {
		return id, err
	}
	ok, err := c.users.Load().verify(user, password, c.opts.Now(), func() error {
		if wait := c.guesses.take(from, c.opts.Now()); wait > 0 {
			return &LimitedError{Guesses: true, RetryAfter: wait}
		}
		return nil
	}, func() { c.guesses.refund(from) })
	switch {
	case errors.Is(err, errBusy):
		return Identity{}, &LimitedError{Guesses: true, RetryAfter: slotPatience}
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
