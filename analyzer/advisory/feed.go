package advisory

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// feedName is the folder of what was downloaded, below the index's.
const feedName = "feed"

// feed keeps downloads between updates: a file <hash of the address> and what
// is known of it in <hash>.json. A download grows in <hash>.part, is resumed
// from there, and takes the place of the file only after an index was made of
// it (commit). So what the index in force was made of stays, whatever comes.
type feed struct {
	dir     string
	client  *http.Client
	limits  Limits
	offline bool // takes what is kept and asks nobody
	now     time.Time
	used    map[string]*input // by path without .part

	manifest []byte // of the artifact that is taken; nil = none is, or the one that is kept
}

// kept is what is known of a file of the feed.
type kept struct {
	URL          string    `json:"url"` // without credentials
	ETag         string    `json:"etag,omitempty"`
	LastModified string    `json:"lastModified,omitempty"`
	Total        int64     `json:"total"`            // -1 = not told
	Size         int64     `json:"size,omitempty"`   // once it is whole
	SHA256       string    `json:"sha256,omitempty"` // once it is whole
	Checked      time.Time `json:"checked,omitzero"`
}

var errNotKept = errors.New("it was never downloaded: run 'sluice db update'")

// input is one file that an index is made of, open and whole.
type input struct {
	SourceStats
	f    *os.File
	part bool   // it is still called .part
	base string // of a file of the feed; "" for others
}

func (in *input) close() {
	if in.f != nil {
		in.f.Close()
	}
}

func (f *feed) path(u *url.URL) string {
	anonymous := *u
	anonymous.User = nil
	sum := sha256.Sum256([]byte(anonymous.String()))
	return filepath.Join(f.dir, hex.EncodeToString(sum[:12]))
}

// get returns what is behind u: the file that is kept, if the server says that
// it did not change, else a new one of at most limit bytes. If old is set and
// the server cannot be asked, it is the one that is kept.
func (f *feed) get(ctx context.Context, u *url.URL, limit int64, old bool, progress func(done, total int64)) (*input, error) {
	base := f.path(u)
	if f.offline {
		return f.open(base, u, false)
	}
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return nil, err
	}
	var err error
	for try := range 5 {
		if try > 0 {
			if err := f.pause(ctx, try, err); err != nil {
				return nil, err
			}
		}
		var part bool
		if part, err = f.ask(ctx, u, base, limit, progress); err == nil {
			in, err := f.open(base, u, part)
			if err == nil {
				in.Checked = f.now
			}
			return in, err
		}
		if ctx.Err() != nil || !again(err) {
			break
		}
	}
	if old && ctx.Err() == nil && again(err) {
		if in, e := f.open(base, u, false); e == nil {
			in.Kept = err.Error()
			return in, nil
		}
	}
	return nil, err
}

// again reports whether another try could help: not after an answer that says
// no, nor after one that is too large.
func again(err error) bool {
	var status *statusError
	if errors.As(err, &status) {
		return status.code >= 500 || status.code == http.StatusTooManyRequests || status.code == http.StatusRequestTimeout ||
			status.code == http.StatusRequestedRangeNotSatisfiable
	}
	return !errors.Is(err, errTooLarge) && !errors.Is(err, errRedirect)
}

