package records

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	godigest "github.com/opencontainers/go-digest"
)

// LocalManifest is a manifest that was pushed into the gated registry.
type LocalManifest struct {
	Name         string            `json:"name"` // canonical repository: local/team/app
	Digest       godigest.Digest   `json:"digest"`
	MediaType    string            `json:"mediaType"`
	ArtifactType string            `json:"artifactType,omitempty"` // as a referrers list shows it
	Annotations  map[string]string `json:"annotations,omitempty"`
	Subject      godigest.Digest   `json:"subject,omitempty"`
	Size         int64             `json:"size"`
	Pusher       string            `json:"pusher"`
	Pushed       time.Time         `json:"pushed"`
}

// ErrImmutable says that a tag names another digest and must not move.
var ErrImmutable = errors.New("the tag is immutable and names another manifest")

// MissingError says that a repository lacks what a manifest names.
type MissingError struct {
	Digest   godigest.Digest
	Manifest bool // a child of an index, else a blob
}

// Error names the digest.
func (e *MissingError) Error() string {
	if e.Manifest {
		return fmt.Sprintf("the manifest %s is not in this repository; push it first", e.Digest)
	}
	return fmt.Sprintf("the blob %s is not in this repository; push it first", e.Digest)
}

// QuotaError says that a repository may not grow.
type QuotaError struct {
	Prefix           string // of the repositories that share the quota
	Used, More, Most int64  // bytes: there already, wanted, allowed
}

// Error tells what to do.
func (e *QuotaError) Error() string {
	if e.More == 0 {
		return fmt.Sprintf("the quota of %s is used up: %d of %d bytes; delete images, or ask the operator for more (registry.quotas)", e.Prefix, e.Used, e.Most)
	}
	return fmt.Sprintf("the quota of %s has no room for %d bytes more: %d of %d are used; delete images, or ask the operator for more (registry.quotas)", e.Prefix, e.More, e.Used, e.Most)
}

// LinkBlob notes that the repository has the blob. It returns once that is on
// disk. quotas are bytes by the prefix of repository names; the error is a
// *QuotaError where the blob would be too much, however many come at once.
func (db *DB) LinkBlob(ctx context.Context, name string, d godigest.Digest, size int64, at time.Time, quotas map[string]int64) error {
	err := db.update(ctx, db.durable, func(tx *sql.Tx) error {
		if err := withinQuotas(ctx, tx, quotas, name, d, size); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO local_blobs (name, digest, size, touched) VALUES (?, ?, ?, ?)
			ON CONFLICT (name, digest) DO UPDATE SET touched = excluded.touched`, name, d.String(), size, nanos(at))
		return err
	})
	if err != nil {
		return fmt.Errorf("link blob %s in %s: %w", d, name, err)
	}
	return nil
}

// withinQuotas returns a *QuotaError if content of that size is too much in the
// repository, which may have it already.
func withinQuotas(ctx context.Context, tx *sql.Tx, quotas map[string]int64, name string, d godigest.Digest, size int64) error {
	for prefix, most := range quotas {
		if !strings.HasPrefix(name, prefix) {
			continue
		}
		used, err := localBytes(ctx, tx, prefix, name, d)
		if err != nil {
			return err
		}
		if used+size > most {
			return &QuotaError{Prefix: prefix, Used: used, More: size, Most: most}
		}
	}
	return nil
}

// localBytes returns the bytes of all that repositories with the prefix have,
// without d in the repository name.
func localBytes(ctx context.Context, q querier, prefix, name string, d godigest.Digest) (int64, error) {
	var n int64
	args := []any{prefix, prefix + "\xff", name, d.String()}
	err := q.QueryRowContext(ctx, `SELECT COALESCE((SELECT SUM(size) FROM local_blobs WHERE name >= ? AND name < ? AND NOT (name = ? AND digest = ?)), 0)
		+ COALESCE((SELECT SUM(size) FROM local_manifests WHERE name >= ? AND name < ? AND NOT (name = ? AND digest = ?)), 0)`,
		append(args, args...)...).Scan(&n)
	return n, err
}

// HasBlob reports whether the repository has the blob, and its size. A yes
// counts as a use at that time, or up to grain before it, which saves a write:
// whoever asked may not push the blob again.
func (db *DB) HasBlob(ctx context.Context, name string, d godigest.Digest, at time.Time, grain time.Duration) (size int64, ok bool, err error) {
	var touched int64
	err = db.read.QueryRowContext(ctx, "SELECT size, touched FROM local_blobs WHERE name = ? AND digest = ?", name, d.String()).Scan(&size, &touched)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return 0, false, nil
	case err == nil && at.Sub(fromNanos(touched)) > grain:
		var n int64
		err = db.update(ctx, db.durable, func(tx *sql.Tx) error {
			res, err := tx.ExecContext(ctx, "UPDATE local_blobs SET touched = ? WHERE name = ? AND digest = ?", nanos(at), name, d.String())
			if err == nil {
				n, err = res.RowsAffected()
			}
			return err
		})
		ok = n > 0 // else it was collected a moment ago
	default:
		ok = true
	}
	if err != nil {
		return 0, false, fmt.Errorf("blob %s in %s: %w", d, name, err)
	}
	return size, ok, nil
}

// RepositoriesWith returns the repositories that have d, as a blob or as a
// manifest, sorted.
func (db *DB) RepositoriesWith(ctx context.Context, d godigest.Digest) ([]string, error) {
	names, err := db.texts(ctx, "SELECT name FROM local_blobs WHERE digest = ? UNION SELECT name FROM local_manifests WHERE digest = ? ORDER BY name", d.String(), d.String())
	if err != nil {
		return nil, fmt.Errorf("repositories with %s: %w", d, err)
	}
	return names, nil
}

// UnlinkBlob takes the blob out of the repository. The error is ErrNotFound if
// it is not there, and ErrInUse if a manifest names it.
func (db *DB) UnlinkBlob(ctx context.Context, name string, d godigest.Digest) error {
	err := db.update(ctx, db.durable, func(tx *sql.Tx) error {
		used, err := exists(ctx, tx, "SELECT 1 FROM members WHERE name = ? AND member = ?", name, d.String())
		if err != nil {
			return err
		}
		if used {
			return ErrInUse
		}
		res, err := tx.ExecContext(ctx, "DELETE FROM local_blobs WHERE name = ? AND digest = ?", name, d.String())
		if err != nil {
			return err
		}
		return affected(res)
	})
	if err != nil {
		return fmt.Errorf("unlink blob %s of %s: %w", d, name, err)
	}
	return nil
}

// ErrInUse says that something cannot go since something else names it.
var ErrInUse = errors.New("it is still in use")

// Push is what PutLocalManifest stores in one step.
type Push struct {
	Manifest LocalManifest
	Blobs    []godigest.Digest // that the manifest names and the repository must have
	Children []godigest.Digest // manifests of an index, which it must have too
	Tags     []PushedTag
	Quotas   map[string]int64 // as LinkBlob's
}

// PushedTag is a tag that names the pushed manifest from now on.
type PushedTag struct {
	Name string
	// Immutable refuses to move it away from another digest that was ever served;
	// what was denied from the start, the fixed image may replace.
	Immutable bool
}

// PutLocalManifest notes a pushed manifest, its members and its tag, or nothing.
// It returns once that is on disk. The error is a *MissingError if the
// repository lacks a member, a *QuotaError if it may not grow, ErrImmutable if
// the tag may not move.
func (db *DB) PutLocalManifest(ctx context.Context, p Push) error {
	m := p.Manifest
	annotations, err := json.Marshal(m.Annotations)
	if err != nil {
		return err
	}
	err = db.update(ctx, db.durable, func(tx *sql.Tx) error {
		for _, d := range p.Blobs {
			if ok, err := exists(ctx, tx, "SELECT 1 FROM local_blobs WHERE name = ? AND digest = ?", m.Name, d.String()); err != nil {
				return err
			} else if !ok {
				return &MissingError{Digest: d}
			}
		}
		for _, d := range p.Children {
			if ok, err := exists(ctx, tx, "SELECT 1 FROM local_manifests WHERE name = ? AND digest = ?", m.Name, d.String()); err != nil {
				return err
			} else if !ok {
				return &MissingError{Digest: d, Manifest: true}
			}
		}
		if err := withinQuotas(ctx, tx, p.Quotas, m.Name, m.Digest, m.Size); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "DELETE FROM local_deleted WHERE name = ? AND digest = ?", m.Name, m.Digest.String()); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO images (name, digest, media_type, first_seen) VALUES (?, ?, ?, ?)
			ON CONFLICT (name, digest) DO UPDATE SET media_type = excluded.media_type`, m.Name, m.Digest.String(), m.MediaType, nanos(m.Pushed)); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO local_manifests (name, digest, media_type, artifact_type, annotations, subject, size, pusher, pushed)
			VALUES (`+placeholders(9)+`) ON CONFLICT (name, digest) DO UPDATE SET pushed = excluded.pushed, pusher = excluded.pusher`,
			m.Name, m.Digest.String(), m.MediaType, m.ArtifactType, string(annotations), m.Subject.String(), m.Size, m.Pusher, nanos(m.Pushed)); err != nil {
			return err
		}
		for _, d := range append(append([]godigest.Digest{}, p.Blobs...), p.Children...) {
			if _, err := tx.ExecContext(ctx, `INSERT INTO members (name, manifest, member) VALUES (?, ?, ?)
				ON CONFLICT (name, member, manifest) DO NOTHING`, m.Name, m.Digest.String(), d.String()); err != nil {
				return err
			}
		}
		for _, t := range p.Tags {
			if err := putTag(ctx, tx, m, t); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("put manifest %s@%s: %w", m.Name, m.Digest, err)
	}
	return nil
}

func putTag(ctx context.Context, tx *sql.Tx, m LocalManifest, t PushedTag) error {
	if t.Immutable {
		other, err := exists(ctx, tx, `SELECT 1 FROM tags JOIN images ON images.name = tags.name AND images.digest = tags.digest
			WHERE tags.name = ? AND tag = ? AND tags.digest <> ? AND allowed_since > 0`, m.Name, t.Name, m.Digest.String())
		if err != nil {
			return err
		}
		if other {
			return fmt.Errorf("%s: %w", t.Name, ErrImmutable)
		}
	}
	return moveTag(ctx, tx, m.Name, t.Name, m.Digest, m.Pushed)
}

const localColumns = "name, digest, media_type, artifact_type, annotations, subject, size, pusher, pushed"

// LocalManifest returns a manifest of the gated registry.
func (db *DB) LocalManifest(ctx context.Context, name string, d godigest.Digest) (LocalManifest, bool, error) {
	list, err := localManifests(ctx, db.read, "WHERE name = ? AND digest = ?", name, d.String())
	if err != nil {
		return LocalManifest{}, false, fmt.Errorf("manifest %s@%s: %w", name, d, err)
	}
	if len(list) == 0 {
		return LocalManifest{}, false, nil
	}
	return list[0], true, nil
}

// LocalReferrers returns the manifests of the repository whose subject is d,
// sorted by digest. d itself need not be there (OCI distribution 1.1, "Listing
// Referrers").
func (db *DB) LocalReferrers(ctx context.Context, name string, d godigest.Digest) ([]LocalManifest, error) {
	list, err := localManifests(ctx, db.read, "WHERE name = ? AND subject = ? ORDER BY digest", name, d.String())
	if err != nil {
		return nil, fmt.Errorf("referrers of %s@%s: %w", name, d, err)
	}
	return list, nil
}

func localManifests(ctx context.Context, q querier, where string, args ...any) ([]LocalManifest, error) {
	var list []LocalManifest
	err := query(ctx, q, func(rows *sql.Rows) error {
		var (
			m           LocalManifest
			annotations string
			pushed      int64
		)
		if err := rows.Scan(&m.Name, &m.Digest, &m.MediaType, &m.ArtifactType, &annotations, &m.Subject, &m.Size, &m.Pusher, &pushed); err != nil {
			return err
		}
		m.Pushed = fromNanos(pushed)
		list = append(list, m)
		return json.Unmarshal([]byte(annotations), &list[len(list)-1].Annotations)
	}, "SELECT "+localColumns+" FROM local_manifests "+where, args...)
	return list, err
}

// DeleteLocalManifest takes the manifest out of the repository with its tags and
// members, whose blobs count as used at that time, and notes that it went then,
// see Deleted. A manifest that an index of
// the repository names is ErrInUse, one that is not there ErrNotFound, one with a
// tag that keeps says yes to ErrImmutable; keeps may be nil.
func (db *DB) DeleteLocalManifest(ctx context.Context, name string, d godigest.Digest, at time.Time, keeps func(tag string) bool) error {
	err := db.update(ctx, db.durable, func(tx *sql.Tx) error {
		if keeps != nil {
			kept := ""
			err := query(ctx, tx, func(rows *sql.Rows) error {
				var tag string
				err := rows.Scan(&tag)
				if keeps(tag) {
					kept = tag
				}
				return err
			}, "SELECT tag FROM tags WHERE name = ? AND digest = ?", name, d.String())
			if err != nil {
				return err
			}
			if kept != "" {
				return fmt.Errorf("%s: %w", kept, ErrImmutable)
			}
		}
		return deleteManifest(ctx, tx, name, d, at)
	})
	if err != nil {
		return fmt.Errorf("delete manifest %s@%s: %w", name, d, err)
	}
	return nil
}

func deleteManifest(ctx context.Context, tx *sql.Tx, name string, d godigest.Digest, at time.Time) error {
	used, err := exists(ctx, tx, "SELECT 1 FROM members WHERE name = ? AND member = ?", name, d.String())
	if err != nil {
		return err
	}
	if used {
		return ErrInUse
	}
	res, err := tx.ExecContext(ctx, "DELETE FROM local_manifests WHERE name = ? AND digest = ?", name, d.String())
	if err == nil {
		err = affected(res)
	}
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `UPDATE local_blobs SET touched = ? WHERE name = ? AND digest IN
		(SELECT member FROM members WHERE members.name = ? AND manifest = ?)`, nanos(at), name, name, d.String()); err != nil {
		return err
	}
	for _, text := range []string{
		"DELETE FROM members WHERE name = ? AND manifest = ?",
		"DELETE FROM tags WHERE name = ? AND digest = ?",
	} {
		if _, err := tx.ExecContext(ctx, text, name, d.String()); err != nil {
			return err
		}
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO local_deleted (name, digest, at) VALUES (?, ?, ?)
		ON CONFLICT (name, digest) DO UPDATE SET at = excluded.at`, name, d.String(), nanos(at))
	return err
}

