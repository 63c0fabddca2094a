package policy

import (
	"encoding/json"
	"errors"

	"github.com/sluiceproxy/sluice/signing"
)

// Locks are those that the file names, opened by Bind; nil where it names none.
func (p *Policy) Locks() signing.Locks { return p.locks }

// bindLocks reads and opens the file's locks, and names their contents.
func (p *Policy) bindLocks(b Binder) (problems Problems, revision string) {
	if len(p.lockFiles) == 0 {
		return nil, ""
	}
	report := func(l *signing.Lock, err error) {
		at := p.files[l.File]
		var file *fileError
		if errors.As(err, &file) {
			at = p.files[file.name]
		}
		problems = append(problems, Problem{File: p.name, Line: max(at.line, 1), Column: max(at.column, 1), Message: oneLine(err.Error())})
	}
	loaded := make([]signing.Lock, len(p.lockFiles))
	for i := range p.lockFiles {
		var err error
		if loaded[i], err = p.lockFiles[i].Load(b.read); err != nil {
			report(&p.lockFiles[i], err)
		}
	}
	if len(problems) > 0 {
		return problems, ""
	}
	if b.OpenLocks == nil {
		report(&loaded[0], errors.New("locks cannot be read here"))
		return problems, ""
	}
	for i := range loaded { // one by one, to say which is wrong
		if _, err := b.OpenLocks(loaded[i : i+1]); err != nil {
			report(&loaded[i], err)
		}
	}
	if len(problems) > 0 {
		return problems, ""
	}
	locks, err := b.OpenLocks(loaded)
	if err != nil {
		report(&loaded[0], err)
		return problems, ""
	}
	text, err := json.Marshal(loaded)
	if err != nil {
		report(&loaded[0], err)
		return problems, ""
	}
	p.locks = locks
	return nil, string(text)
}

// read is Read with the file's name in the error.
func (b *Binder) read(name string) ([]byte, error) {
	data, err := b.Read(name)
	if err != nil {
		return nil, &fileError{name, err}
	}
	return data, nil
}
