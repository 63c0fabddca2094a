package records

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	godigest "github.com/opencontainers/go-digest"

	"github.com/sluiceproxy/sluice/analyzer"
)

// PutBase remembers an image that was admitted under name, so that images on
// top of it can be told. One without layers, or whose layers are not those that
// its config promises, is none.
func (db *DB) PutBase(ctx context.Context, inv *analyzer.Inventory, name string) error {
	chain := inv.ChainIDs()
	if len(chain) == 0 || inv.ArtifactType != "" {
		return nil
	}
	err := db.update(ctx, db.quick, func(tx *sql.Tx) error {
		repository := name
		if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
			repository = name[:i]
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO bases (digest, repository, chain_id, name, layers, created, since) VALUES (?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (digest, repository) DO NOTHING`,
			inv.Manifest.String(), repository, chain[len(chain)-1].String(), name, len(chain), nanos(inv.Created), nanos(db.now()))
		return err
	})
	if err != nil {
		return fmt.Errorf("put base %s: %w", inv.Manifest, err)
	}
	return nil
}

// maxBelow is how many images below one are told.
const maxBelow = 32

// Base returns inv.Base with what the records prove: the known image with the
// most layers whose layers are all lower ones of inv's (the first that was
// admitted, where several have the same), the others below it, and whether inv's
// claim is false. Another image with all of inv's layers is among the others.
func (db *DB) Base(ctx context.Context, inv *analyzer.Inventory) (analyzer.Base, error) {
	base, chain := inv.Base, inv.ChainIDs()
	if len(chain) == 0 {
		return base, nil
	}
	args := make([]any, len(chain), len(chain)+2)
	for i, id := range chain {
		args[i] = id.String()
	}
	args = append(args, inv.Manifest.String(), maxBelow)
	err := query(ctx, db.read, func(rows *sql.Rows) error {
		var (
			p       analyzer.ProvenBase
			created int64
		)
		if err := rows.Scan(&p.Name, &p.Digest, &p.ChainID, &p.Layers, &created); err != nil {
			return err
		}
		p.Created = fromNanos(created)
		if base.Proven == nil && p.Layers < len(chain) {
			base.Proven = &p
		} else {
			base.Below = append(base.Below, p)
		}
		return nil
	}, "SELECT name, digest, chain_id, layers, created FROM bases WHERE chain_id IN ("+placeholders(len(chain))+`) AND digest <> ?
		ORDER BY layers DESC, since, digest, name LIMIT ?`, args...)
	if err != nil {
		return base, fmt.Errorf("base of %s: %w", inv.Manifest, err)
	}
	if base.Digest == "" {
		return base, nil
	}
	var claimed godigest.Digest
	var layers int
	err = db.read.QueryRowContext(ctx, "SELECT chain_id, layers FROM bases WHERE digest = ? LIMIT 1", base.Digest.String()).Scan(&claimed, &layers)
	switch {
	case errors.Is(err, sql.ErrNoRows): // not known here: the claim stays one
	case err != nil:
		return base, fmt.Errorf("base of %s: %w", inv.Manifest, err)
	default:
		base.ClaimFalse = layers > len(chain) || chain[layers-1] != claimed
	}
	return base, nil
}