// DeleteTag removes a tag, whose manifest stays. The error is ErrNotFound
// without one.
func (db *DB) DeleteTag(ctx context.Context, name, tag string) error {
	err := db.update(ctx, db.durable, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, "DELETE FROM tags WHERE name = ? AND tag = ?", name, tag)
		if err != nil {
			return err
		}
		return affected(res)
	})
	if err != nil {
		return fmt.Errorf("delete tag %s:%s: %w", name, tag, err)
	}
	return nil
}

// Tags returns up to n of the repository's tags after last, in lexical order,
// and whether there are more.
func (db *DB) Tags(ctx context.Context, name, last string, n int) (tags []string, more bool, err error) {
	if tags, err = db.texts(ctx, "SELECT tag FROM tags WHERE name = ? AND tag > ? ORDER BY tag LIMIT ?", name, last, n+1); err != nil {
		return nil, false, fmt.Errorf("tags of %s: %w", name, err)
	}
	if len(tags) > n {
		return tags[:n], true, nil
	}
	return tags, false, nil
}

// LocalKnown reports whether the repository has a manifest or a blob. It keeps its
// blobs for a while after its last manifest went.
func (db *DB) LocalKnown(ctx context.Context, name string) (bool, error) {
	known, err := exists(ctx, db.read, "SELECT 1 FROM local_manifests WHERE name = ? UNION ALL SELECT 1 FROM local_blobs WHERE name = ?", name, name)
	if err != nil {
		return false, fmt.Errorf("repository %s: %w", name, err)
	}
	return known, nil
}

