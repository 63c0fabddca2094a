package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
)

// lab is what all images share.
type lab struct {
	work   string // built images are kept here for the next run
	data   string // ../shared/data
	sluice string // the binary
	feed   *feed
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "accuracy:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	write := flag.Bool("write", false, "write the table to docs/accuracy.md")
	only := flag.String("only", "", "only the images whose name matches `REGEXP`")
	work := flag.String("work", filepath.Join(os.TempDir(), "sluice-accuracy"), "`DIR`ectory for built images, kept for the next run")
	binary := flag.String("sluice", "", "the `FILE` to run (default: built from this tree)")
	flag.Parse()
	pattern, err := regexp.Compile(*only)
	if err != nil {
		return err
	}
	if *write && *only != "" {
		return errors.New("-write needs all images: leave -only out")
	}
	l := &lab{work: *work, sluice: *binary, data: os.Getenv("SLUICE_TEST_DATA")}
	if l.data == "" {
		l.data = filepath.Join("..", "shared", "data")
	}
	if err := l.prepare(ctx); err != nil {
		return err
	}
	defer l.feed.order.close()
	var rows []row
	for _, img := range images() {
		if !pattern.MatchString(img.name) {
			continue
		}
		fmt.Fprintln(os.Stderr, img.name)
		r, err := l.measure(ctx, img)
		if err != nil {
			return fmt.Errorf("%s: %w", img.name, err)
		}
		rows = append(rows, r)
	}
	text := table(rows)
	if *write {
		err = replaceTable(filepath.Join("docs", "accuracy.md"), text)
	} else {
		_, err = fmt.Print(text)
	}
	return errors.Join(err, verdict(rows))
}

// prepare builds the program and its index of advisories.
func (l *lab) prepare(ctx context.Context) error {
	if err := errors.Join(os.RemoveAll(l.path("data")), os.MkdirAll(l.work, 0o755)); err != nil {
		return err
	}
	var err error
	if l.feed, err = readFeed(filepath.Join(l.data, "osv")); err != nil {
		return err
	}
	if l.sluice == "" {
		l.sluice = filepath.Join(l.work, "sluice")
		if _, err := output(ctx, "", "go", "build", "-o", l.sluice, "./cmd/sluice"); err != nil {
			return err
		}
	}
	_, err = output(ctx, "", l.sluice, "db", "update", "--from", filepath.Join(l.data, "osv"), "--data", l.path("data"))
	return err
}

func (l *lab) path(elem ...string) string { return filepath.Join(append([]string{l.work}, elem...)...) }

// measure builds one image, lists it, scans it, and compares.
func (l *lab) measure(ctx context.Context, img image) (row, error) {
	r := row{image: img}
	root, err := img.build(ctx, l)
	var missing *missingError
	if errors.As(err, &missing) {
		r.missing = missing.Error()
		return r, nil
	} else if err != nil {
		return r, err
	}
	installed, err := img.installed(ctx, l, root)
	if errors.As(err, &missing) {
		r.missing = missing.Error()
		return r, nil
	} else if err != nil {
		return r, err
	}
	found, err := l.scan(ctx, root)
	if err != nil {
		return r, err
	}
	r.packages = comparePackages(installed, found)
	implied, err := l.feed.implied(ctx, installed)
	if err != nil {
		return r, err
	}
	r.findings = compareFindings(implied, found)
	r.secrets, r.incomplete = len(found.Secrets), found.Facts.Incomplete
	return r, nil
}

// missingError says what an image or its list cannot be had for here.
type missingError struct{ what string }

func (e *missingError) Error() string { return e.what }

// need reports tools that are not installed.
func need(tools ...string) error {
	for _, t := range tools {
		if _, err := exec.LookPath(t); err != nil {
			return &missingError{t + " is not installed"}
		}
	}
	return nil
}

// output runs a command in dir and returns what it prints.
func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		text := strings.TrimSpace(stderr.String())
		return string(out), fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, text[max(0, len(text)-400):])
	}
	return string(out), nil
}
