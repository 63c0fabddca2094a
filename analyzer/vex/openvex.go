package vex

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluiceproxy/sluice/analyzer"
)

// openVEXContext is the @context of version 0.2; later 0.x versions extend it.
const openVEXContext = "https://openvex.dev/ns/v0.2.0"

// openVEXDocument is a document of OpenVEX 0.2, "Document Struct Fields".
type openVEXDocument struct {
	Context     string            `json:"@context"`
	ID          string            `json:"@id"`
	Author      string            `json:"author"`
	Role        string            `json:"role"`
	Timestamp   time.Time         `json:"timestamp"`
	LastUpdated time.Time         `json:"last_updated"`
	Version     json.Number       `json:"version"`
	Tooling     string            `json:"tooling"`
	Supplier    string            `json:"supplier"`
	Statements  []json.RawMessage `json:"statements"`
}

// openVEXStatement is a statement, "Statement Fields".
type openVEXStatement struct {
	ID            string               `json:"@id"`
	Version       json.Number          `json:"version"`
	Vulnerability openVEXVulnerability `json:"vulnerability"`
	Timestamp     time.Time            `json:"timestamp"`
	LastUpdated   time.Time            `json:"last_updated"`
	Products      []openVEXProduct     `json:"products"`
	Status        analyzer.VEXStatus   `json:"status"`
	Supplier      string               `json:"supplier"`
	StatusNotes   string               `json:"status_notes"`
	Justification string               `json:"justification"`
	Impact        string               `json:"impact_statement"`
	Action        string               `json:"action_statement"`
	ActionTime    time.Time            `json:"action_statement_timestamp"`
}

type openVEXVulnerability struct {
	ID          string   `json:"@id"`
	Name        string   `json:"name"`
	Description string   `json:"description"`
	Aliases     []string `json:"aliases"`
}

type openVEXComponent struct {
	ID          string            `json:"@id"`
	Identifiers map[string]string `json:"identifiers"`
	Hashes      map[string]string `json:"hashes"`
	Supplier    string            `json:"supplier"`
}

type openVEXProduct struct {
	openVEXComponent
	Subcomponents []openVEXComponent `json:"subcomponents"`
}

// justifications are the labels of "Status Justifications", which CSAF's flags
// share (CSAF 2.0, section 3.2.3.5).
var justifications = []string{
	"component_not_present", "vulnerable_code_not_present", "vulnerable_code_not_in_execute_path",
	"vulnerable_code_cannot_be_controlled_by_adversary", "inline_mitigations_already_exist",
}

func (d *Document) openVEX(data []byte) error {
	var doc openVEXDocument
	if err := decodeStrict(data, &doc); err != nil {
		return err
	}
	switch {
	case doc.Context == "https://openvex.dev/ns":
		return errors.New(`@context: OpenVEX before version 0.2, which names products in another way; "vexctl merge" of this one file writes it anew`)
	case doc.Context != openVEXContext:
		return fmt.Errorf("@context: %q is not %q", clip(doc.Context), openVEXContext)
	case strings.TrimSpace(doc.Author) == "":
		return errors.New("author: missing")
	case doc.ID == "":
		return errors.New("@id: missing")
	case doc.Timestamp.IsZero():
		return errors.New("timestamp: missing")
	case len(doc.Statements) == 0:
		return errors.New("statements: there are none")
	}
	d.ID, d.Author = doc.ID, doc.Author
	products := 0
	for i, raw := range doc.Statements {
		place := fmt.Sprintf("statements[%d]", i)
		var in openVEXStatement
		if err := decodeStrict(raw, &in); err != nil {
			return fmt.Errorf("%s: %w", place, err)
		}
		if products += len(in.Products); products > maxProducts {
			return fmt.Errorf("%s: more than %d products in all", place, maxProducts)
		}
		s, err := d.openVEXStatement(place, &in)
		if err != nil {
			return fmt.Errorf("%s.%w", place, err)
		}
		if s.Time = latest(in.Timestamp, in.LastUpdated); s.Time.IsZero() {
			s.Time = latest(doc.Timestamp, doc.LastUpdated)
		}
		d.Statements = append(d.Statements, s)
	}
	return nil
}