// LocalRepositories returns up to n repositories after last that have a
// manifest, in lexical order.
func (db *DB) LocalRepositories(ctx context.Context, last string, n int) ([]string, error) {
	names, err := db.texts(ctx, "SELECT DISTINCT name FROM local_manifests WHERE name > ? ORDER BY name LIMIT ?", last, n)
	if err != nil {
		return nil, fmt.Errorf("repositories: %w", err)
	}
	return names, nil
}

// LocalBytes returns the bytes of all blobs and manifests of the repositories
// whose name starts with prefix. Each counts once in each repository.
func (db *DB) LocalBytes(ctx context.Context, prefix string) (int64, error) {
	n, err := localBytes(ctx, db.read, prefix, "", "")
	if err != nil {
		return 0, fmt.Errorf("bytes under %s: %w", prefix, err)
	}
	return n, nil
}

// Link is a blob in a repository.
type Link struct {
	Name   string          `json:"name"`
	Digest godigest.Digest `json:"digest"`
	Size   int64           `json:"size"`
}

const unusedLinks = `touched < ? AND NOT EXISTS
	(SELECT 1 FROM members WHERE members.name = local_blobs.name AND members.member = local_blobs.digest)`

// UnusedBlobs returns the blobs that no manifest of their repository names and
// that were last said to exist before that time.
func (db *DB) UnusedBlobs(ctx context.Context, before time.Time) ([]Link, error) {
	var links []Link
	err := query(ctx, db.read, func(rows *sql.Rows) error {
		var l Link
		err := rows.Scan(&l.Name, &l.Digest, &l.Size)
		links = append(links, l)
		return err
	}, "SELECT name, digest, size FROM local_blobs WHERE "+unusedLinks+" ORDER BY name, digest", nanos(before))
	if err != nil {
		return nil, fmt.Errorf("unused blobs: %w", err)
	}
	return links, nil
}

