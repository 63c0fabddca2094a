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

// PutTrust keeps a result that passed for an image and the policy of that name.
// basis names what the result rests on besides the image's signatures.
func (db *DB) PutTrust(ctx context.Context, name string, dgst godigest.Digest, policy, basis string, r signing.Result, at time.Time) error {
	body, err := db.pack(r)
	if err == nil {
		err = db.update(ctx, db.quick, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `INSERT INTO trusted (name, digest, policy, basis, at, body) VALUES (?, ?, ?, ?, ?, ?)
				ON CONFLICT (name, digest, policy) DO UPDATE SET basis = excluded.basis, at = excluded.at, body = excluded.body`,
				name, dgst.String(), policy, basis, nanos(at), body)
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("put trust in %s@%s: %w", name, dgst, err)
	}
	return nil
}

// Trust returns the last result of PutTrust, and its time, if it rests on basis.
// A row that does not decode is a miss.
func (db *DB) Trust(ctx context.Context, name string, dgst godigest.Digest, policy, basis string) (r signing.Result, at time.Time, ok bool, err error) {
	var body []byte
	var since int64
	err = db.read.QueryRowContext(ctx, "SELECT body, at FROM trusted WHERE name = ? AND digest = ? AND policy = ? AND basis = ?",
		name, dgst.String(), policy, basis).Scan(&body, &since)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return signing.Result{}, time.Time{}, false, nil
	case err != nil:
		return signing.Result{}, time.Time{}, false, fmt.Errorf("trust in %s@%s: %w", name, dgst, err)
	}
	if db.unpack(body, &r) != nil || r.Subject != dgst || r.Outcome != signing.Pass {
		return signing.Result{}, time.Time{}, false, nil
	}
	return r, fromNanos(since), true, nil
}
