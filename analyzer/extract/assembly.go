package extract

import (
	"context"
	"debug/pe"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"strings"
	"unicode/utf16"

	"github.com/sluiceproxy/sluice/analyzer"
)

// A managed assembly is a PE file with a CLI header (ECMA-335, II.25.3.3).
const (
	peResources = 2  // IMAGE_DIRECTORY_ENTRY_RESOURCE
	peCLI       = 14 // IMAGE_DIRECTORY_ENTRY_COM_DESCRIPTOR
	rtVersion   = 16 // RT_VERSION
	maxVersion  = 64 << 10
)

func isAssembly(f file) bool {
	ext := strings.ToLower(path.Ext(f.base))
	return f.binary && (ext == ".dll" || ext == ".exe") && !strings.HasSuffix(strings.ToLower(f.base), ".resources.dll")
}

// parseAssembly names a .NET assembly by its version resource: the NuGet
// package's version is its ProductVersion ("8.0.1+bf5e279"). The version in the
// CLI metadata is not used: it stays at 13.0.0.0 for all of Newtonsoft.Json
// 13.0.x, so that fixed packages would look affected. Other PE files, and
// assemblies without such a resource, give nothing.
func parseAssembly(_ context.Context, _ *Session, p string, c Content) ([]analyzer.Package, error) {
	f, err := pe.NewFile(io.NewSectionReader(c, 0, c.Size))
	if err != nil {
		return nil, nil //nolint:nilerror // "MZ" also starts files for DOS
	}
	defer f.Close()
	if rva, _ := peDirectory(f, peCLI); rva == 0 {
		return nil, nil
	}
	rva, _ := peDirectory(f, peResources)
	if rva == 0 {
		return nil, nil
	}
	info, err := versionResource(f, rva)
	if err != nil {
		return nil, fmt.Errorf("version resource: %w", err)
	}
	version := assemblyVersion(info["ProductVersion"])
	if version == "" {
		version = assemblyVersion(info["FileVersion"])
	}
	name := info["OriginalFilename"]
	if name == "" {
		name = info["InternalName"]
	}
	if name == "" {
		name = path.Base(p)
	}
	if ext := path.Ext(name); strings.EqualFold(ext, ".dll") || strings.EqualFold(ext, ".exe") {
		name = strings.TrimSuffix(name, ext)
	}
	if version == "" {
		return nil, nil
	}
	return one(analyzer.Package{Type: "nuget", Name: name, Version: version, Path: p})
}

var assemblyVersionPattern = regexp.MustCompile(`^[0-9]+(\.[0-9]+){1,3}(-[0-9A-Za-z.-]+)?$`)

// assemblyVersion returns the part of a version text that NuGet would show.
func assemblyVersion(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "+")
	s, _, _ = strings.Cut(s, " ")
	if !assemblyVersionPattern.MatchString(s) {
		return ""
	}
	return s
}

func peDirectory(f *pe.File, i int) (rva, size uint32) {
	switch h := f.OptionalHeader.(type) {
	case *pe.OptionalHeader32:
		if uint32(i) < h.NumberOfRvaAndSizes {
			return h.DataDirectory[i].VirtualAddress, h.DataDirectory[i].Size
		}
	case *pe.OptionalHeader64:
		if uint32(i) < h.NumberOfRvaAndSizes {
			return h.DataDirectory[i].VirtualAddress, h.DataDirectory[i].Size
		}
	}
	return 0, 0
}

// readRVA reads n bytes at an address of the loaded image.
func readRVA(f *pe.File, rva, n uint32) ([]byte, error) {
	for _, s := range f.Sections {
		if rva < s.VirtualAddress || rva-s.VirtualAddress >= max(s.Size, s.VirtualSize) {
			continue
		}
		b := make([]byte, n)
		if _, err := s.ReadAt(b, int64(rva-s.VirtualAddress)); err != nil {
			return nil, err
		}
		return b, nil
	}
	return nil, fmt.Errorf("no section holds the address %#x", rva)
}

// versionResource follows the resource tree, type, name and language, to the
// first version resource (PE format, "The .rsrc Section"). Nil without one.
func versionResource(f *pe.File, root uint32) (map[string]string, error) {
	at, want := root, uint32(rtVersion)
	for level := 0; ; level++ {
		head, err := readRVA(f, at, 16)
		if err != nil {
			return nil, err
		}
		n := uint32(binary.LittleEndian.Uint16(head[12:])) + uint32(binary.LittleEndian.Uint16(head[14:]))
		if n > 4096 {
			return nil, fmt.Errorf("%d entries", n)
		}
		entries, err := readRVA(f, at+16, 8*n)
		if err != nil {
			return nil, err
		}
		var off uint32
		found := false
		for ; len(entries) > 0 && !found; entries = entries[8:] {
			if level > 0 || binary.LittleEndian.Uint32(entries) == want {
				off, found = binary.LittleEndian.Uint32(entries[4:]), true
			}
		}
		if !found {
			return nil, nil
		}
		if off&(1<<31) == 0 {
			return versionInfo(f, root+off)
		}
		if at = root + off&^(1<<31); level == 2 {
			return nil, errors.New("nested deeper than 3 levels")
		}
	}
}

func versionInfo(f *pe.File, entry uint32) (map[string]string, error) {
	e, err := readRVA(f, entry, 8)
	if err != nil {
		return nil, err
	}
	size := binary.LittleEndian.Uint32(e[4:])
	if size > maxVersion {
		return nil, fmt.Errorf("%d bytes", size)
	}
	b, err := readRVA(f, binary.LittleEndian.Uint32(e), size)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	return out, versionBlock(b, 0, out)
}

// versionBlock reads a block of VS_VERSIONINFO and its children: the length of
// all, the length of the value (characters for text, type 1), the type, the key,
// the value and the children, each at a multiple of 4 bytes. Texts are at depth 3.
func versionBlock(b []byte, depth int, out map[string]string) error {
	key, rest, ok := utf16Text(b[min(6, len(b)):])
	if len(b) < 6 || !ok {
		return errors.New("cut")
	}
	at := align4(len(b) - len(rest))
	size, text := int(binary.LittleEndian.Uint16(b[2:])), binary.LittleEndian.Uint16(b[4:]) == 1
	if depth == 3 {
		if at <= len(b) && text {
			value, _, _ := utf16Text(b[at:])
			out[key] = value
		}
		return nil
	}
	if text {
		size *= 2
	}
	if depth == 1 && key != "StringFileInfo" {
		return nil
	}
	for at = align4(at + size); at+6 <= len(b); {
		n := int(binary.LittleEndian.Uint16(b[at:]))
		if n < 6 || at+n > len(b) {
			return nil // padding
		}
		if err := versionBlock(b[at:at+n], depth+1, out); err != nil {
			return err
		}
		at = align4(at + n)
	}
	return nil
}

func align4(n int) int { return (n + 3) &^ 3 }

// utf16Text returns the text up to a zero, and what follows it; ok is false
// without a zero.
func utf16Text(b []byte) (text string, rest []byte, ok bool) {
	var u []uint16
	for ; len(b) >= 2; b = b[2:] {
		c := binary.LittleEndian.Uint16(b)
		if c == 0 {
			return string(utf16.Decode(u)), b[2:], true
		}
		u = append(u, c)
	}
	return string(utf16.Decode(u)), nil, false
}
