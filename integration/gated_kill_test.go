package integration

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	godigest "github.com/opencontainers/go-digest"
)

// killed is how many times TestGatedKill kills the server, and for how long at
// most it goes on. SLUICE_TEST_KILLS=1 gives it the time for all of them.
func killed() (points int, limit time.Duration) {
	if os.Getenv("SLUICE_TEST_KILLS") == "1" {
		return 200, 10 * time.Minute
	}
	if onCI() {
		return 200, time.Minute
	}
	return 200, 20 * time.Second
}

// shelf is a repository with one client, which knows what was acknowledged.
type shelf struct {
	name   string
	images []pushable
	state  []presence // of each image
	acked  int        // pushes and deletes
}

type presence uint8

const (
	absent  presence = iota // never pushed, refused, or deleted
	present                 // acknowledged
	unknown                 // the server was killed while it worked on that
)

// pushable is an image in the form that requests want.
type pushable struct {
	tag       string
	manifest  []byte
	mediaType string
	blobs     content
	denied    bool
}

// TestGatedKill: a server that is killed at any point while clients push and
// delete and garbage is collected has after its start all that it acknowledged,
// nothing that is damaged, and nothing of what it would not serve.
func TestGatedKill(t *testing.T) {
	t.Parallel()
	s := gated(t, newUpstream(t), "  gc: {every: 0s, grace: 300ms}\n")
	shared := []v1.Layer{layerText(t, "shared one"), layerText(t, "shared two"), layerText(t, "shared three")}
	var shelves []*shelf
	for n := range 4 {
		sh := &shelf{name: fmt.Sprint("local/team/shelf", n), state: make([]presence, 9)}
		for i := range sh.state {
			p := pushable{tag: fmt.Sprint("t", i), denied: i == 0}
			img := image(t, "amd64", shared[i%len(shared)], layerText(t, fmt.Sprint("image ", i%5, " of ", n%2)), layerText(t, fmt.Sprint(n, i)))
			if p.denied {
				img = image(t, "amd64", shared[0], layer(t, alpine(vulnerable)), layerText(t, fmt.Sprint(n, i)))
			}
			p.manifest, p.mediaType, p.blobs = must(img.RawManifest())(t), string(must(img.MediaType())(t)), contentOf(t, img)
			sh.images = append(sh.images, p)
		}
		shelves = append(shelves, sh)
	}
	points, limit := killed()
	began, done := time.Now(), 0
	first := &shelves[0].images[1]
	if a, err := first.push(t.Context(), s, shelves[0].name); err != nil || a.status != http.StatusCreated {
		t.Fatalf("push: %d %s (%v)", a.status, a.body, err)
	}
	shelves[0].state[1] = present
	life := max(800*time.Millisecond, 10*time.Since(began)) // the longest of a server; where all is slow, long enough to do something
	for ; done < points && time.Since(began) < limit; done++ {
		ctx, cancel := context.WithCancel(t.Context())
		var work sync.WaitGroup
		for n, sh := range shelves {
			random := rand.New(rand.NewPCG(uint64(done), uint64(n)))
			work.Go(func() { sh.work(ctx, t, s, random) })
		}
		work.Go(func() {
			for ctx.Err() == nil {
				_, _ = try(ctx, http.MethodPost, "http://"+s.ops+"/api/v1/gc", nil)
			}
		})
		<-time.After(rand.N(life)) //nolint:gosec // any moment will do
		s.kill(t)
		cancel()
		work.Wait()
		again := *s // each remembers that its process was killed
		s = &again
		s.run(t)
		if left := must(filepath.Glob(filepath.Join(s.data, "registry", "spool", "*")))(t); len(left) != 0 {
			t.Errorf("the start left in the spool: %v", left)
		}
		for _, sh := range shelves {
			sh.verify(t, s)
		}
		if t.Failed() {
			t.Fatalf("after %d kills", done+1)
		}
	}
	acked, there := 0, 0
	for _, sh := range shelves {
		acked += sh.acked
		for _, is := range sh.state {
			if is == present {
				there++
			}
		}
	}
	t.Logf("%d kills in %s; %d pushes and deletes were acknowledged, %d images are there at the end", done, time.Since(began).Round(time.Second), acked, there)
	if acked < done {
		t.Errorf("%d pushes and deletes were acknowledged between %d kills: too few to tell anything", acked, done)
	}
}

