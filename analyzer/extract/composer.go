package extract

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/sluiceproxy/sluice/analyzer"
)

// parseComposer reads composer.lock ("packages", without "packages-dev") and
// what Composer has installed, vendor/composer/installed.json: an object with
// "packages" since Composer 2, an array of packages before.
func parseComposer(_ context.Context, _ *Session, p string, c Content) ([]analyzer.Package, error) {
	b, err := io.ReadAll(io.NewSectionReader(c, 0, c.Size))
	if err != nil {
		return nil, &machineError{err}
	}
	type pkg struct {
		Name    string `json:"name"`
		Version string `json:"version"`
	}
	var doc struct {
		Packages []pkg `json:"packages"`
	}
	if bytes.HasPrefix(bytes.TrimSpace(b), []byte("[")) {
		err = json.Unmarshal(b, &doc.Packages)
	} else {
		err = json.Unmarshal(b, &doc)
	}
	if err != nil {
		return nil, err
	}
	found := map[[2]string]bool{}
	var errs []error
	for _, d := range doc.Packages {
		if d.Name == "" || d.Version == "" {
			errs = append(errs, fmt.Errorf("package %q has version %q", d.Name, d.Version))
			continue
		}
		found[[2]string{d.Name, d.Version}] = true
	}
	return sorted(found, func(name, version string) analyzer.Package {
		return analyzer.Package{Type: "composer", Name: name, Version: version, Ecosystem: "Packagist", Path: p, PURL: pathPURL("composer", name, version)}
	}), errors.Join(errs...)
}
