package records

import (
	"context"
	"database/sql"
	"time"

	"go.uber.org/zap"
)

// watchEvery is how often another process's commits are looked for.
const watchEvery = 300 * time.Millisecond

// watch follows the commits of other connections until Close, so that a block
// or a waiver that another process adds holds here as well.
func (db *DB) watch(ctx context.Context) error {
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx)) // it outlives Open
	conn, err := db.read.Conn(ctx)                              // data_version compares within one connection
	if err != nil {
		stop()
		return err
	}
	db.stop = stop
	db.watcher.Go(func() {
		defer conn.Close()
		tick := time.NewTicker(watchEvery)
		defer tick.Stop()
		seen, failing := int64(-1), false
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			version, err := db.look(ctx, conn, seen)
			switch {
			case ctx.Err() != nil:
				return
			case err != nil && !failing: // once, not at each tick
				db.log.Error("blocklist and waivers not watched for changes by other processes", zap.Error(err))
			case err == nil:
				seen = version
			}
			failing = err != nil
		}
	})
	return nil
}

// look raises the revision of the decisions if there was a commit since seen, and
// returns the connection's data_version (https://www.sqlite.org/pragma.html).
func (db *DB) look(ctx context.Context, conn *sql.Conn, seen int64) (int64, error) {
	var version int64
	if err := conn.QueryRowContext(ctx, "PRAGMA data_version").Scan(&version); err != nil || version == seen {
		return version, err
	}
	revision, err := readRevision(ctx, conn)
	if err != nil {
		return 0, err
	}
	db.raise(revision)
	return version, nil
}
