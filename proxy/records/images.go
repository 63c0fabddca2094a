package records

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	godigest "github.com/opencontainers/go-digest"

	"github.com/sluiceproxy/sluice/proxy/policy"
)

// Image is a digest under the name that it was asked for by.
type Image struct {
	Name         string          `json:"name"` // canonical repository: docker.io/library/nginx
	Digest       godigest.Digest `json:"digest"`
	MediaType    string          `json:"mediaType"`
	Tags         []string        `json:"tags,omitempty"` // that name the digest now, sorted
	FirstSeen    time.Time       `json:"firstSeen,omitzero"`
	AllowedSince time.Time       `json:"allowedSince,omitzero"` // of the first verdict that served it; zero = none did
	LastPull     time.Time       `json:"lastPull,omitzero"`
	LastClient   string          `json:"lastClient,omitempty"`
	Pulls        int64           `json:"pulls"`
}

const imageColumns = "name, digest, media_type, first_seen, allowed_since, last_pull, last_client, pulls"

// SeenImage notes that name was asked for and is dgst, and that tag, unless it
// is empty, names it now: if the tag named another digest it moves, and its
// history gets an entry. An image that is known as such costs no write.
func (db *DB) SeenImage(ctx context.Context, name, tag string, dgst godigest.Digest, mediaType string, at time.Time) (Image, error) {
	img, err := db.seenImage(ctx, name, tag, dgst, mediaType, at)
	if err != nil {
		return Image{}, fmt.Errorf("seen image %s@%s: %w", name, dgst, err)
	}
	return img, nil
}

func (db *DB) seenImage(ctx context.Context, name, tag string, dgst godigest.Digest, mediaType string, at time.Time) (Image, error) {
	known := func(img Image, ok bool) bool {
		return ok && (mediaType == "" || img.MediaType == mediaType) && (tag == "" || slices.Contains(img.Tags, tag))
	}
	img, ok, err := image(ctx, db.read, name, dgst)
	if err != nil || known(img, ok) {
		return img, err
	}
	err = db.update(ctx, db.quick, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `INSERT INTO images (name, digest, media_type, first_seen) VALUES (?, ?, ?, ?)
			ON CONFLICT (name, digest) DO UPDATE SET media_type = CASE WHEN excluded.media_type = '' THEN images.media_type ELSE excluded.media_type END`,
			name, dgst.String(), mediaType, nanos(at)); err != nil {
			return err
		}
		if tag != "" {
			if err := moveTag(ctx, tx, name, tag, dgst, at); err != nil {
				return err
			}
		}
		img, _, err = image(ctx, tx, name, dgst)
		return err
	})
	return img, err
}

