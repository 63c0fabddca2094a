package verify

import (
	"fmt"
	"time"

	"github.com/sluiceproxy/sluice/signing"
	"github.com/sluiceproxy/sluice/signing/lock"
)

// openLocks reads the lock of each authority by Hash.
func (v *Verifier) openLocks() error {
	opened := map[string]*lock.Lock{}
	for _, a := range v.authorities {
		if a.Hash == nil {
			continue
		}
		l, ok := opened[a.Hash.Name]
		if !ok {
			var err error
			if l, err = lock.Open(*a.Hash); err != nil {
				return fmt.Errorf("authority %q: %w", a.Name, err)
			}
			opened[a.Hash.Name] = l
		}
		a.lock = l
	}
	return nil
}

// published lets a lock say whether it lists the subject.
func (a *authority) published(ev *signing.Evidence, now time.Time, r *signing.Result, inherit bool) signing.AuthorityResult {
	ar := signing.AuthorityResult{Name: a.Name}
	s := ev.Subject
	if !inherit {
		s.Parents = nil
	}
	l := a.lock.Listed(&s, now)
	r.Until = earlier(r.Until, l.Until)
	ar.Warning, ar.Reason = l.Warning, l.Reason
	switch l.Publication {
	case signing.Published:
		ar.Outcome = signing.Pass
	case signing.Unproven:
		ar.Outcome = signing.Undecided
	case signing.Unlisted, signing.Mismatched, signing.Superseded:
		ar.Outcome = signing.Fail
	}
	return ar
}
