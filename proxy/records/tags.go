package records

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	godigest "github.com/opencontainers/go-digest"

	"github.com/sluiceproxy/sluice/signing"
)

// TagChange is an entry of a tag's history: what the upstream let the tag name,
// and what was done about it.
type TagChange struct {
	Name     string          `json:"name"`
	Tag      string          `json:"tag"`
	Digest   godigest.Digest `json:"digest"`
	Previous godigest.Digest `json:"previous,omitempty"` // served before; "" for the first and for entries of old versions
	Class    string          `json:"class,omitempty"`    // published, signed, unknown or rollback; "" for the first
	Action   string          `json:"action"`             // alert: the digest is served; hold, deny: it is not
	Reason   string          `json:"reason,omitempty"`   // one sentence
	At       time.Time       `json:"at"`
}

// served is the action of what the tag names for clients.
const served = "alert"

// maxHistory is how many entries of a tag's history are returned.
const maxHistory = 1000

// NoteMove notes that the upstream lets c.Tag name c.Digest in place of
// c.Previous, and what is done about it, and returns since when it does without
// a break. The history gets an entry where the digest or the action is new. What
// is served enters the history when SeenImage is told of it, with class and
// reason of c.
func (db *DB) NoteMove(ctx context.Context, c TagChange) (since time.Time, err error) {
	since = c.At
	err = db.update(ctx, db.quick, func(tx *sql.Tx) error {
		var (
			digest, action string
			at             int64
		)
		err := tx.QueryRowContext(ctx, "SELECT digest, action, since FROM tag_moves WHERE name = ? AND tag = ?", c.Name, c.Tag).Scan(&digest, &action, &at)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		known := err == nil && digest == c.Digest.String()
		if known {
			since = fromNanos(at)
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO tag_moves (name, tag, digest, since, class, action, reason) VALUES (?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (name, tag) DO UPDATE SET digest = excluded.digest, since = excluded.since, class = excluded.class, action = excluded.action, reason = excluded.reason`,
			c.Name, c.Tag, c.Digest.String(), nanos(since), c.Class, c.Action, c.Reason); err != nil {
			return err
		}
		if c.Action == served || known && action == c.Action {
			return nil
		}
		return appendTag(ctx, tx, &c)
	})
	if err != nil {
		return time.Time{}, fmt.Errorf("move of %s:%s: %w", c.Name, c.Tag, err)
	}
	return since, nil
}

// Moving returns since when the upstream lets the tag name dgst in place of what
// is served; zero if it does not.
func (db *DB) Moving(ctx context.Context, name, tag string, dgst godigest.Digest) (time.Time, error) {
	var at int64
	err := db.read.QueryRowContext(ctx, "SELECT since FROM tag_moves WHERE name = ? AND tag = ? AND digest = ?", name, tag, dgst.String()).Scan(&at)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return time.Time{}, fmt.Errorf("move of %s:%s: %w", name, tag, err)
	}
	return fromNanos(at), nil
}

// EndMove forgets the tag's move: the upstream names again what is served.
func (db *DB) EndMove(ctx context.Context, name, tag string) error {
	err := db.update(ctx, db.quick, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "DELETE FROM tag_moves WHERE name = ? AND tag = ?", name, tag)
		return err
	})
	if err != nil {
		return fmt.Errorf("end of move of %s:%s: %w", name, tag, err)
	}
	return nil
}

// takeMove returns class and reason of the tag's move to dgst, which ends.
func takeMove(ctx context.Context, tx *sql.Tx, name, tag string, dgst godigest.Digest) (class, reason string, err error) {
	err = tx.QueryRowContext(ctx, "SELECT class, reason FROM tag_moves WHERE name = ? AND tag = ? AND digest = ?", name, tag, dgst.String()).Scan(&class, &reason)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", "", err
	}
	_, err = tx.ExecContext(ctx, "DELETE FROM tag_moves WHERE name = ? AND tag = ?", name, tag)
	return class, reason, err
}

func appendTag(ctx context.Context, tx *sql.Tx, c *TagChange) error {
	_, err := tx.ExecContext(ctx, "INSERT INTO tag_history (name, tag, digest, at, previous, class, action, reason) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
		c.Name, c.Tag, c.Digest.String(), nanos(c.At), c.Previous.String(), c.Class, c.Action, c.Reason)
	return err
}

// ServedAs returns when dgst was last begun to be served for the tag, false if
// it never was.
func (db *DB) ServedAs(ctx context.Context, name, tag string, dgst godigest.Digest) (time.Time, bool, error) {
	var at int64
	err := db.read.QueryRowContext(ctx, `SELECT at FROM tag_history WHERE name = ? AND tag = ? AND digest = ? AND action IN ('', 'alert')
		ORDER BY seq DESC LIMIT 1`, name, tag, dgst.String()).Scan(&at)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return time.Time{}, false, nil
	case err != nil:
		return time.Time{}, false, fmt.Errorf("history of %s:%s: %w", name, tag, err)
	}
	return fromNanos(at), true, nil
}

// TagHistory returns the history of a tag, or of every tag of the name for "",
// the newest 1000 entries first.
func (db *DB) TagHistory(ctx context.Context, name, tag string) ([]TagChange, error) {
	history, err := db.tagHistory(ctx, "name = ? AND (tag = ? OR ? = '')", name, tag, tag)
	if err != nil {
		return nil, fmt.Errorf("history of %s:%s: %w", name, tag, err)
	}
	return history, nil
}

// TagHistoryOf returns the history of each tag that the upstream ever let name
// dgst, the newest 1000 entries first.
func (db *DB) TagHistoryOf(ctx context.Context, dgst godigest.Digest) ([]TagChange, error) {
	history, err := db.tagHistory(ctx, "(name, tag) IN (SELECT name, tag FROM tag_history WHERE digest = ?)", dgst.String())
	if err != nil {
		return nil, fmt.Errorf("history of the tags of %s: %w", dgst, err)
	}
	return history, nil
}

func (db *DB) tagHistory(ctx context.Context, where string, args ...any) ([]TagChange, error) {
	history := []TagChange{}
	err := query(ctx, db.read, func(rows *sql.Rows) error {
		var (
			c  TagChange
			at int64
		)
		if err := rows.Scan(&c.Name, &c.Tag, &c.Digest, &at, &c.Previous, &c.Class, &c.Action, &c.Reason); err != nil {
			return err
		}
		if c.At = fromNanos(at); c.Action == "" {
			c.Action = served
		}
		history = append(history, c)
		return nil
	}, "SELECT name, tag, digest, at, previous, class, action, reason FROM tag_history WHERE "+where+" ORDER BY seq DESC LIMIT ?",
		append(args, maxHistory)...)
	return history, err
}

// ErrOldLock says that a lock is older than one that was in force.
var ErrOldLock = errors.New("older than the lock that was in force")

// AcceptLocks remembers the locks as those in force. One with a lower serial
// than the last of its name, or with the same serial and another content, is
// ErrOldLock, and then none is remembered.
func (db *DB) AcceptLocks(ctx context.Context, ids []signing.LockID) error {
	err := db.update(ctx, db.quick, func(tx *sql.Tx) error {
		for _, id := range ids {
			var (
				serial int64
				digest string
			)
			err := tx.QueryRowContext(ctx, "SELECT serial, digest FROM locks WHERE name = ?", id.Name).Scan(&serial, &digest)
			switch {
			case errors.Is(err, sql.ErrNoRows):
			case err != nil:
				return err
			case int64(id.Serial) < serial: //nolint:gosec // a lock's serial has 63 bits
				return fmt.Errorf("lock %s has serial %d, and %d was in force: %w", id.Name, id.Serial, serial, ErrOldLock)
			case int64(id.Serial) == serial && id.Digest.String() != digest: //nolint:gosec // as above
				return fmt.Errorf("lock %s has serial %d like the one in force, and another content; a change needs a new serial: %w", id.Name, id.Serial, ErrOldLock)
			case int64(id.Serial) == serial: //nolint:gosec // as above
				continue
			}
			if _, err := tx.ExecContext(ctx, `INSERT INTO locks (name, serial, digest, at) VALUES (?, ?, ?, ?)
				ON CONFLICT (name) DO UPDATE SET serial = excluded.serial, digest = excluded.digest, at = excluded.at`,
				id.Name, int64(id.Serial), id.Digest.String(), nanos(db.now())); err != nil { //nolint:gosec // as above
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("accept locks: %w", err)
	}
	return nil
}
