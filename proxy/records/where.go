package records

import (
	"context"
	"database/sql"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluiceproxy/sluice/proxy/policy"
)

// ImageFilter selects images. A zero field selects all.
type ImageFilter struct {
	Advisory  string // id or alias, in any case, that applies to it by the advisories of its last judgement
	Package   string // purl, with or without version and qualifiers
	Image     string // glob over name, name:tag or name@digest
	Decision  policy.Decision
	Limit     int    // at most 500; 0 = 100
	PageToken string // what the page before returned
}

// Place is an image with what it is asked for.
type Place struct {
	Image
	// Packages are the purls that the filter's Advisory and Package name in it,
	// sorted, at most 100.
	Packages []string
	Verdict  string // id of the last one; "" = there was none
	Decision policy.Decision
	Clients  []Client // who pulled it, the last first, at most 20
}

// Client is who pulled an image.
type Client struct {
	Client   string    `json:"client"`
	LastPull time.Time `json:"lastPull"`
	Pulls    int64     `json:"pulls"`
}

const (
	maxPlacePackages = 100
	maxPlaceClients  = 20
	keepClients      = 10 * maxPlaceClients // so that those shown have their true counts
)

// Images returns a page of images, sorted by name and digest, and the token of
// the next page, "" after the last. The tags of an image are its own and those
// of the indexes that hold it. A bad filter is ErrInvalid.
func (db *DB) Images(ctx context.Context, f ImageFilter) (items []Place, next string, err error) {
	if items, next, err = db.places(ctx, f); err != nil {
		return nil, "", fmt.Errorf("images: %w", err)
	}
	return items, next, nil
}

func (db *DB) places(ctx context.Context, f ImageFilter) (items []Place, next string, err error) {
	var (
		glob policy.Glob
		purl policy.PURL
	)
	if f.Image != "" {
		if glob, err = policy.ParseGlob(f.Image); err != nil {
			return nil, "", fmt.Errorf("%w image %q: %w", ErrInvalid, f.Image, err)
		}
	}
	if f.Package != "" {
		if purl, err = policy.ParsePURL(f.Package); err != nil {
			return nil, "", fmt.Errorf("%w package %q: %w", ErrInvalid, f.Package, err)
		}
	}
	name, digest, err := parsePlaceToken(f.PageToken)
	if err != nil {
		return nil, "", err
	}
	limit := pageLimit(f.Limit)
	for { // rows that the SQL cannot tell from others fall out, so one batch may not fill the page
		batch, err := db.candidates(ctx, &f, name, digest, glob, purl, limit+1)
		if err != nil {
			return nil, "", err
		}
		for i := range batch {
			p := &batch[i]
			if err := db.furnish(ctx, p, &f, purl); err != nil {
				return nil, "", err
			}
			if f.Image != "" && !glob.Match(p.Name, p.Tags, p.Digest) || (f.Advisory != "" || f.Package != "") && len(p.Packages) == 0 {
				continue
			}
			if len(items) == limit { // there is one more
				return items, placeToken(&items[limit-1]), nil
			}
			items = append(items, *p)
		}
		if len(batch) <= limit {
			return items, "", nil
		}
		last := &batch[limit]
		name, digest = last.Name, last.Digest.String()
	}
}

// candidates returns the next n images after name@digest that the SQL for f
// selects. They are read to their end before more is asked of each, so that a
// listing never holds two connections.
func (db *DB) candidates(ctx context.Context, f *ImageFilter, name, digest string, glob policy.Glob, purl policy.PURL, n int) ([]Place, error) {
	text, args := f.query(name, digest, glob, purl)
	var batch []Place
	err := query(ctx, db.read, func(rows *sql.Rows) error {
		var (
			p                        Place
			first, allowed, lastPull int64
		)
		if err := rows.Scan(&p.Name, &p.Digest, &p.MediaType, &first, &allowed, &lastPull, &p.LastClient, &p.Pulls, &p.Verdict, &p.Decision); err != nil {
			return err
		}
		p.FirstSeen, p.AllowedSince, p.LastPull = fromNanos(first), fromNanos(allowed), fromNanos(lastPull)
		batch = append(batch, p)
		return nil
	}, text+" LIMIT ?", append(args, n)...)
	return batch, err
}

