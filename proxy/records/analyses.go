package records

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	godigest "github.com/opencontainers/go-digest"
	"go.uber.org/zap"

	"github.com/sluiceproxy/sluice/analyzer"
)

// pack is how a body is stored: JSON, compressed.
func (db *DB) pack(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return db.encoder.EncodeAll(b, nil), nil
}

func (db *DB) unpack(body []byte, v any) error {
	b, err := db.decoder.DecodeAll(body, nil)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

// Layer returns what the scanner of that revision found in a layer, by the
// digest of its stored bytes. A row that does not decode is a miss.
func (db *DB) Layer(ctx context.Context, blob godigest.Digest, revision string) (*analyzer.Layer, bool, error) {
	l := new(analyzer.Layer)
	ok, err := db.body(ctx, l, "layer", blob, revision, "SELECT body FROM layers WHERE blob = ? AND revision = ?")
	if err != nil || !ok || l.Digest != blob {
		return nil, false, err
	}
	return l, true, nil
}

// PutLayer keeps l for its Digest, which the caller has verified.
func (db *DB) PutLayer(ctx context.Context, revision string, l *analyzer.Layer) error {
	body, err := db.pack(l)
	if err == nil {
		err = db.update(ctx, db.quick, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `INSERT INTO layers (blob, revision, body) VALUES (?, ?, ?)
				ON CONFLICT (blob, revision) DO UPDATE SET body = excluded.body`, l.Digest.String(), revision, body)
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("put layer %s: %w", l.Digest, err)
	}
	return nil
}

// Inventory returns what the analyzer of that revision found in an image, by
// the digest of its manifest. A row that does not decode is a miss.
func (db *DB) Inventory(ctx context.Context, manifest godigest.Digest, revision string) (*analyzer.Inventory, bool, error) {
	inv := new(analyzer.Inventory)
	ok, err := db.body(ctx, inv, "inventory", manifest, revision, "SELECT body FROM inventories WHERE manifest = ? AND revision = ?")
	if err != nil || !ok || inv.Manifest != manifest || inv.Revision != revision {
		return nil, false, err
	}
	return inv, true, nil
}

// PutInventory keeps inv for its Manifest and Revision, and makes the image
// findable by its packages.
func (db *DB) PutInventory(ctx context.Context, inv *analyzer.Inventory) error {
	body, err := db.pack(inv)
	if err == nil {
		err = db.update(ctx, db.quick, func(tx *sql.Tx) error {
			if _, err := tx.ExecContext(ctx, `INSERT INTO inventories (manifest, revision, body) VALUES (?, ?, ?)
				ON CONFLICT (manifest, revision) DO UPDATE SET body = excluded.body`, inv.Manifest.String(), inv.Revision, body); err != nil {
				return err
			}
			return indexPackages(ctx, tx, inv)
		})
	}
	if err != nil {
		return fmt.Errorf("put inventory %s: %w", inv.Manifest, err)
	}
	return nil
}

// body reads the one body that text selects into v; false if there is none
// that can be read.
func (db *DB) body(ctx context.Context, v any, what string, dgst godigest.Digest, revision, text string) (bool, error) {
	var body []byte
	err := db.read.QueryRowContext(ctx, text, dgst.String(), revision).Scan(&body)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("%s %s: %w", what, dgst, err)
	}
	if err := db.unpack(body, v); err != nil {
		db.log.Warn("stored analysis does not decode: it will be made again",
			zap.String("kind", what), zap.Stringer("digest", dgst), zap.String("revision", revision), zap.Error(err))
		return false, nil
	}
	return true, nil
}
