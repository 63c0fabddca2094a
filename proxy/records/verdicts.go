package records

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	godigest "github.com/opencontainers/go-digest"

	"github.com/sluiceproxy/sluice/proxy/policy"
)

// PutVerdict makes v the verdict on its image and digest. If it is another than
// the one before (by its ID) the history gets an entry. The first one that
// serves sets the image's AllowedSince to v.At.
func (db *DB) PutVerdict(ctx context.Context, v policy.Verdict) error {
	body, err := db.pack(v)
	if err == nil {
		err = db.update(ctx, db.quick, func(tx *sql.Tx) error { return putVerdict(ctx, tx, &v, body) })
	}
	if err != nil {
		return fmt.Errorf("put verdict %s on %s@%s: %w", v.ID, v.Image, v.Digest, err)
	}
	return nil
}

func putVerdict(ctx context.Context, tx *sql.Tx, v *policy.Verdict, body []byte) error {
	if v.Decision.Serves() {
		if _, err := tx.ExecContext(ctx, `INSERT INTO images (name, digest, media_type, first_seen, allowed_since) VALUES (?, ?, '', ?, ?)
			ON CONFLICT (name, digest) DO UPDATE SET allowed_since = CASE WHEN images.allowed_since = 0 THEN excluded.allowed_since ELSE images.allowed_since END`,
			v.Image, v.Digest.String(), nanos(v.At), nanos(v.At)); err != nil {
			return err
		}
	}
	var old string
	err := tx.QueryRowContext(ctx, "SELECT id FROM verdicts WHERE image = ? AND digest = ?", v.Image, v.Digest.String()).Scan(&old)
	switch {
	case err != nil && !errors.Is(err, sql.ErrNoRows):
		return err
	case err == nil && old == v.ID: // the same again, later
		_, err := tx.ExecContext(ctx, "UPDATE verdicts SET at = ?, body = ? WHERE image = ? AND digest = ?", nanos(v.At), body, v.Image, v.Digest.String())
		return err
	}
	var seq int64
	if err := tx.QueryRowContext(ctx, "INSERT INTO verdict_history (image, digest, id, decision, at, body) VALUES (?, ?, ?, ?, ?, ?) RETURNING seq",
		v.Image, v.Digest.String(), v.ID, v.Decision, nanos(v.At), body).Scan(&seq); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO verdicts (image, digest, seq, id, decision, at, body) VALUES (?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (image, digest) DO UPDATE SET seq = excluded.seq, id = excluded.id, decision = excluded.decision, at = excluded.at, body = excluded.body`,
		v.Image, v.Digest.String(), seq, v.ID, v.Decision, nanos(v.At), body); err != nil {
		return err
	}
	return putVerdictAdvisories(ctx, tx, v)
}

// putVerdictAdvisories makes the verdict findable by what its reasons name.
func putVerdictAdvisories(ctx context.Context, tx *sql.Tx, v *policy.Verdict) error {
	if _, err := tx.ExecContext(ctx, "DELETE FROM verdict_advisories WHERE image = ? AND digest = ?", v.Image, v.Digest.String()); err != nil {
		return err
	}
	insert, err := tx.PrepareContext(ctx, `INSERT INTO verdict_advisories (image, digest, advisory) VALUES (?, ?, ?)
		ON CONFLICT (advisory, image, digest) DO NOTHING`)
	if err != nil {
		return err
	}
	defer insert.Close()
	for i := range v.Reasons {
		for _, id := range append([]string{v.Reasons[i].Advisory}, v.Reasons[i].Aliases...) {
			if id == "" {
				continue
			}
			if _, err := insert.ExecContext(ctx, v.Image, v.Digest.String(), strings.ToUpper(id)); err != nil {
				return err
			}
		}
	}
	return nil
}

// Verdict returns the last verdict on dgst under the image's name.
func (db *DB) Verdict(ctx context.Context, image string, dgst godigest.Digest) (policy.Verdict, bool, error) {
	v, err := db.readVerdicts(ctx, "SELECT body FROM verdicts WHERE image = ? AND digest = ?", image, dgst.String())
	if err != nil {
		return policy.Verdict{}, false, fmt.Errorf("verdict on %s@%s: %w", image, dgst, err)
	}
	if len(v) == 0 {
		return policy.Verdict{}, false, nil
	}
	return v[0], true, nil
}

// VerdictsOf returns the last verdict on dgst under each of its names, sorted
// by name.
func (db *DB) VerdictsOf(ctx context.Context, dgst godigest.Digest) ([]policy.Verdict, error) {
	v, err := db.readVerdicts(ctx, "SELECT body FROM verdicts WHERE digest = ? ORDER BY image", dgst.String())
	if err != nil {
		return nil, fmt.Errorf("verdicts of %s: %w", dgst, err)
	}
	return v, nil
}

// readVerdicts decodes the bodies that text selects. One that does not decode
// is an error: a verdict cannot be made up.
func (db *DB) readVerdicts(ctx context.Context, text string, args ...any) ([]policy.Verdict, error) {
	var verdicts []policy.Verdict
	err := query(ctx, db.read, func(rows *sql.Rows) error {
		var (
			body []byte
			v    policy.Verdict
		)
		if err := rows.Scan(&body); err != nil {
			return err
		}
		if err := db.unpack(body, &v); err != nil {
			return err
		}
		verdicts = append(verdicts, v)
		return nil
	}, text, args...)
	return verdicts, err
}

// VerdictFilter selects current verdicts. A zero field selects all.
type VerdictFilter struct {
	Decision  policy.Decision
	Image     string    // glob over name, name:tag or name@digest
	Advisory  string    // id or alias that a reason names, in any case
	Since     time.Time // judged at or after
	Limit     int       // at most 500; 0 = 100
	PageToken string    // what the page before returned
}

// Verdicts returns a page of the current verdicts, those that changed last
// first, and the token of the next page, "" after the last. Paging goes by the
// order in which verdicts changed, so no verdict comes twice; one that changes
// meanwhile is on the first page of the next listing. A bad filter is
// ErrInvalid.
func (db *DB) Verdicts(ctx context.Context, f VerdictFilter) (items []policy.Verdict, next string, err error) {
	if items, next, err = db.verdicts(ctx, f); err != nil {
		return nil, "", fmt.Errorf("verdicts: %w", err)
	}
	return items, next, nil
}

// errEnough ends a query when the page is full.
var errEnough = errors.New("enough")

func (db *DB) verdicts(ctx context.Context, f VerdictFilter) ([]policy.Verdict, string, error) {
	after, err := parsePageToken("verdicts", f.PageToken)
	if err != nil {
		return nil, "", err
	}
	text, args, glob, err := f.query(after)
	if err != nil {
		return nil, "", err
	}
	var (
		items []policy.Verdict
		last  int64
		next  string
	)
	err = query(ctx, db.read, func(rows *sql.Rows) error {
		var (
			seq  int64
			body []byte
			v    policy.Verdict
		)
		if err := rows.Scan(&seq, &body); err != nil {
			return err
		}
		if err := db.unpack(body, &v); err != nil {
			return err
		}
		if f.Image != "" && !glob.Match(v.Image, v.Tags, v.Digest) {
			return nil
		}
		if len(items) == pageLimit(f.Limit) { // there is one more
			next = pageToken("verdicts", last)
			return errEnough
		}
		items, last = append(items, v), seq
		return nil
	}, text, args...)
	if err != nil && !errors.Is(err, errEnough) {
		return nil, "", err
	}
	return items, next, nil
}

// query is the SQL for f, which leaves the pattern of the images to the caller.
func (f *VerdictFilter) query(after int64) (text string, args []any, glob policy.Glob, err error) {
	where := []string{"v.seq < ?"}
	args = append(args, after)
	if after == 0 {
		args[0] = int64(math.MaxInt64)
	}
	add := func(condition string, values ...any) {
		where, args = append(where, condition), append(args, values...)
	}
	if f.Decision != policy.Undecided {
		add("v.decision = ?", f.Decision)
	}
	if !f.Since.IsZero() {
		add("v.at >= ?", nanos(f.Since))
	}
	if f.Advisory != "" {
		add("EXISTS (SELECT 1 FROM verdict_advisories a WHERE a.advisory = ? AND a.image = v.image AND a.digest = v.digest)", strings.ToUpper(f.Advisory))
	}
	if f.Image != "" {
		if glob, err = policy.ParseGlob(f.Image); err != nil {
			return "", nil, glob, fmt.Errorf("%w image %q: %w", ErrInvalid, f.Image, err)
		}
		if prefix := glob.Prefix(); prefix != "" {
			add("SUBSTR(v.image, 1, ?) = ?", len(prefix), prefix)
		}
	}
	return "SELECT v.seq, v.body FROM verdicts v WHERE " + strings.Join(where, " AND ") + " ORDER BY v.seq DESC", args, glob, nil
}
