package proxy

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sluiceproxy/sluice/proxy/upstream"
)

// TestQuotaIsShown: what an upstream says of its quota, and what it answered, is
// among the metrics.
func TestQuotaIsShown(t *testing.T) {
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v2/" {
			return
		}
		w.Header().Set("Ratelimit-Limit", "100;w=21600")
		w.Header().Set("Ratelimit-Remaining", "76;w=21600")
		w.WriteHeader(http.StatusNotFound)
	}))
	t.Cleanup(up.Close)
	s, _ := run(t, func(o *Options) { o.Upstreams = []Upstream{{Config: upstream.Config{Name: "up", URL: up.URL}}} })
	if status, body := get(t, http.DefaultClient, "http://"+s.Addr().String()+"/v2/up/app/manifests/1", nil); status != http.StatusNotFound {
		t.Fatalf("%d %s", status, body)
	}
	_, metrics := get(t, http.DefaultClient, "http://"+s.OpsAddr().String()+"/metrics", nil)
	for _, want := range []string{
		`sluice_upstream_ratelimit_remaining{upstream="up"} 76`,
		`sluice_upstream_requests_total{kind="manifest",status="4xx",upstream="up"} 1`,
	} {
		if !strings.Contains(metrics, want+"\n") {
			t.Errorf("the metrics lack %s", want)
		}
	}
}
