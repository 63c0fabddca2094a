//go:build linux

package main

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// peerVersion is the version of distribution that sluice is compared with.
const peerVersion = "v3.1.2"

// prepare builds the programs and compiles the advisories.
func (l *lab) prepare(ctx context.Context) error {
	var err error
	if l.self, err = os.Executable(); err != nil {
		return err
	}
	if l.sluice == "" {
		l.sluice = filepath.Join(l.dir, "sluice")
		if err := tool(ctx, []string{"CGO_ENABLED=0"}, "go", "build", "-o", l.sluice, "./cmd/sluice"); err != nil {
			return err
		}
	}
	if l.registry, err = peer(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "bench: distribution %s cannot be installed, its side is left out: %v\n", peerVersion, err)
	}
	l.feed, l.seed = filepath.Join(l.dir, "feed"), filepath.Join(l.dir, "seed")
	if err := writeFeed(l.feed); err != nil {
		return err
	}
	return tool(ctx, nil, l.sluice, "db", "update", "--data", l.seed, "--from", l.feed)
}

// peer returns the path of distribution's registry, which it installs unless an
// earlier run did.
func peer(ctx context.Context) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "sluice-bench", "distribution-"+peerVersion)
	program := filepath.Join(dir, "registry")
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	fmt.Fprintln(os.Stderr, "bench: go install distribution", peerVersion)
	err = tool(ctx, []string{"CGO_ENABLED=0", "GOBIN=" + dir}, "go", "install",
		"github.com/distribution/distribution/v3/cmd/registry@"+peerVersion)
	if err != nil {
		return "", err
	}
	return program, nil
}

// tool runs a program to its end; what it says becomes the error.
func tool(ctx context.Context, env []string, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", filepath.Base(name), args[0], err, bytes.TrimSpace(out))
	}
	return nil
}

// writeFeed writes advisories in the layout of the public OSV export: one in
// four of the packages that images are made of has one, high and without a fix,
// so that the shipped policy annotates.
func writeFeed(dir string) error {
	modified := time.Now().Add(-time.Hour).UTC().Format(time.RFC3339) // not stale
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i := 0; i < debianPackages; i += 4 {
		id := fmt.Sprintf("DEBIAN-CVE-2024-%d", 90000+i)
		w, err := z.Create(id + ".json")
		if err != nil {
			return err
		}
		err = json.NewEncoder(w).Encode(map[string]any{
			"schema_version": "1.7.0", "id": id, "modified": modified, "published": "2024-01-01T00:00:00Z",
			"summary":  "made for a benchmark",
			"severity": []any{map[string]string{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H"}},
			"affected": []any{map[string]any{
				"package": map[string]string{"ecosystem": "Debian:12", "name": debianPackage(i)},
				"ranges":  []any{map[string]any{"type": "ECOSYSTEM", "events": []any{map[string]string{"introduced": "0"}}}},
			}},
		})
		if err != nil {
			return err
		}
	}
	if err := z.Close(); err != nil {
		return err
	}
	debian := filepath.Join(dir, "Debian")
	return errors.Join(os.MkdirAll(debian, 0o755),
		os.WriteFile(filepath.Join(debian, "all.zip"), b.Bytes(), 0o600),
		os.WriteFile(filepath.Join(dir, "ecosystems.txt"), []byte("Debian\n"), 0o600))
}