// moveTag lets tag name dgst, unless it does already.
func moveTag(ctx context.Context, tx *sql.Tx, name, tag string, dgst godigest.Digest, at time.Time) error {
	var old string
	err := tx.QueryRowContext(ctx, "SELECT digest FROM tags WHERE name = ? AND tag = ?", name, tag).Scan(&old)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	if old == dgst.String() {
		return nil
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO tags (name, tag, digest, since, confirmed) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (name, tag) DO UPDATE SET digest = excluded.digest, since = excluded.since, confirmed = excluded.confirmed`,
		name, tag, dgst.String(), nanos(at), nanos(at)); err != nil {
		return err
	}
	class, reason, err := takeMove(ctx, tx, name, tag, dgst)
	if err != nil {
		return err
	}
	return appendTag(ctx, tx, &TagChange{
		Name: name, Tag: tag, Digest: dgst, Previous: godigest.Digest(old), Class: class, Action: served, Reason: reason, At: at,
	})
}

// Image returns what is known of dgst under name.
func (db *DB) Image(ctx context.Context, name string, dgst godigest.Digest) (Image, bool, error) {
	img, ok, err := image(ctx, db.read, name, dgst)
	if err != nil {
		return Image{}, false, fmt.Errorf("image %s@%s: %w", name, dgst, err)
	}
	return img, ok, nil
}

func image(ctx context.Context, q querier, name string, dgst godigest.Digest) (Image, bool, error) {
	images, err := images(ctx, q, "SELECT "+imageColumns+" FROM images WHERE name = ? AND digest = ?", name, dgst.String())
	if err != nil || len(images) == 0 {
		return Image{}, false, err
	}
	return images[0], true, nil
}

// ImagesOf returns dgst under each of its names, sorted by name.
func (db *DB) ImagesOf(ctx context.Context, dgst godigest.Digest) ([]Image, error) {
	images, err := images(ctx, db.read, "SELECT "+imageColumns+" FROM images WHERE digest = ? ORDER BY name", dgst.String())
	if err != nil {
		return nil, fmt.Errorf("images of %s: %w", dgst, err)
	}
	return images, nil
}

func images(ctx context.Context, q querier, text string, args ...any) ([]Image, error) {
	var images []Image
	err := query(ctx, q, func(rows *sql.Rows) error {
		var (
			img                      Image
			first, allowed, lastPull int64
		)
		if err := rows.Scan(&img.Name, &img.Digest, &img.MediaType, &first, &allowed, &lastPull, &img.LastClient, &img.Pulls); err != nil {
			return err
		}
		img.FirstSeen, img.AllowedSince, img.LastPull = fromNanos(first), fromNanos(allowed), fromNanos(lastPull)
		images = append(images, img)
		return nil
	}, text, args...)
	if err != nil {
		return nil, err
	}
	for i := range images {
		img := &images[i]
		err := query(ctx, q, func(rows *sql.Rows) error {
			var tag string
			if err := rows.Scan(&tag); err != nil {
				return err
			}
			img.Tags = append(img.Tags, tag)
			return nil
		}, "SELECT tag FROM tags WHERE name = ? AND digest = ? ORDER BY tag", img.Name, img.Digest.String())
		if err != nil {
			return nil, err
		}
	}
	return images, nil
}

// Pulled adds count pulls by client, the last of them at that time. Of each image
// the 200 clients that pulled last are kept. An image that is not known is
// ErrNotFound.
func (db *DB) Pulled(ctx context.Context, name string, dgst godigest.Digest, client string, at time.Time, count int64) error {
	err := db.update(ctx, db.quick, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, `UPDATE images SET pulls = pulls + ?,
			last_client = CASE WHEN last_pull <= ? THEN ? ELSE last_client END,
			last_pull = CASE WHEN last_pull <= ? THEN ? ELSE last_pull END
			WHERE name = ? AND digest = ?`, count, nanos(at), client, nanos(at), nanos(at), name, dgst.String())
		if err == nil {
			err = affected(res)
		}
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO pulls (name, digest, client, last_pull, pulls) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (name, digest, client) DO UPDATE SET pulls = pulls.pulls + excluded.pulls,
			last_pull = CASE WHEN pulls.last_pull <= excluded.last_pull THEN excluded.last_pull ELSE pulls.last_pull END`,
			name, dgst.String(), client, nanos(at), count)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM pulls WHERE name = ? AND digest = ? AND last_pull <
			(SELECT last_pull FROM pulls WHERE name = ? AND digest = ? ORDER BY last_pull DESC LIMIT 1 OFFSET ?)`,
			name, dgst.String(), name, dgst.String(), keepClients-1)
		return err
	})
	if err != nil {
		return fmt.Errorf("pulled %s@%s: %w", name, dgst, err)
	}
	return nil
}

// affected is ErrNotFound if a change met no row.
func affected(res sql.Result) error {
	n, err := res.RowsAffected()
	if err != nil {
		return err
	}
	if n == 0 {
		return ErrNotFound
	}
	return nil
}

// ConfirmTag notes that the upstream said at that time that tag names dgst. A
// tag that is not known, or names another digest, stays as it is.
func (db *DB) ConfirmTag(ctx context.Context, name, tag string, dgst godigest.Digest, at time.Time) error {
	err := db.update(ctx, db.quick, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "UPDATE tags SET confirmed = ? WHERE name = ? AND tag = ? AND digest = ? AND confirmed < ?",
			nanos(at), name, tag, dgst.String(), nanos(at))
		return err
	})
	if err != nil {
		return fmt.Errorf("confirm tag %s:%s: %w", name, tag, err)
	}
	return nil
}

// Tag returns which digest the tag was last seen to name, and when that was
// confirmed, as ConfirmTag was told.
func (db *DB) Tag(ctx context.Context, name, tag string) (dgst godigest.Digest, confirmed time.Time, ok bool, err error) {
	var since, at int64
	err = db.read.QueryRowContext(ctx, "SELECT digest, since, confirmed FROM tags WHERE name = ? AND tag = ?", name, tag).Scan(&dgst, &since, &at)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return "", time.Time{}, false, nil
	case err != nil:
		return "", time.Time{}, false, fmt.Errorf("tag %s:%s: %w", name, tag, err)
	}
	return dgst, fromNanos(max(since, at)), true, nil
}

// PutMembers notes which blobs and manifests the manifest consists of, in the
// repository name. A manifest's members never change.
func (db *DB) PutMembers(ctx context.Context, name string, manifest godigest.Digest, members []godigest.Digest) error {
	err := db.update(ctx, db.quick, func(tx *sql.Tx) error {
		for _, m := range members {
			if _, err := tx.ExecContext(ctx, `INSERT INTO members (name, manifest, member) VALUES (?, ?, ?)
				ON CONFLICT (name, member, manifest) DO NOTHING`, name, manifest.String(), m.String()); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("put members of %s@%s: %w", name, manifest, err)
	}
	return nil
}

// Members returns what the manifest of the repository consists of, sorted.
func (db *DB) Members(ctx context.Context, name string, manifest godigest.Digest) ([]godigest.Digest, error) {
	list, err := db.texts(ctx, "SELECT member FROM members WHERE name = ? AND manifest = ? ORDER BY member", name, manifest.String())
	if err != nil {
		return nil, fmt.Errorf("members of %s@%s: %w", name, manifest, err)
	}
	members := make([]godigest.Digest, len(list))
	for i, d := range list {
		members[i] = godigest.Digest(d)
	}
	return members, nil
}

// ManifestsWith returns the manifests of the repository that have the member,
// sorted.
func (db *DB) ManifestsWith(ctx context.Context, name string, member godigest.Digest) ([]godigest.Digest, error) {
	var manifests []godigest.Digest
	err := query(ctx, db.read, func(rows *sql.Rows) error {
		var m godigest.Digest
		if err := rows.Scan(&m); err != nil {
			return err
		}
		manifests = append(manifests, m)
		return nil
	}, "SELECT manifest FROM members WHERE name = ? AND member = ? ORDER BY manifest", name, member.String())
	if err != nil {
		return nil, fmt.Errorf("manifests with %s in %s: %w", member, name, err)
	}
	return manifests, nil
}

// KnownFindings returns since when each of keys is known for the image. One
// that was not known is from now on.
func (db *DB) KnownFindings(ctx context.Context, name string, dgst godigest.Digest, keys []policy.FindingKey, now time.Time) (map[policy.FindingKey]time.Time, error) {
	known, err := db.knownFindings(ctx, name, dgst, keys, now)
	if err != nil {
		return nil, fmt.Errorf("known findings of %s@%s: %w", name, dgst, err)
	}
	return known, nil
}

func (db *DB) knownFindings(ctx context.Context, name string, dgst godigest.Digest, keys []policy.FindingKey, now time.Time) (map[policy.FindingKey]time.Time, error) {
	all := map[policy.FindingKey]time.Time{}
	gather := func(q querier) error {
		return query(ctx, q, func(rows *sql.Rows) error {
			var (
				k     policy.FindingKey
				since int64
			)
			if err := rows.Scan(&k.Advisory, &k.Package, &since); err != nil {
				return err
			}
			all[k] = fromNanos(since)
			return nil
		}, "SELECT advisory, package, since FROM known_findings WHERE name = ? AND digest = ?", name, dgst.String())
	}
	if err := gather(db.read); err != nil {
		return nil, err
	}
	known := make(map[policy.FindingKey]time.Time, len(keys))
	fresh := map[policy.FindingKey]bool{}
	for _, k := range keys {
		if since, ok := all[k]; ok {
			known[k] = since
		} else {
			fresh[k] = true
		}
	}
	if len(fresh) == 0 {
		return known, nil
	}
	err := db.update(ctx, db.quick, func(tx *sql.Tx) error {
		insert, err := tx.PrepareContext(ctx, `INSERT INTO known_findings (name, digest, advisory, package, since) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (name, digest, advisory, package) DO NOTHING`)
		if err != nil {
			return err
		}
		defer insert.Close()
		for k := range fresh {
			if _, err := insert.ExecContext(ctx, name, dgst.String(), k.Advisory, k.Package, nanos(now)); err != nil {
				return err
			}
		}
		return gather(tx) // another may have been first
	})
	for k := range fresh {
		known[k] = all[k]
	}
	return known, err
}
