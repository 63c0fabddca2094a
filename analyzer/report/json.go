package report

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
)

// WriteJSON writes r as one indented JSON object with a final newline, of the
// shape that Schema tells. Lists are never null.
func WriteJSON(w io.Writer, r Result) error { return writeJSON(w, r) }

//go:embed scan.schema.json
var schema []byte

// Schema returns the JSON Schema (draft 2020-12) of what WriteJSON writes.
// Later versions only add to it.
func Schema() []byte { return append([]byte(nil), schema...) }

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}