// work pushes and deletes images until ctx ends.
func (sh *shelf) work(ctx context.Context, t *testing.T, s *server, random *rand.Rand) {
	for ctx.Err() == nil {
		i := random.IntN(len(sh.images))
		p := &sh.images[i]
		before := sh.state[i]
		if before == present && random.IntN(3) == 0 {
			sh.state[i] = unknown
			a, err := try(ctx, http.MethodDelete, "http://"+s.registry+"/v2/"+sh.name+"/manifests/"+godigest.FromBytes(p.manifest).String(), nil, as("alice"))
			switch {
			case err != nil:
			case a.status == http.StatusAccepted:
				sh.state[i] = absent
				sh.acked++
			default:
				t.Errorf("DELETE %s:%s: %d %s", sh.name, p.tag, a.status, a.body)
			}
			continue
		}
		if before == absent {
			sh.state[i] = unknown
		}
		a, err := p.push(ctx, s, sh.name)
		switch {
		case err != nil:
		case a.status == http.StatusCreated && p.denied:
			t.Errorf("push of a denied image to %s: %d", sh.name, a.status)
		case a.status == http.StatusCreated:
			sh.state[i] = present
			sh.acked++
		case a.status == http.StatusForbidden && p.denied, a.status == http.StatusNotFound: // a blob was collected before the manifest came
			sh.state[i] = before
		default:
			t.Errorf("push to %s: %d %s", sh.name, a.status, a.body)
		}
	}
}

// push uploads what is not there, as clients do, and then the manifest.
func (p *pushable) push(ctx context.Context, s *server, name string) (answer, error) {
	base := "http://" + s.registry + "/v2/" + name
	for d, b := range p.blobs {
		a, err := try(ctx, http.MethodHead, base+"/blobs/"+d, nil, as("alice"))
		if err == nil && a.status != http.StatusOK {
			a, err = try(ctx, http.MethodPost, base+"/blobs/uploads/?digest="+d, b, as("alice"), "Content-Type: application/octet-stream")
		}
		if err != nil || a.status/100 != 2 {
			return a, err
		}
	}
	return try(ctx, http.MethodPut, base+"/manifests/"+p.tag, p.manifest, as("alice"), "Content-Type: "+p.mediaType)
}

// verify compares what the server has with what it acknowledged.
func (sh *shelf) verify(t *testing.T, s *server) {
	t.Helper()
	for i := range sh.images {
		p := &sh.images[i]
		a := s.get(t, "/v2/"+sh.name+"/manifests/"+p.tag, as("node"))
		is := map[int]presence{http.StatusOK: present, http.StatusNotFound: absent}[a.status]
		switch {
		case a.status != http.StatusOK && a.status != http.StatusNotFound, p.denied && is == present, sh.state[i] != unknown && is != sh.state[i]:
			t.Errorf("%s:%s: %d %s; the state is %d", sh.name, p.tag, a.status, a.body, sh.state[i])
		}
		sh.state[i] = is
		if is != present {
			continue
		}
		if !bytes.Equal(a.body, p.manifest) {
			t.Errorf("%s:%s: other bytes", sh.name, p.tag)
		}
		for d, want := range p.blobs {
			if b := s.get(t, "/v2/"+sh.name+"/blobs/"+d, as("node")); b.status != http.StatusOK || !bytes.Equal(b.body, want) {
				t.Errorf("%s of %s:%s: %d, %d bytes", d, sh.name, p.tag, b.status, len(b.body))
			}
		}
	}
}