// pause waits before another try: twice as long each time, by chance up to half
// less, and as long as the server asks, a minute at most.
func (f *feed) pause(ctx context.Context, try int, cause error) error {
	d := f.limits.Retry << (try - 1)
	d -= time.Duration(rand.Int64N(int64(d)/2 + 1))
	var status *statusError
	if errors.As(cause, &status) {
		d = max(d, min(status.after, time.Minute))
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// ask brings the file up to date. part tells that the new one is called .part.
func (f *feed) ask(ctx context.Context, u *url.URL, base string, limit int64, progress func(done, total int64)) (part bool, err error) {
	header := http.Header{"Accept-Encoding": {"identity"}}
	now, known := readKept(base)
	next, begun := readKept(base + ".part")
	have := int64(0)
	if begun {
		have = sizeOf(base + ".part")
	}
	whole := begun && next.SHA256 != "" && have == next.Size
	switch validator := next.validator(); {
	case whole:
		next.condition(header)
	case begun && have > 0 && validator != "" && (next.Total < 0 || have < next.Total):
		header.Set("Range", "bytes="+strconv.FormatInt(have, 10)+"-")
		header.Set("If-Range", validator)
	default:
		have = 0
		if known {
			now.condition(header)
		}
	}
	err = get(ctx, f.client, u, f.limits.Stall, header, func(resp *http.Response, body io.Reader) error {
		switch resp.StatusCode {
		case http.StatusNotModified:
			if !whole && !known {
				return errors.New("304 Not Modified to a request without conditions")
			}
			part = whole
			return nil
		case http.StatusPartialContent:
			if from, ok := rangeStart(resp.Header.Get("Content-Range")); !ok || from != have || header.Get("Range") == "" {
				return fmt.Errorf("the range from %d was answered with %q", have, resp.Header.Get("Content-Range"))
			}
		default:
			have = 0
		}
		part = true
		return f.receive(resp, body, base+".part", have, limit, redact(u.String()), progress)
	})
	var status *statusError
	if errors.As(err, &status) && status.code == http.StatusRequestedRangeNotSatisfiable {
		f.forget(base + ".part") // the file there is another one by now
	}
	return part, err
}

// receive writes an answer to path from the offset on.
func (f *feed) receive(resp *http.Response, body io.Reader, path string, offset, limit int64, from string, progress func(done, total int64)) error {
	total := int64(-1)
	if resp.ContentLength >= 0 {
		total = offset + resp.ContentLength
	}
	if total > limit {
		return fmt.Errorf("%w of %d bytes", errTooLarge, limit)
	}
	k := kept{URL: from, ETag: resp.Header.Get("ETag"), LastModified: resp.Header.Get("Last-Modified"), Total: total}
	flags := os.O_RDWR | os.O_CREATE
	if offset == 0 {
		flags |= os.O_TRUNC
	}
	out, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	if err := writeJSON(path+".json", k); err != nil {
		return err
	}
	if _, err := out.Seek(offset, io.SeekStart); err != nil {
		return err
	}
	n, err := io.Copy(out, io.LimitReader(&meter{r: body, done: offset, total: total, progress: progress}, limit-offset+1))
	size := offset + n
	switch {
	case err != nil:
		return err
	case size > limit:
		f.forget(path)
		return fmt.Errorf("%w of %d bytes", errTooLarge, limit)
	case total >= 0 && size != total:
		return fmt.Errorf("%d bytes of %d: %w", size, total, io.ErrUnexpectedEOF)
	}
	if k.SHA256, err = hashFile(out); err != nil {
		return err
	}
	k.Size = size
	return writeJSON(path+".json", k)
}

// open returns a file that is whole.
func (f *feed) open(base string, u *url.URL, part bool) (*input, error) {
	path := base
	if part {
		path += ".part"
	}
	k, ok := readKept(path)
	if !ok || k.SHA256 == "" || sizeOf(path) != k.Size {
		return nil, fmt.Errorf("%s: %w", redact(u.String()), errNotKept)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	in := &input{f: file, part: part, base: base, SourceStats: SourceStats{
		From: redact(u.String()), SHA256: k.SHA256, Size: k.Size, Checked: k.Checked,
	}}
	if f.used[base] == nil {
		f.used[base] = in
	}
	return in, nil
}

// commit keeps what was used, and nothing else, for the next update.
func (f *feed) commit() error {
	if len(f.used) == 0 {
		return nil
	}
	keep := map[string]bool{filepath.Join(f.dir, manifestName): f.offline || f.manifest != nil}
	if f.manifest != nil {
		if err := os.WriteFile(filepath.Join(f.dir, manifestName), f.manifest, 0o600); err != nil {
			return err
		}
	}
	for base, in := range f.used {
		keep[base], keep[base+".json"] = true, true
		path := base
		if in.part {
			path += ".part"
		}
		k, ok := readKept(path)
		if ok {
			k.Checked = in.Checked
			if err := writeJSON(path+".json", k); err != nil {
				return err
			}
		}
		if !in.part {
			continue
		}
		if err := syncFile(path); err != nil {
			return err
		}
		os.Remove(base + ".json")
		if err := os.Rename(path, base); err != nil {
			return err
		}
		if err := os.Rename(path+".json", base+".json"); err != nil {
			return err
		}
		in.part = false
	}
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if path := filepath.Join(f.dir, e.Name()); !keep[path] {
			os.Remove(path)
		}
	}
	return syncDir(filepath.Join(f.dir, "x"))
}

// spoiled drops a file of the feed that turned out to be no good, so that it is
// not resumed or taken for unchanged.
func (f *feed) spoiled(in *input) {
	switch {
	case in.base == "":
	case in.part:
		f.forget(in.base + ".part")
	default:
		os.Remove(in.base + ".json")
	}
}

func (f *feed) forget(path string) {
	os.Remove(path)
	os.Remove(path + ".json")
}

// validator is what makes a resumed download that of the same bytes (RFC 9110,
// 13.1.5): a strong ETag, else the date.
func (k *kept) validator() string {
	if k.ETag != "" && !strings.HasPrefix(k.ETag, "W/") {
		return k.ETag
	}
	return k.LastModified
}

// condition asks for the file only if it changed.
func (k *kept) condition(h http.Header) {
	if k.ETag != "" {
		h.Set("If-None-Match", k.ETag)
	}
	if k.LastModified != "" {
		h.Set("If-Modified-Since", k.LastModified)
	}
}

func readKept(path string) (k kept, ok bool) {
	data, err := os.ReadFile(path + ".json")
	if err != nil || json.Unmarshal(data, &k) != nil {
		return kept{}, false
	}
	_, err = os.Stat(path)
	return k, err == nil
}

// writeJSON replaces a file at once.
func writeJSON(path string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

func sizeOf(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// hashFile returns the SHA-256 of a whole file, and leaves it at its start.
func hashFile(f *os.File) (string, error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	_, err := f.Seek(0, io.SeekStart)
	return hex.EncodeToString(h.Sum(nil)), err
}

// rangeStart reads "bytes 5-9/10".
func rangeStart(h string) (int64, bool) {
	rest, ok := strings.CutPrefix(h, "bytes ")
	first, _, dash := strings.Cut(rest, "-")
	n, err := strconv.ParseInt(first, 10, 64)
	return n, ok && dash && err == nil
}
