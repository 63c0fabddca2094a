package api

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	godigest "github.com/opencontainers/go-digest"

	"github.com/sluiceproxy/sluice/proxy/gate"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/records"
)

// Robot is a secret with a name, for machines that push and pull.
type Robot struct {
	records.Robot
	State  string `json:"state"`            // active or expired
	Secret string `json:"secret,omitempty"` // only in the answer that makes it
}

// Robots are all robots, sorted by name.
type Robots struct {
	Items []Robot `json:"items"`
}

// Promotion is an image that was taken into another repository.
type Promotion struct {
	From    string          `json:"from"`
	To      string          `json:"to"`
	Digest  godigest.Digest `json:"digest"`
	Verdict Verdict         `json:"verdict"` // of the target's policy; one that denies means quarantine
}

func (s *server) robots(w http.ResponseWriter, r *http.Request) error {
	if err := newQuery(r).err(); err != nil {
		return err
	}
	all, err := s.Records.Robots(r.Context())
	if err != nil {
		return err
	}
	out := Robots{Items: []Robot{}}
	for _, b := range all {
		out.Items = append(out.Items, Robot{Robot: b, State: s.robotState(b)})
	}
	return writeJSON(w, http.StatusOK, out)
}

// robotState is as package auth sees it: a robot ends when its time comes.
func (s *server) robotState(b records.Robot) string {
	if !b.Expires.IsZero() && !s.Now().Before(b.Expires) {
		return stateExpired
	}
	return stateActive
}

// secretPrefix makes a robot's secret known to scanners of leaked secrets.
const secretPrefix = "slcr_"

// addRobot makes a secret of 260 random bits, of which only the hash is kept.
func (s *server) addRobot(w http.ResponseWriter, r *http.Request) error {
	if err := newQuery(r).err(); err != nil {
		return err
	}
	var in struct {
		Name    string    `json:"name"`
		Owner   string    `json:"owner"`
		Expires time.Time `json:"expires"`
	}
	if err := readJSON(r, &in); err != nil {
		return err
	}
	secret := secretPrefix + strings.ToLower(rand.Text()+rand.Text())
	b, err := s.Records.AddRobot(r.Context(), records.Robot{Name: in.Name, Hash: sha256.Sum256([]byte(secret)), Owner: in.Owner, Expires: in.Expires}, actor(r, in.Owner))
	if err != nil {
		return err
	}
	w.Header().Set("Location", Prefix+"/robots/"+b.Name)
	return writeJSON(w, http.StatusCreated, Robot{Robot: b, State: s.robotState(b), Secret: secret})
}

func (s *server) removeRobot(w http.ResponseWriter, r *http.Request) error {
	if err := newQuery(r).err(); err != nil {
		return err
	}
	if err := s.Records.RemoveRobot(r.Context(), r.PathValue("name"), actor(r, "")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// errNoRegistry answers where there is no gated registry.
func errNoRegistry() error {
	return &Problem{Status: http.StatusNotFound, Detail: "there is no gated registry: it is switched off (registry.enabled)"}
}

// collect removes what the retention rules let go and what nothing names.
func (s *server) collect(w http.ResponseWriter, r *http.Request) error {
	q := newQuery(r, "dry_run")
	dry := false
	if v := q.text("dry_run"); v != "" {
		var err error
		if dry, err = strconv.ParseBool(v); err != nil {
			q.bad("dry_run", fmt.Sprintf("%q is neither true nor false", v))
		}
	}
	if err := q.err(); err != nil {
		return err
	}
	if s.Collect == nil {
		return errNoRegistry()
	}
	g, err := s.Collect(r.Context(), dry, actor(r, ""))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, g)
}

func (s *server) promote(w http.ResponseWriter, r *http.Request) error {
	if err := newQuery(r).err(); err != nil {
		return err
	}
	var in struct {
		From string `json:"from"`
		To   string `json:"to"`
	}
	if err := readJSON(r, &in); err != nil {
		return err
	}
	if s.Promote == nil {
		return errNoRegistry()
	}
	p, err := s.Promote(r.Context(), in.From, in.To, actor(r, ""))
	if err != nil {
		return err
	}
	out := Promotion{From: in.From, To: in.To, Digest: p.Digest, Verdict: Verdict{p.Verdict, p.Verdict.Summary()}}
	return writeJSON(w, http.StatusCreated, out)
}

// fromGate renders what the gate refuses; nil for other errors.
func fromGate(err error) *Problem {
	var (
		denied   *policy.DeniedError
		pending  *gate.PendingError
		manifest *gate.ManifestError
		platform *gate.PlatformError
		missing  *records.MissingError
		quota    *records.QuotaError
	)
	switch {
	case errors.As(err, &denied):
		return &Problem{Status: http.StatusForbidden, Detail: denied.Error(), Verdict: denied.Verdict.ID}
	case errors.As(err, &pending):
		return &Problem{Status: http.StatusServiceUnavailable, Detail: pending.Error()}
	case errors.As(err, &manifest):
		return &Problem{Status: http.StatusUnprocessableEntity, Detail: manifest.Error()}
	case errors.As(err, &platform):
		return &Problem{Status: http.StatusUnprocessableEntity, Detail: platform.Error()}
	case errors.As(err, &missing):
		return &Problem{Status: http.StatusUnprocessableEntity, Detail: missing.Error()}
	case errors.As(err, &quota):
		return &Problem{Status: http.StatusInsufficientStorage, Detail: quota.Error()}
	case errors.Is(err, records.ErrImmutable):
		return &Problem{Status: http.StatusConflict, Detail: records.ErrImmutable.Error() + " (registry.immutableTags); choose another tag"}
	case errors.Is(err, gate.ErrManifestUnknown):
		return &Problem{Status: http.StatusNotFound, Detail: "the registry does not have this image"}
	}
	return nil
}
