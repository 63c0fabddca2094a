package vex

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/sluiceproxy/sluice/analyzer"
)

const (
	// MaxBytes is the size of the largest document that is read.
	MaxBytes = 64 << 20
	// maxProducts bounds the products of all statements of a document.
	maxProducts = 1 << 20
)

// Document is one VEX document.
type Document struct {
	Name   string // as given to Parse
	ID     string // its own
	Author string
	// Statements are in the order of the document. A statement on several
	// products is one Statement.
	Statements []Statement
	// Warnings say which products cannot match anything, and why.
	Warnings []string

	sum [sha256.Size]byte
}

// Statement is what a document says of one vulnerability in some products.
type Statement struct {
	analyzer.VEXStatement
	IDs      []string // of the vulnerability: its name and aliases, in upper case
	Products []Product
}

// Parse reads an OpenVEX document of version 0.2 (github.com/openvex/spec) or
// a CSAF 2.0 document of the profile VEX (OASIS CSAF 2.0, section 4.5). The
// name stands for it in errors, which tell the place.
func Parse(name string, data []byte) (Document, error) {
	d := Document{Name: name, sum: sha256.Sum256(data)}
	if err := d.parse(data); err != nil {
		return Document{}, fmt.Errorf("VEX %s: %w", name, err)
	}
	return d, nil
}

func (d *Document) parse(data []byte) error {
	if len(data) > MaxBytes {
		return fmt.Errorf("larger than %d bytes", MaxBytes)
	}
	var top map[string]json.RawMessage
	if err := decode(data, &top); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			before := data[:min(int64(len(data)), max(0, syntax.Offset))]
			return fmt.Errorf("line %d: %w", 1+bytes.Count(before, []byte("\n")), err)
		}
		return err
	}
	has := func(key string) bool { return top[key] != nil }
	var err error
	switch {
	case has("@context"):
		err = d.openVEX(data)
	case has("document"):
		err = d.csaf(data)
	case has("bomFormat"):
		return errors.New("a CycloneDX document; OpenVEX and CSAF VEX are read")
	case has("predicateType") || has("payloadType"):
		return errors.New("an attestation, not the document in it; OpenVEX and CSAF VEX are read")
	default:
		return errors.New("neither OpenVEX (it has no @context) nor CSAF (it has no document)")
	}
	return err
}

// decode reads exactly one JSON value.
func decode(data []byte, v any) error {
	return decodeWith(json.NewDecoder(bytes.NewReader(data)), v)
}

// decodeStrict is decode, and a key that v does not have is an error.
func decodeStrict(data []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	return decodeWith(dec, v)
}

func decodeWith(dec *json.Decoder, v any) error {
	err := dec.Decode(v)
	if err == nil {
		if _, err = dec.Token(); errors.Is(err, io.EOF) {
			return nil
		}
		return errors.New("there is something after the document")
	}
	if errors.Is(err, io.EOF) {
		return errors.New("it is empty")
	}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return err
	}
	return errors.New(strings.TrimPrefix(err.Error(), "json: "))
}

func (d *Document) warn(format string, args ...any) {
	const most = 100 // a catalogue by CPE would have one for each product
	if len(d.Warnings) < most {
		d.Warnings = append(d.Warnings, fmt.Sprintf(format, args...))
	}
}

// identifiers are ids without empty ones and repetitions, in upper case.
func identifiers(ids ...string) []string {
	var out []string
	seen := map[string]bool{}
	for _, id := range ids {
		if id = strings.ToUpper(strings.TrimSpace(id)); id != "" && !seen[id] {
			seen[id] = true
			out = append(out, id)
		}
	}
	return out
}
