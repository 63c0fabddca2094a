package records

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

func block(image string) policy.Block {
	return policy.Block{Image: image, Reason: "not here", Owner: "alice"}
}

func TestBlocks(t *testing.T) {
	db := openNew(t)
	db.now = func() time.Time { return clock }
	before := db.DecisionsRevision()
	first, err := db.AddBlock(t.Context(), policy.Block{Digest: digest("bad"), Reason: "  two\nlines ", Expires: clock.Add(time.Hour)}, "bob")
	if err != nil {
		t.Fatal(err)
	}
	want := policy.Block{ID: first.ID, Digest: digest("bad"), Reason: "two lines", Owner: "bob", Created: clock, Expires: clock.Add(time.Hour)}
	if d := cmp.Diff(want, first); d != "" {
		t.Error(d)
	}
	if !strings.HasPrefix(first.ID, "b-") || db.DecisionsRevision() == before {
		t.Errorf("id %q, revision %d after %d", first.ID, db.DecisionsRevision(), before)
	}
	db.now = func() time.Time { return clock.Add(time.Minute) }
	forever := policy.Block{Advisory: "CVE-1", Reason: "r", Owner: "alice", Expires: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)}
	second, err := db.AddBlock(t.Context(), forever, "bob")
	if err != nil {
		t.Fatal(err)
	}
	blocks, err := db.Blocks(t.Context())
	if err != nil || len(blocks) != 2 || blocks[0].ID != second.ID || blocks[1].ID != first.ID {
		t.Fatalf("Blocks = %v, %v, want the newest first", blocks, err)
	}
	if !blocks[0].Expires.After(clock.AddDate(200, 0, 0)) {
		t.Errorf("a far expiry came back as %v", blocks[0].Expires)
	}
	blocks[0].Reason = "changed by the caller"
	if again, _ := db.Blocks(t.Context()); again[0].Reason != "r" {
		t.Error("the caller's change is in the list")
	}

	revision := db.DecisionsRevision()
	if err := db.RemoveBlock(t.Context(), first.ID, "carol"); err != nil {
		t.Fatal(err)
	}
	if err := db.RemoveBlock(t.Context(), first.ID, "carol"); !errors.Is(err, ErrNotFound) {
		t.Errorf("removed twice: %v", err)
	}
	if db.DecisionsRevision() <= revision {
		t.Error("removal did not change the revision")
	}
	if blocks, err = db.Blocks(t.Context()); err != nil || len(blocks) != 1 {
		t.Errorf("Blocks = %v, %v", blocks, err)
	}

	trail, next, err := db.Audit(t.Context(), AuditFilter{})
	if err != nil || next != "" || len(trail) != 3 {
		t.Fatalf("Audit = %v, %q, %v", trail, next, err)
	}
	removed := trail[0]
	var was policy.Block
	if err := json.Unmarshal(removed.Before, &was); err != nil {
		t.Fatal(err)
	}
	if removed.By != "carol" || removed.Action != ActionBlockRemove || removed.Target != first.ID || removed.After != nil || cmp.Diff(first, was) != "" {
		t.Errorf("entry of the removal: %+v", removed)
	}
	if added := trail[2]; added.By != "bob" || added.Action != ActionBlockAdd || added.Before != nil || !added.At.Equal(clock) {
		t.Errorf("entry of the addition: %+v", added)
	}
}

func TestAddBlockRefuses(t *testing.T) {
	db := openNew(t)
	for name, b := range map[string]policy.Block{
		"no target":   {Reason: "r", Owner: "o"},
		"two targets": {Advisory: "CVE-1", Image: "**", Reason: "r", Owner: "o"},
		"no reason":   {Advisory: "CVE-1", Reason: " \n", Owner: "o"},
		"bad digest":  {Digest: "sha256:12", Reason: "r", Owner: "o"},
		"bad glob":    {Image: "nginx", Reason: "r", Owner: "o"},
		"bad purl":    {Package: "lodash", Reason: "r", Owner: "o"},
		"expired":     {Advisory: "CVE-1", Reason: "r", Owner: "o", Expires: time.Now().Add(-time.Second)},
	} {
		if _, err := db.AddBlock(t.Context(), b, "alice"); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
	if trail, _, err := db.Audit(t.Context(), AuditFilter{}); err != nil || len(trail) != 0 {
		t.Errorf("refused entries left a trail: %v, %v", trail, err)
	}
}

func TestAuditPaging(t *testing.T) {
	db := openNew(t)
	for i := range 7 {
		if _, err := db.AddBlock(t.Context(), block("registry.example/a"), fmt.Sprintf("user%d", i%2)); err != nil {
			t.Fatal(err)
		}
	}
	var got []int64
	f := AuditFilter{By: "user0", Limit: 2}
	for {
		items, next, err := db.Audit(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range items {
			got = append(got, e.Seq)
		}
		if next == "" {
			break
		}
		f.PageToken = next
	}
	if d := cmp.Diff([]int64{7, 5, 3, 1}, got); d != "" {
		t.Error(d)
	}
	if _, _, err := db.Audit(t.Context(), AuditFilter{PageToken: "x"}); !errors.Is(err, ErrInvalid) {
		t.Errorf("bad token: %v", err)
	}
}

// A block that another process adds (here: another DB on the same file) is
// noticed without a call of this one.
func TestBlocksOfAnotherProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "records.db")
	here, there := openAt(t, path), openAt(t, path)
	before := here.DecisionsRevision()
	b, err := there.AddBlock(t.Context(), block("registry.example/a"), "alice")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for start := time.Now(); here.DecisionsRevision() == before; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not noticed after %s", time.Since(start))
		}
	}
	blocks, err := here.Blocks(t.Context())
	if err != nil || len(blocks) != 1 || blocks[0].ID != b.ID {
		t.Errorf("Blocks = %v, %v", blocks, err)
	}
}

