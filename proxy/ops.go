package proxy

import (
	"context"
	"fmt"
	"net/http"

	godigest "github.com/opencontainers/go-digest"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/proxy/api"
	"github.com/sluiceproxy/sluice/proxy/gate"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/route"
)

// Advisories is the state of the advisories, for the gate and for operators.
type Advisories interface {
	gate.Advisories
	// Summary is what the API tells of them.
	Summary() api.AdvisoryStatus
}

// opsHandler serves the operations listener. work is the life of what operators
// start and do not wait for.
func (s *Server) opsHandler(work context.Context, table *route.Table, metrics *prometheus.Registry) (http.Handler, error) {
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "sluice_build_info", Help: "Always 1; the label is the program's version.",
		ConstLabels: prometheus.Labels{"version": s.opts.Version},
	})
	build.Set(1)
	for _, c := range []prometheus.Collector{build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})} {
		if err := metrics.Register(c); err != nil {
			return nil, err
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.HandleFunc("GET /healthz", s.readyz)
	mux.Handle("GET /metrics", api.Guard(s.opts.OpsToken, promhttp.HandlerFor(metrics, promhttp.HandlerOpts{})))
	deps := api.Deps{
		Records: s.opts.Records, Report: s.report, Advisories: s.opts.Advisories.Summary, Policy: s.policyStatus,
		PolicyWaivers: func() []policy.Waiver { return s.gate.Policy().Waivers() }, LongestWaiver: s.opts.LongestWaiver,
		Judge: s.judge(table), Go: func(job func(context.Context)) { s.jobs.Go(func() { job(work) }) },
		Token: s.opts.OpsToken, Log: s.opts.Log.Named("api"),
	}
	if s.local != nil {
		deps.Collect, deps.Promote = s.collect, s.promote(table)
	}
	mux.Handle(api.Prefix+"/", api.New(deps))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		detail := "no such path; the API is under " + api.Prefix
		if r.URL.Path == "/" {
			detail = "the console is not supported yet; the API is under " + api.Prefix
		}
		api.WriteProblem(w, api.Problem{Status: http.StatusNotFound, Detail: detail})
	})
	return mux, nil
}

// readyz says whether the server can decide and serve.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	checks := []struct {
		name string
		run  func(context.Context) error
	}{
		{"drain", func(context.Context) error {
			if s.draining.Load() {
				return fmt.Errorf("the server is stopping")
			}
			return nil
		}},
		{"store", func(context.Context) error { return s.store.Check() }},
		{"records", s.opts.Records.Ping},
		{"policy", func(context.Context) error {
			if err := s.broken.Load(); err != nil && *err != nil {
				return fmt.Errorf("the file cannot be put in force, the policy before it is: %w", *err)
			}
			return nil
		}},
		{"advisories", func(context.Context) error {
			if s.opts.Advisories.Current() == nil && s.opts.WhenMissing == policy.Pending {
				return fmt.Errorf("there are none yet: %s", s.opts.Advisories.Status())
			}
			return nil
		}},
	}
	status, body := http.StatusOK, ""
	for _, c := range checks {
		if err := c.run(r.Context()); err != nil {
			status = http.StatusServiceUnavailable
			body += fmt.Sprintf("[-] %s: %v\n", c.name, err)
		} else {
			body += fmt.Sprintf("[+] %s: ok\n", c.name)
		}
	}
	if _, verbose := r.URL.Query()["verbose"]; status == http.StatusOK && !verbose {
		body = "ok\n"
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = fmt.Fprint(w, body)
}

// report returns the stored analysis of d, matched with the advisories of now.
func (s *Server) report(ctx context.Context, d godigest.Digest) (*analyzer.Report, bool, error) {
	inv, ok, err := s.opts.Records.Inventory(ctx, d, s.opts.Analyzer.Revision())
	if err != nil || !ok {
		return nil, false, err
	}
	rep, err := analyzer.Judge(ctx, inv, s.opts.Advisories.Current())
	if err != nil {
		return nil, false, err
	}
	rep.Base, err = s.opts.Records.Base(ctx, inv)
	return rep, err == nil, err
}

func (s *Server) policyStatus() api.PolicyStatus {
	p := s.gate.Policy()
	return api.PolicyStatus{Revision: p.Revision(), File: s.opts.PolicyFile, Text: string(p.Text())}
}