// UnlinkUnused takes l out of its repository if it is still unused, and reports
// whether it was.
func (db *DB) UnlinkUnused(ctx context.Context, l Link, before time.Time) (bool, error) {
	var n int64
	err := db.update(ctx, db.durable, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, "DELETE FROM local_blobs WHERE name = ? AND digest = ? AND "+unusedLinks, l.Name, l.Digest.String(), nanos(before))
		if err == nil {
			n, err = res.RowsAffected()
		}
		return err
	})
	if err != nil {
		return false, fmt.Errorf("unlink %s of %s: %w", l.Digest, l.Name, err)
	}
	return n > 0, nil
}

// LocalContent reports whether any repository of the gated registry has d, as a
// blob or as a manifest.
func (db *DB) LocalContent(ctx context.Context, d godigest.Digest) (bool, error) {
	ok, err := exists(ctx, db.read, "SELECT 1 FROM local_blobs WHERE digest = ? UNION ALL SELECT 1 FROM local_manifests WHERE digest = ?", d.String(), d.String())
	if err != nil {
		return false, fmt.Errorf("content %s: %w", d, err)
	}
	return ok, nil
}

func exists(ctx context.Context, q querier, text string, args ...any) (bool, error) {
	var one int
	err := q.QueryRowContext(ctx, text+" LIMIT 1", args...).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

// texts returns the first column of a query.
func (db *DB) texts(ctx context.Context, text string, args ...any) ([]string, error) {
	var out []string
	err := query(ctx, db.read, func(rows *sql.Rows) error {
		var s string
		err := rows.Scan(&s)
		out = append(out, s)
		return err
	}, text, args...)
	return out, err
}
