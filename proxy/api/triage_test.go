package api_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluiceproxy/sluice/proxy/api"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/records"
)

func TestAddWaiver(t *testing.T) {
	later := now.Add(time.Hour).Format(time.RFC3339)
	for _, tt := range []struct {
		name, body string
		status     int
		want       string // part of the detail
	}{
		{"advisory", `{"advisory":"CVE-1","reason":"not reachable","expires":"` + later + `"}`, 422, "owner"},
		{"complete", `{"advisory":"CVE-1","package":"pkg:npm/lodash","images":["ghcr.io/acme/**"],"owner":"web","reason":"not reachable","expires":"` + later + `"}`, 201, ""},
		{"secret in a path", `{"secret":"private-key","path":"etc/**","rule":"leaked-secret","owner":"web","reason":"r","expires":"` + later + `"}`, 201, ""},
		{"nothing named", `{"images":["**"],"owner":"web","reason":"r","expires":"` + later + `"}`, 422, "at least one of"},
		{"no expiry", `{"advisory":"CVE-1","owner":"web","reason":"r"}`, 422, "an expiry is wanted"},
		{"expired", `{"advisory":"CVE-1","owner":"web","reason":"r","expires":"` + now.Format(time.RFC3339) + `"}`, 422, "is past"},
		{"bad glob", `{"advisory":"CVE-1","images":["nginx"],"owner":"web","reason":"r","expires":"` + later + `"}`, 422, "docker.io/library/nginx"},
		{"too long", `{"advisory":"CVE-1","owner":"web","reason":"r","expires":"2027-12-31T00:00:00Z"}`, 422, "waivers.longest"},
		{"built-in rule", `{"rule":"blocklist","owner":"web","reason":"r","expires":"` + later + `"}`, 422, "cannot be waived"},
		{"unknown key", `{"cve":"CVE-1"}`, 400, "cve"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &state{}
			w := call(handler(t, s, ""), "POST", "/api/v1/waivers", tt.body, api.OperatorHeader, "ann")
			if tt.status != 201 {
				if p := problem(t, w, tt.status); !strings.Contains(p.Detail, tt.want) || len(s.waivers) > 0 {
					t.Errorf("problem %+v, want %s; kept %v", p, tt.want, s.waivers)
				}
				return
			}
			got := decode[api.Waiver](t, w, 201)
			var in policy.Waiver
			if err := json.Unmarshal([]byte(tt.body), &in); err != nil {
				t.Fatal(err)
			}
			in.ID, in.Created = "w-1", now
			if diff := cmp.Diff(api.Waiver{Source: "operator", State: "active", Waiver: in}, got); diff != "" {
				t.Error(diff)
			}
			if w.Header().Get("Location") != "/api/v1/waivers/w-1" || !strings.HasPrefix(s.by, "ann from ") {
				t.Errorf("location %q, by %q", w.Header().Get("Location"), s.by)
			}
		})
	}
}

func TestWaivers(t *testing.T) {
	s := &state{waivers: []policy.Waiver{
		{ID: "w-2", Advisory: "CVE-2", Expires: now.Add(time.Hour)},
		{ID: "w-1", Advisory: "CVE-1", Expires: now.Add(-1)}, // past, and still listed
	}}
	h := handler(t, s, "")
	for query, want := range map[string]string{
		"":                    "operator active CVE-2; operator expired CVE-1; policy active CVE-9",
		"?state=active":       "operator active CVE-2; policy active CVE-9",
		"?state=expired":      "operator expired CVE-1",
		"?source=policy":      "policy active CVE-9",
		"?advisory=cve-1":     "operator expired CVE-1",
		"?limit=1":            "operator active CVE-2; operator expired CVE-1; policy active CVE-9",
		"?limit=2":            "operator active CVE-2; operator expired CVE-1; policy active CVE-9",
		"?limit=1&state=none": "",
	} {
		var got []string
		for token := ""; ; {
			path := "/api/v1/waivers" + query
			if token != "" {
				path += "&page_token=" + token
			}
			w := call(h, "GET", path, "")
			if strings.Contains(query, "none") {
				problem(t, w, 400)
				break
			}
			page := decode[api.Waivers](t, w, 200)
			for _, i := range page.Items {
				got = append(got, i.Source+" "+i.State+" "+i.Advisory)
			}
			if token = page.NextPageToken; token == "" {
				break
			}
		}
		if text := strings.Join(got, "; "); text != want {
			t.Errorf("%q lists %s, want %s", query, text, want)
		}
	}
	if w := call(h, "DELETE", "/api/v1/waivers/w-1", ""); w.Code != 204 || len(s.waivers) != 1 {
		t.Errorf("removal: %d, %v", w.Code, s.waivers)
	}
	problem(t, call(h, "DELETE", "/api/v1/waivers/w-1", ""), 404)
}

func TestImages(t *testing.T) {
	s := &state{places: []records.Place{{
		Image:   records.Image{Name: "docker.io/library/a", Digest: digest, Pulls: 3, LastClient: "10.0.0.1"},
		Verdict: "v-1", Decision: policy.Deny, Packages: []string{"pkg:npm/lodash@4"}, Clients: []records.Client{{Client: "10.0.0.1", Pulls: 3}},
	}}}
	h := handler(t, s, "")
	got := decode[api.Places](t, call(h, "GET", "/api/v1/images?advisory=CVE-1&package=pkg:npm/lodash&decision=deny&image=docker.io/**&limit=7&page_token=x", ""), 200)
	want := records.ImageFilter{Advisory: "CVE-1", Package: "pkg:npm/lodash", Decision: policy.Deny, Image: "docker.io/**", Limit: 7, PageToken: "x"}
	if diff := cmp.Diff(want, s.asked); diff != "" {
		t.Error(diff)
	}
	place := api.Place{
		Digest: digest, Image: api.Image{Name: "docker.io/library/a", Tags: []string{}, Pulls: 3, LastClient: "10.0.0.1"},
		Decision: policy.Deny, Verdict: "v-1", Packages: []string{"pkg:npm/lodash@4"}, Clients: []records.Client{{Client: "10.0.0.1", Pulls: 3}},
	}
	if diff := cmp.Diff(api.Places{Items: []api.Place{place}, NextPageToken: "next"}, got); diff != "" {
		t.Error(diff)
	}
}
