package integration

import (
	"net/http"
	"os"
	"strconv"
	"testing"
	"time"
)

// TestSlowAnalysis pulls images with a layer that the upstream delivers so
// slowly that the analysis ends long after the hold. Each client gets the
// allowed one in one go, and of the denied one nothing whole; its next pull is
// refused with the reason.
//
// The layer takes 6 s, and with SLUICE_TEST_SLOW=1 60 s, longer than clients wait
// for headers or idle.
func TestSlowAnalysis(t *testing.T) {
	t.Parallel()
	took := 6 * time.Second
	if os.Getenv("SLUICE_TEST_SLOW") == "1" {
		took = 60 * time.Second
	}
	f := newFleet(t, "release:\n  hold: 2s\n")
	t.Run("clients", func(t *testing.T) {
		for _, c := range nodes() {
			t.Run(c.name+"/allowed", func(t *testing.T) {
				t.Parallel()
				slowAllowed(t, f, c, took)
			})
			t.Run(c.name+"/denied", func(t *testing.T) {
				t.Parallel()
				slowDenied(t, f, c, took)
			})
		}
	})
	for _, request := range f.past() {
		t.Errorf("past the server: %s", request)
	}
}

func slowAllowed(t *testing.T, f *fleet, c client, took time.Duration) {
	name := c.name + "/slow-allowed"
	img, layer, body := big(t, name, clean)
	digest := f.push(t, name, "1", img)
	path := "/v2/" + name + "/blobs/" + layer
	f.fail(path, trickling(body, took))
	begin := time.Now()
	if _, out, err := f.pull(t, c, name, digest); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if d := time.Since(begin); d < took {
		t.Errorf("the pull took %s, but the layer %s: it was not slow", d, took)
	}
	if n := f.count(http.MethodGet, path); n != 1 {
		t.Errorf("the layer was downloaded %d times, want once", n)
	}
}

func slowDenied(t *testing.T, f *fleet, c client, took time.Duration) {
	name := c.name + "/slow-denied"
	img, layer, body := big(t, name, vulnerable)
	digest := f.push(t, name, "1", img)
	f.fail("/v2/"+name+"/blobs/"+layer, trickling(body, took))
	begin := time.Now()
	m, out, err := f.pull(t, c, name, digest)
	if err == nil {
		t.Errorf("pulled, want a cut\n%s", out)
	}
	if d := time.Since(begin); d < took {
		t.Errorf("the pull failed after %s, before the layer's %s were over:\n%s", d, took, out)
	}
	wantNothingWhole(t, m, img)
	f.wantRefused(t, c, name, img)
}

// trickling delivers body evenly over a time.
func trickling(body []byte, took time.Duration) http.Handler {
	const steps = 60
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		tick := time.NewTicker(took / steps)
		defer tick.Stop()
		for i := range steps {
			select {
			case <-tick.C:
			case <-r.Context().Done():
				return
			}
			_, _ = w.Write(body[i*len(body)/steps : (i+1)*len(body)/steps])
			if err := http.NewResponseController(w).Flush(); err != nil {
				return
			}
		}
	})
}