// query is the SQL for f after the image name@digest, which leaves versions,
// qualifiers and tags to the caller.
func (f *ImageFilter) query(name, digest string, glob policy.Glob, purl policy.PURL) (text string, args []any) {
	where := []string{
		"(i.name > ? OR i.name = ? AND i.digest > ?)",
		"SUBSTR(i.name, 1, 8) <> '_attest/'", // what Sluice itself attached to images is none
	}
	args = []any{name, name, digest}
	add := func(condition string, values ...any) {
		where, args = append(where, condition), append(args, values...)
	}
	if f.Advisory != "" {
		add("i.digest IN (SELECT m.digest FROM image_findings f JOIN manifests m ON m.id = f.manifest WHERE f.advisory = ?)", strings.ToUpper(f.Advisory))
	}
	if f.Package != "" {
		add(`i.digest IN (SELECT m.digest FROM packages p JOIN image_packages x ON x.package = p.id JOIN manifests m ON m.id = x.manifest
			WHERE p.base = ?)`, purl.Base())
	}
	if f.Decision != policy.Undecided {
		add("v.decision = ?", f.Decision)
	}
	if prefix := glob.Prefix(); prefix != "" {
		add("SUBSTR(i.name, 1, ?) = ?", len(prefix), prefix)
	}
	return `SELECT i.name, i.digest, i.media_type, i.first_seen, i.allowed_since, i.last_pull, i.last_client, i.pulls,
		COALESCE(v.id, ''), COALESCE(v.decision, 0)
		FROM images i LEFT JOIN verdicts v ON v.image = i.name AND v.digest = i.digest
		WHERE ` + strings.Join(where, " AND ") + " ORDER BY i.name, i.digest", args
}

// furnish adds to p what stands in other tables.
func (db *DB) furnish(ctx context.Context, p *Place, f *ImageFilter, purl policy.PURL) error {
	texts := func(into *[]string, text string, args ...any) error {
		return query(ctx, db.read, func(rows *sql.Rows) error {
			var s string
			err := rows.Scan(&s)
			*into = append(*into, s)
			return err
		}, text, args...)
	}
	d := p.Digest.String()
	err := texts(&p.Tags, `SELECT tag FROM tags WHERE name = ? AND (digest = ? OR digest IN
		(SELECT manifest FROM members WHERE name = ? AND member = ?)) ORDER BY tag`, p.Name, d, p.Name, d)
	if err != nil {
		return err
	}
	switch {
	case f.Advisory != "":
		err = texts(&p.Packages, `SELECT DISTINCT p.purl FROM manifests m JOIN image_findings f ON f.manifest = m.id JOIN packages p ON p.id = f.package
			WHERE m.digest = ? AND f.advisory = ? ORDER BY p.purl`, d, strings.ToUpper(f.Advisory))
	case f.Package != "":
		err = texts(&p.Packages, `SELECT DISTINCT p.purl FROM manifests m JOIN image_packages x ON x.manifest = m.id JOIN packages p ON p.id = x.package
			WHERE m.digest = ? AND p.base = ? ORDER BY p.purl`, d, purl.Base())
	}
	if err != nil {
		return err
	}
	if f.Package != "" {
		p.Packages = slices.DeleteFunc(p.Packages, func(s string) bool { return !purl.Match(s) })
	}
	p.Packages = p.Packages[:min(len(p.Packages), maxPlacePackages)]
	return query(ctx, db.read, func(rows *sql.Rows) error {
		var (
			c    Client
			last int64
		)
		err := rows.Scan(&c.Client, &last, &c.Pulls)
		c.LastPull = fromNanos(last)
		p.Clients = append(p.Clients, c)
		return err
	}, "SELECT client, last_pull, pulls FROM pulls WHERE name = ? AND digest = ? ORDER BY last_pull DESC, client LIMIT ?", p.Name, d, maxPlaceClients)
}

// placeToken names the place after an image.
func placeToken(p *Place) string {
	return base64.RawURLEncoding.EncodeToString([]byte("images:" + p.Name + "@" + p.Digest.String()))
}

func parsePlaceToken(token string) (name, digest string, err error) {
	if token == "" {
		return "", "", nil
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if text, ok := strings.CutPrefix(string(b), "images:"); err == nil && ok {
		if name, digest, ok = strings.Cut(text, "@"); ok {
			return name, digest, nil
		}
	}
	return "", "", fmt.Errorf("%w page token", ErrInvalid)
}