// crashEnv makes the test binary the child of TestKill.
const crashEnv = "SLUICE_RECORDS_CRASH"

// crash adds blocks and prints the id of each once it is acknowledged, until
// it is killed.
func crash(path string) {
	db, err := Open(context.Background(), path, zap.NewNop())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for {
		b, err := db.AddBlock(context.Background(), block("registry.example/a"), "alice")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(b.ID)
	}
}

func TestKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "records.db")
	var acknowledged []string
	for round := range 3 {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
		child.Env = append(os.Environ(), crashEnv+"="+path)
		child.Stderr = os.Stderr
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		before := len(acknowledged)
		lines := bufio.NewReader(out)
		for killed := false; ; {
			line, err := lines.ReadString('\n')
			if err != nil {
				break // a line that was cut was not acknowledged
			}
			acknowledged = append(acknowledged, strings.TrimSpace(line))
			if !killed && len(acknowledged)-before >= 20+round*7 {
				killed = true
				if err := child.Process.Kill(); err != nil { // SIGKILL, while it goes on writing
					t.Fatal(err)
				}
			}
		}
		if err := child.Wait(); err == nil {
			t.Fatal("the child ended by itself")
		}
	}

	db := openAt(t, path)
	blocks, err := db.Blocks(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var have []string
	for _, b := range blocks {
		have = append(have, b.ID)
	}
	for _, id := range acknowledged {
		if !slices.Contains(have, id) {
			t.Errorf("%s was acknowledged and is lost", id)
		}
	}
	var entries int
	if err := db.read.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM audit").Scan(&entries); err != nil || entries != len(blocks) {
		t.Errorf("%d audit entries for %d blocks, %v", entries, len(blocks), err)
	}
}

// Many goroutines use every method at once; at the end all writes are there.
func TestConcurrent(t *testing.T) {
	db := openNew(t)
	const workers, rounds = 8, 5
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range rounds {
				name := fmt.Sprintf("docker.io/library/w%d", w)
				d := digest(fmt.Sprint(w, i))
				b, err := db.AddBlock(t.Context(), block("registry.example/a"), "alice")
				errs := []error{err}
				if i%2 == 0 {
					errs = append(errs, db.RemoveBlock(t.Context(), b.ID, "alice"))
				}
				_, err = db.SeenImage(t.Context(), name, "latest", d, "type", clock)
				errs = append(errs, err, db.Pulled(t.Context(), name, d, "c", clock, 1))
				errs = append(errs, db.PutLayer(t.Context(), "r", &analyzer.Layer{Digest: digest("shared")}))
				_, _, err = db.Layer(t.Context(), digest("shared"), "r")
				errs = append(errs, err, db.PutVerdict(t.Context(), verdict(w*100+i, name, policy.Annotate, "A")))
				_, _, err = db.Verdicts(t.Context(), VerdictFilter{Advisory: "A"})
				errs = append(errs, err)
				_, err = db.Blocks(t.Context())
				errs = append(errs, err)
				_, err = db.KnownFindings(t.Context(), nginx, digest("one"), []policy.FindingKey{{Advisory: fmt.Sprint(i), Package: "p"}}, clock)
				errs = append(errs, err)
				if err := errors.Join(errs...); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	blocks, err := db.Blocks(t.Context())
	if want := workers * (rounds / 2); err != nil || len(blocks) != want {
		t.Errorf("%d blocks, %v, want %d", len(blocks), err, want)
	}
	items, _, err := db.Verdicts(t.Context(), VerdictFilter{})
	if err != nil || len(items) != workers {
		t.Errorf("%d verdicts, %v, want %d", len(items), err, workers)
	}
}

func BenchmarkAddBlock(b *testing.B) {
	db, err := Open(b.Context(), filepath.Join(b.TempDir(), "records.db"), zap.NewNop())
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	for b.Loop() {
		if _, err := db.AddBlock(b.Context(), block("registry.example/a"), "alice"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSeenImageAgain(b *testing.B) {
	db, err := Open(b.Context(), filepath.Join(b.TempDir(), "records.db"), zap.NewNop())
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	for b.Loop() {
		if _, err := db.SeenImage(b.Context(), nginx, "latest", digest("one"), "type", clock); err != nil {
			b.Fatal(err)
		}
	}
}
