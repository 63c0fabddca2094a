package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/user"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluiceproxy/sluice/configs"
	"github.com/sluiceproxy/sluice/proxy/api"
)

// client talks to the operations API of a server.
type client struct {
	server    string
	tokenFile string
	format    string        // text or json
	patience  time.Duration // for an answer; 0 = requestTimeout
}

// register adds the flags of all commands that ask a server.
func (c *client) register(cmd *cobra.Command) {
	cmd.PersistentFlags().StringVar(&c.server, "server", "http://127.0.0.1:5001", "address of the server's operations listener")
	cmd.PersistentFlags().StringVar(&c.tokenFile, "token-file", "", "file that holds the bearer token (default: the variable SLUICE_OPS_TOKEN)")
	cmd.PersistentFlags().StringVar(&c.format, "format", "text", "text or json")
	cmd.PersistentPreRunE = func(*cobra.Command, []string) error { return oneOf("--format", c.format, "text", "json") }
}

const (
	requestTimeout = 30 * time.Second
	longPatience   = 11 * time.Minute // for what moves or removes images
	maxAnswer      = 64 << 20         // bytes
)

// do sends in (nil = no body) and decodes the answer into out (nil = none). An
// error answer is an *api.Problem.
func (c *client) do(ctx context.Context, method, path string, params url.Values, in, out any) error {
	base, err := url.Parse(c.server)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return usageError(fmt.Errorf("--server: %q is not an http or https address", c.server))
	}
	token, err := configs.ReadSecret("", c.tokenFile)
	if err != nil {
		return usageError(err)
	}
	if c.tokenFile == "" {
		token = configs.Secret(os.Getenv("SLUICE_OPS_TOKEN"))
	}
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	target := strings.TrimSuffix(base.String(), "/") + api.Prefix + path
	if len(params) > 0 {
		target += "?" + params.Encode()
	}
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(c.patience, requestTimeout))
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return err
	}
	req.Header.Set(api.OperatorHeader, operator())
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+string(token))
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("no answer from the server: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	return readAnswer(resp, out)
}

func readAnswer(resp *http.Response, out any) error {
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return fmt.Errorf("answer of the server: %w", err)
	}
	switch {
	case len(b) > maxAnswer:
		return fmt.Errorf("answer of the server: larger than %d bytes", maxAnswer)
	case resp.StatusCode >= http.StatusBadRequest:
		p := &api.Problem{Status: resp.StatusCode}
		if err := json.Unmarshal(b, p); err != nil || p.Detail == "" {
			p.Detail = "the server answered " + resp.Status
		}
		return p
	case out == nil:
		return nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("answer of the server: %w", err)
	}
	return nil
}

// pages calls each with the items of all pages of a list, until it returns false.
func pages[P any](ctx context.Context, c *client, path string, params url.Values, each func(P) (next string, more bool)) error {
	for {
		var page P
		if err := c.do(ctx, http.MethodGet, path, params, nil, &page); err != nil {
			return err
		}
		next, more := each(page)
		if next == "" || !more {
			return nil
		}
		params.Set("page_token", next)
	}
}

// listing is what a command shows of one of the server's lists.
type listing[P, T any] struct {
	path  string
	flags map[string]string // parameters and what they mean
	page  func(P) (items []T, next string)
	write func(cmd *cobra.Command, items []T) error
}

// complete gives cmd the listing's flags and lets it show all pages.
func (l listing[P, T]) complete(cmd *cobra.Command, c *client) *cobra.Command {
	params := map[string]*string{}
	for name, help := range l.flags {
		params[name] = cmd.Flags().String(name, "", help)
	}
	cmd.Args = cobra.NoArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		q := url.Values{"limit": {"500"}}
		for name, v := range params {
			if *v != "" {
				q.Set(name, *v)
			}
		}
		items := []T{}
		err := pages(cmd.Context(), c, l.path, q, func(p P) (string, bool) {
			some, next := l.page(p)
			items = append(items, some...)
			return next, true
		})
		if err != nil {
			return rejected(err)
		}
		if c.format == "json" {
			return writeIndented(cmd.OutOrStdout(), items)
		}
		return l.write(cmd, items)
	}
	return cmd
}

// notFound reports whether err is the server's 404.
func notFound(err error) bool {
	var p *api.Problem
	return errors.As(err, &p) && p.Status == http.StatusNotFound
}

// operator is the user's name for the audit trail.
func operator() string {
	if u, err := user.Current(); err == nil && u.Username != "" {
		return u.Username
	}
	return os.Getenv("USER")
}

func writeIndented(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// oneOf is a usage error when value is not one of valid.
func oneOf(flag, value string, valid ...string) error {
	for _, v := range valid {
		if v == value {
			return nil
		}
	}
	return usageError(fmt.Errorf("%s %q is not one of %s", flag, value, strings.Join(valid, ", ")))
}
