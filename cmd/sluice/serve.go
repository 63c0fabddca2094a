package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/analyzer/secret"
	"github.com/sluiceproxy/sluice/configs"
	"github.com/sluiceproxy/sluice/proxy"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/records"
	"github.com/sluiceproxy/sluice/proxy/upstream"
)

func newServe() *cobra.Command {
	var (
		file string
		ups  []string
	)
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the proxy",
		Long: `Run the proxy: the registry that clients pull through, and the operations listener.

It works without a configuration file: content, records and advisories go below
./sluice-data, and the well-known public registries are the upstreams. On the
first start it fetches the advisories, and answers pulls with 503 until they are
there.

SIGHUP reads the policy, the VEX files, the users and the TLS certificate again;
on an error the old ones stay. SIGTERM lets running pulls end; a second one exits at once.`,
		Example: `  sluice serve
  sluice serve --config /etc/sluice/sluice.yaml
  sluice serve --listen 127.0.0.1:5000 --upstream up=http://127.0.0.1:5555 --policy policy.yaml

  podman pull --tls-verify=false 127.0.0.1:5000/docker.io/library/alpine:3.20`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			more, err := addUpstreams(ups)
			if err != nil {
				return err
			}
			cfg, err := loadConfig(cmd, file, more,
				overrideString(cmd, "listen", func(c *configs.Config, v string) { c.Listen = v }),
				overrideString(cmd, "ops-listen", func(c *configs.Config, v string) { c.Ops.Listen = v }),
				overrideString(cmd, "policy", func(c *configs.Config, v string) { c.Policy.File = v }))
			if err != nil {
				return err
			}
			log, err := newLogger(cfg.Log, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			defer func() { _ = log.Sync() }()
			for _, w := range cfg.Warnings() {
				log.Warn("configuration", zap.Stringer("warning", w))
			}
			return serve(cmd.Context(), cfg, log, nil)
		},
	}
	f := cmd.Flags()
	f.StringVar(&file, "config", "", "configuration file (default: none, see 'sluice config print')")
	f.String("listen", "", "address of the registry listener (default :5000)")
	f.String("ops-listen", "", "address of the operations listener (default 127.0.0.1:5001)")
	f.StringArrayVar(&ups, "upstream", nil, "another upstream, NAME=URL; may be repeated")
	f.String("policy", "", "policy file (default: the shipped policy)")
	return cmd
}

// serve runs the proxy until ctx ends. started, if not nil, is called when the
// listeners are open.
func serve(ctx context.Context, cfg *configs.Config, log *zap.Logger, started func(*proxy.Server)) (err error) {
	pol, err := loadPolicy(cfg.Policy.File)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(cfg.Data, 0o700); err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	db, err := records.Open(ctx, filepath.Join(cfg.Data, recordsFile), log.Named("records"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := acceptLocks(ctx, db, pol); err != nil {
		return usageError(fmt.Errorf("policy: %w", err))
	}
	adv := openAdvisories(cfg, log)
	opts, err := serverOptions(cfg)
	if err != nil {
		return err
	}
	scanner, stop, err := newScanner(cfg.Analysis, log.Named("analyzer"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	opts.Analyzer = analyzer.New(analyzer.Options{Scanner: scanner, Cache: db, ConfigSecrets: secret.Config, Parallel: cfg.Analysis.Parallel, Log: log.Named("analyzer")})
	opts.Policy, opts.Advisories, opts.Records, opts.Log = pol, adv, db, log
	opts.ParseVEX = parseVEX
	if opts.Attest, err = newAttest(ctx, cfg); err != nil {
		return err
	}
	statements, err := loadVEX(cfg.VEX.Files, log)
	if err != nil {
		return err
	}
	srv, err := proxy.New(ctx, opts)
	if err != nil {
		return err
	}
	srv.SetVEX(statements)
	log.Info("serving", zap.Stringer("registry", srv.Addr()), zap.Stringer("operations", srv.OpsAddr()),
		zap.Stringer("policy", pol), zap.String("data", cfg.Data), zap.Int("upstreams", len(cfg.Upstreams)))
	if started != nil {
		started(srv)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return srv.Run(ctx) })
	g.Go(func() error { return adv.Run(ctx) })
	g.Go(func() error { return rematch(ctx, srv, adv, log) })
	g.Go(func() error { return reloadOnHangup(ctx, srv, db, cfg, log) })
	return g.Wait()
}

// reloadOnHangup reads the policy, the VEX files, the users and the certificate
// again on SIGHUP.
func reloadOnHangup(ctx context.Context, srv *proxy.Server, db *records.DB, cfg *configs.Config, log *zap.Logger) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hup:
		}
		pol, err := loadPolicy(cfg.Policy.File)
		if err == nil {
			err = acceptLocks(ctx, db, pol)
		}
		srv.PolicyFailed(err)
		if err != nil {
			log.Error("policy not reloaded, the old one stays in force", zap.Error(err))
		} else {
			srv.SetPolicy(pol)
			log.Info("policy reloaded", zap.Stringer("policy", pol))
		}
		if statements, err := loadVEX(cfg.VEX.Files, log); err != nil {
			log.Error("VEX not reloaded, the old statements stay in force", zap.Error(err))
		} else {
			srv.SetVEX(statements)
		}
		if err := srv.ReloadUsers(); err != nil {
			log.Error("users not reloaded, the old ones stay", zap.Error(err))
		}
		if err := srv.ReloadTLS(); err != nil {
			log.Error("certificate not reloaded, the old one stays in use", zap.Error(err))
		}
	}
}

// serverOptions translates the configuration.
func serverOptions(cfg *configs.Config) (proxy.Options, error) {
	missing, err := whenMissing(cfg.Advisories.WhenMissing)
	if err != nil {
		return proxy.Options{}, err
	}
	stale, err := whenMissing(cfg.Advisories.WhenStale)
	if err != nil {
		return proxy.Options{}, err
	}
	token, err := configs.ReadSecret(cfg.Ops.Token, cfg.Ops.TokenFile)
	if err != nil {
		return proxy.Options{}, fmt.Errorf("ops.token: %w", err)
	}
	opts := proxy.Options{
		Listen: cfg.Listen, OpsListen: cfg.Ops.Listen, OpsToken: string(token),
		TLSCert: cfg.TLS.Cert, TLSKey: cfg.TLS.Key, Data: cfg.Data, CacheBytes: int64(cfg.Cache.MaxBytes),
		NoDockerConfig: cfg.DockerConfig == "none", DefaultUpstream: cfg.Default, LocalPrefix: cfg.LocalPrefix,
		Hold: time.Duration(cfg.Release.Hold), Stream: cfg.Release.Stream, TagTTL: time.Duration(cfg.TagTTL), StaleIfError: time.Duration(cfg.StaleIfError),
		AnalysisTimeout: time.Duration(cfg.Analysis.Timeout), MaxAge: time.Duration(cfg.Advisories.MaxAge),
		WhenMissing: missing, WhenStale: stale, Drain: time.Duration(cfg.Shutdown.Drain),
		PolicyFile: cfg.Policy.File, LongestWaiver: time.Duration(cfg.Waivers.Longest),
	}
	opts.Version, _ = buildVersion()
	if err := gatedOptions(cfg, &opts); err != nil {
		return proxy.Options{}, err
	}
	for name, u := range cfg.Upstreams {
		up := proxy.Upstream{Config: upstream.Config{
			Name: name, URL: u.URL, Username: u.Username, AllowPrivate: u.AllowPrivate,
			Budget: upstream.Budget{Requests: u.Budget.Requests, Per: time.Duration(u.Budget.Per)},
		}, Aliases: u.Aliases, Library: u.Library}
		password, err := configs.ReadSecret(u.Password, u.PasswordFile)
		if err != nil {
			return proxy.Options{}, fmt.Errorf("upstreams.%s.password: %w", name, err)
		}
		token, err := configs.ReadSecret(u.Token, u.TokenFile)
		if err != nil {
			return proxy.Options{}, fmt.Errorf("upstreams.%s.token: %w", name, err)
		}
		up.Password, up.Token = string(password), string(token)
		opts.Upstreams = append(opts.Upstreams, up)
	}
	return opts, nil
}

// whenMissing reads advisories.whenMissing or whenStale, which the configuration
// has checked.
func whenMissing(s string) (policy.Decision, error) {
	var d policy.Decision
	err := d.UnmarshalText([]byte(s))
	return d, err
}