// openVEXStatement checks what hides a vulnerability if it is wrong. An
// "affected" without an action, which the specification wants, passes.
func (d *Document) openVEXStatement(place string, in *openVEXStatement) (Statement, error) {
	s := Statement{
		VEXStatement: analyzer.VEXStatement{
			Status: in.Status, Vulnerability: in.Vulnerability.Name, Justification: in.Justification,
			Impact: in.Impact, Action: in.Action, Author: d.Author, Document: d.ID, Source: d.Name + ": " + place,
		},
		IDs: identifiers(append([]string{in.Vulnerability.Name}, in.Vulnerability.Aliases...)...),
	}
	switch {
	case strings.TrimSpace(in.Vulnerability.Name) == "":
		return s, errors.New("vulnerability.name: missing")
	case len(in.Products) == 0:
		return s, errors.New("products: there are none, so it does not say where")
	case in.Justification != "" && !slices.Contains(justifications, in.Justification):
		return s, fmt.Errorf("justification: %q is not one of %s", clip(in.Justification), strings.Join(justifications, ", "))
	}
	switch in.Status {
	case analyzer.VEXNotAffected:
		if in.Justification == "" && strings.TrimSpace(in.Impact) == "" {
			return s, errors.New("status: not_affected needs a justification or an impact_statement")
		}
	case analyzer.VEXAffected, analyzer.VEXFixed, analyzer.VEXUnderInvestigation:
	default:
		return s, fmt.Errorf("status: %q is not not_affected, affected, fixed or under_investigation", clip(string(in.Status)))
	}
	for i := range in.Products {
		p, warning, err := openVEXProducts(&in.Products[i])
		if err != nil {
			return s, fmt.Errorf("products[%d]%w", i, err)
		}
		if warning == "" {
			warning = undatedFix(in.Status, p)
		}
		if warning != "" {
			d.warn("%s.products[%d]: %s", place, i, warning)
		}
		s.Products = append(s.Products, p...)
	}
	return s, nil
}

// openVEXProducts returns the products that a component with its
// subcomponents means: one for each purl and hash. A warning says why there
// are none.
func openVEXProducts(in *openVEXProduct) (out []Product, warning string, err error) {
	var subs []packagePattern
	for i := range in.Subcomponents {
		sub := &in.Subcomponents[i]
		found := false
		for _, purl := range sub.purls() {
			p, err := parsePURL(purl)
			if err != nil {
				return nil, "", fmt.Errorf(".subcomponents[%d]: %w", i, err)
			}
			subs, found = append(subs, p), true
		}
		if !found && warning == "" {
			warning = fmt.Sprintf("subcomponents[%d] has no purl: it matches nothing", i)
		}
	}
	if len(in.Subcomponents) > 0 && len(subs) == 0 {
		return nil, warning, nil // without its subcomponents it would mean more
	}
	for _, purl := range in.purls() {
		p, err := parseProduct(purl)
		if err != nil {
			return nil, "", fmt.Errorf(": %w", err)
		}
		p.subcomponents = subs
		out = append(out, p)
	}
	if dgst := in.Hashes["sha-256"]; len(out) == 0 && dgst != "" {
		i, err := imageOfHash(dgst)
		if err != nil {
			return nil, "", fmt.Errorf(".hashes: %w", err)
		}
		out = append(out, Product{image: i, subcomponents: subs})
	}
	switch {
	case len(out) == 0:
		warning = "no purl and no sha-256: it matches nothing"
	case warning == "":
		warning = out[0].unmatchable()
	}
	return out, warning, nil
}

// purls are those of a component: its @id, if that is one, and its identifier.
func (c *openVEXComponent) purls() []string {
	var out []string
	for _, s := range []string{c.ID, c.Identifiers["purl"]} {
		if strings.HasPrefix(s, "pkg:") && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// undatedFix is a warning for a "fixed" that does not say in which build.
func undatedFix(status analyzer.VEXStatus, products []Product) string {
	if status == analyzer.VEXFixed && slices.ContainsFunc(products, func(p Product) bool { return !p.exact() }) {
		return "fixed without a version or digest: it matches nothing"
	}
	return ""
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// clip keeps a foreign text short in a message.
func clip(s string) string {
	const limit = 80
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}
