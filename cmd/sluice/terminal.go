package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
)

// screen returns the width of the terminal that w is, false for anything else.
func screen(w io.Writer) (width int, ok bool) {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("TERM") == "dumb" {
		return 0, false
	}
	return terminalWidth(f)
}

// colorful reports whether w may be written to in colour (https://no-color.org).
func colorful(w io.Writer) bool {
	_, ok := screen(w)
	return ok && os.Getenv("NO_COLOR") == ""
}

// printable escapes what could move a terminal's cursor: texts here come from
// images, feeds and other people.
func printable(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 {
		return s
	}
	q := strconv.Quote(s)
	return q[1 : len(q)-1]
}

// progress is one line at the bottom of a terminal that tells how far the work
// is. On anything but a terminal it is silent. It is safe for concurrent use.
type progress struct {
	w     io.Writer
	width int // 0 = not a terminal

	mu    sync.Mutex
	shown bool
	last  time.Time
}

func newProgress(w io.Writer) *progress {
	width, _ := screen(w)
	return &progress{w: w, width: width}
}

// redraw is the least time between two drawings.
const redraw = 100 * time.Millisecond

// update shows label and a bar of done of total; total ≤ 0 means unknown.
func (p *progress) update(label string, done, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.width == 0 || time.Since(p.last) < redraw {
		return
	}
	p.last, p.shown = time.Now(), true
	_, _ = fmt.Fprintf(p.w, "\r\x1b[K%s", bar(label, done, total, p.width))
}

// clear removes the line. Later updates draw it again.
func (p *progress) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shown {
		_, _ = fmt.Fprint(p.w, "\r\x1b[K")
		p.shown = false
	}
}

// bar draws a line of less than width letters.
func bar(label string, done, total int64, width int) string {
	amount := megabytes(done)
	if total > 0 {
		done = min(done, total)
		amount = fmt.Sprintf("%3d%% of %s", done*100/total, megabytes(total))
	}
	line := fmt.Sprintf("%s  %s", label, amount)
	if room := width - len([]rune(line)) - 5; total > 0 && room >= 10 {
		room = min(room, 40)
		full := int(done * int64(room) / total)
		line = fmt.Sprintf("%s  [%s%s]  %s", label, strings.Repeat("=", full), strings.Repeat(" ", room-full), amount)
	}
	if r := []rune(line); len(r) >= width {
		line = string(r[:max(width-1, 0)])
	}
	return line
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }
