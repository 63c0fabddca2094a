package records

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	godigest "github.com/opencontainers/go-digest"
)

// Kept is a manifest of the gated registry as retention rules look at it.
type Kept struct {
	Name     string // canonical repository
	Digest   godigest.Digest
	Subject  godigest.Digest   // that it refers to; "" = none
	Parents  []godigest.Digest // indexes of the repository that name it
	Tags     []string          // sorted
	Pushed   time.Time
	LastPull time.Time // zero = never

	// Orphan is set for Expire, of what goes since it refers to a manifest that was
	// deleted: that one.
	Orphan godigest.Digest
}

// Kept returns the repository's manifests, those pushed last first.
func (db *DB) Kept(ctx context.Context, name string) ([]Kept, error) {
	var list []Kept
	at := map[godigest.Digest]int{}
	err := query(ctx, db.read, func(rows *sql.Rows) error {
		var (
			k              = Kept{Name: name}
			pushed, pulled int64
		)
		if err := rows.Scan(&k.Digest, &k.Subject, &pushed, &pulled); err != nil {
			return err
		}
		k.Pushed, k.LastPull = fromNanos(pushed), fromNanos(pulled)
		at[k.Digest] = len(list)
		list = append(list, k)
		return nil
	}, `SELECT m.digest, m.subject, m.pushed, COALESCE(i.last_pull, 0) FROM local_manifests m
		LEFT JOIN images i ON i.name = m.name AND i.digest = m.digest WHERE m.name = ? ORDER BY m.pushed DESC, m.digest`, name)
	if err == nil {
		err = db.pairs(ctx, func(tag string, d godigest.Digest) {
			if i, ok := at[d]; ok {
				list[i].Tags = append(list[i].Tags, tag)
			}
		}, "SELECT tag, digest FROM tags WHERE name = ? ORDER BY tag", name)
	}
	if err == nil {
		err = db.pairs(ctx, func(parent string, d godigest.Digest) {
			if i, ok := at[d]; ok {
				list[i].Parents = append(list[i].Parents, godigest.Digest(parent))
			}
		}, `SELECT m.manifest, m.member FROM members m JOIN local_manifests c ON c.name = m.name AND c.digest = m.member
			WHERE m.name = ? ORDER BY m.manifest`, name)
	}
	if err != nil {
		return nil, fmt.Errorf("manifests of %s: %w", name, err)
	}
	return list, nil
}

// pairs calls each with the rows of a query with two columns.
func (db *DB) pairs(ctx context.Context, each func(string, godigest.Digest), text string, args ...any) error {
	return query(ctx, db.read, func(rows *sql.Rows) error {
		var (
			s string
			d godigest.Digest
		)
		if err := rows.Scan(&s, &d); err != nil {
			return err
		}
		each(s, d)
		return nil
	}, text, args...)
}

// Expire takes the manifest out of its repository as DeleteLocalManifest does,
// with an audit entry, if nothing happened to it since k was read: no push of it
// or of a tag for it, no pull, no index or referrer that names it, no push of
// what an orphan refers to. It reports whether it did.
func (db *DB) Expire(ctx context.Context, k Kept, at time.Time) (bool, error) {
	gone := false
	err := db.update(ctx, db.durable, func(tx *sql.Tx) error {
		same, err := exists(ctx, tx, `SELECT 1 FROM local_manifests m LEFT JOIN images i ON i.name = m.name AND i.digest = m.digest
			WHERE m.name = ? AND m.digest = ? AND m.pushed = ? AND COALESCE(i.last_pull, 0) = ?
			AND NOT EXISTS (SELECT 1 FROM local_manifests r WHERE r.name = m.name AND r.subject = m.digest)
			AND NOT EXISTS (SELECT 1 FROM local_manifests s WHERE s.name = m.name AND s.digest = ?)`,
			k.Name, k.Digest.String(), nanos(k.Pushed), nanos(k.LastPull), k.Orphan.String())
		if err != nil || !same {
			return err
		}
		if err := deleteManifest(ctx, tx, k.Name, k.Digest, at); err != nil {
			return err
		}
		gone = true
		return db.audit(ctx, tx, AuditEntry{By: "sluice", Action: ActionRetain, Target: k.Name + "@" + k.Digest.String()}, nil, map[string]any{"tags": k.Tags, "pushed": k.Pushed})
	})
	if errors.Is(err, ErrInUse) || errors.Is(err, ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("expire %s@%s: %w", k.Name, k.Digest, err)
	}
	return gone, nil
}

// Deleted is a manifest that was taken out of a repository.
type Deleted struct {
	Name   string
	Digest godigest.Digest
}

// Deleted returns the manifests that were taken out of their repository before
// that time, are not there again, and were not forgotten; sorted.
func (db *DB) Deleted(ctx context.Context, before time.Time) ([]Deleted, error) {
	var list []Deleted
	err := query(ctx, db.read, func(rows *sql.Rows) error {
		var d Deleted
		err := rows.Scan(&d.Name, &d.Digest)
		list = append(list, d)
		return err
	}, "SELECT name, digest FROM local_deleted WHERE at < ? ORDER BY name, digest", nanos(before))
	if err != nil {
		return nil, fmt.Errorf("deleted manifests: %w", err)
	}
	return list, nil
}

// ForgetDeleted takes manifests off the list that Deleted returns for before.
func (db *DB) ForgetDeleted(ctx context.Context, list []Deleted, before time.Time) error {
	if len(list) == 0 {
		return nil
	}
	err := db.update(ctx, db.quick, func(tx *sql.Tx) error {
		for _, d := range list {
			if _, err := tx.ExecContext(ctx, "DELETE FROM local_deleted WHERE name = ? AND digest = ? AND at < ?", d.Name, d.Digest.String(), nanos(before)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("forget deleted manifests: %w", err)
	}
	return nil
}
