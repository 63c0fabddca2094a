package report

import (
	"fmt"
	"io"
	"time"
)

// Options say what a format cannot know from the Result.
type Options struct {
	Version string    // of this program
	Time    time.Time // of the scan; formats that need one write it in UTC, to the second
	Table   TableOptions
}

// timestamp is RFC 3339 in UTC.
func (o *Options) timestamp() string { return o.Time.UTC().Format(time.RFC3339) }

func (o *Options) version() string {
	if o.Version == "" {
		return "devel"
	}
	return o.Version
}

// format is one way to write a Result.
type format struct {
	name, about string
	write       func(io.Writer, Result, Options) error
}

func formats() []format {
	return []format{
		{"table", "for people", func(w io.Writer, r Result, o Options) error { return WriteTable(w, r, o.Table) }},
		{"json", "everything, for scripts; 'sluice scan --schema' prints its JSON Schema", func(w io.Writer, r Result, _ Options) error { return WriteJSON(w, r) }},
		{"sarif", "SARIF 2.1.0, for GitHub and GitLab code scanning", WriteSARIF},
		{"cyclonedx", "CycloneDX 1.6 JSON: packages, vulnerabilities, VEX", WriteCycloneDX},
		{"spdx-json", "SPDX 2.3 JSON: packages", WriteSPDX},
		{"junit", "JUnit XML, for Jenkins and other test reports", WriteJUnit},
		{"gitlab", "GitLab container scanning report 15.0.7", WriteGitLab},
	}
}

// Formats returns the names of the formats, each with what it is for after a
// tab, as shells show completions.
func Formats() []string {
	var out []string
	for _, f := range formats() {
		out = append(out, f.name+"\t"+f.about)
	}
	return out
}

// Write writes r in the named format.
func Write(w io.Writer, name string, r Result, o Options) error {
	for _, f := range formats() {
		if f.name == name {
			return f.write(w, r, o)
		}
	}
	return fmt.Errorf("format %q is not known", name)
}
