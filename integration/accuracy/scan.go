package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
)

// result is what is read of `sluice scan --format json`.
type result struct {
	Findings []finding `json:"findings"`
	Packages []struct {
		Type    string `json:"type"`
		Name    string `json:"name"`
		Version string `json:"version"`
		Path    string `json:"path"`
		Owner   string `json:"owner"`
	} `json:"packages"`
	Secrets []struct {
		Rule string `json:"rule"`
		Path string `json:"path"`
	} `json:"secrets"`
	Facts struct {
		Incomplete []struct {
			Path   string `json:"path"`
			Reason string `json:"reason"`
		} `json:"incomplete"`
	} `json:"facts"`
}

type finding struct {
	Advisory string   `json:"advisory"`
	Aliases  []string `json:"aliases"`
	Package  string   `json:"package"`
	Version  string   `json:"version"`
	Path     string   `json:"path"`
}

// scan runs the program on a directory, with an empty layer cache.
func (l *lab) scan(ctx context.Context, root string) (*result, error) {
	cmd := exec.CommandContext(ctx, l.sluice, "scan", "dir:"+root, "--format", "json", "--data", l.path("data"))
	cmd.Stderr = os.Stderr
	cmd.Env = append(os.Environ(), "SLUICE_ADVISORIES_WHENSTALE=annotate") // the data at hand is old, which is not what is measured
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) { // 1 is a denial
		return nil, fmt.Errorf("scan %s: %w", root, err)
	}
	r := &result{}
	return r, json.Unmarshal(out, r)
}
