package extract

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	maxRPMs     = 200_000
	maxRPMText  = 64 << 20  // bytes of the texts of all packages of a database: many may share the same pages
	maxText     = 4096      // bytes of one text
	maxRPMFiles = 1 << 20   // of one package
	maxHeader   = 256 << 20 // rpm's own limit (header.c, headerMaxbytes)
)

// The tags that are read, and their types (rpmtag.h, rpmTagType_e).
const (
	tagName       = 1000
	tagVersion    = 1001
	tagRelease    = 1002
	tagEpoch      = 1003
	tagArch       = 1022
	tagSourceRPM  = 1044
	tagModularity = 5096
	tagDirIndexes = 1116
	tagBasenames  = 1117
	tagDirNames   = 1118

	typeInt32       = 4
	typeString      = 6
	typeStringArray = 8
	typeI18NString  = 9
)

// header is what is read of an rpm header.
type header struct {
	name, version, release, arch, source, modularity string
	epoch                                            uint32

	baseNames, dirNames, dirIndexes array
}

// text is how many bytes the header's texts have.
func (h *header) text() int {
	return len(h.name) + len(h.version) + len(h.release) + len(h.arch) + len(h.source) + len(h.modularity)
}

// array is a header's array, not yet read.
type array struct {
	data  []byte // from its start to the end of all data
	count int
}

// parseHeader reads a header as rpm keeps it in its database: the number of
// index entries and of data bytes, the index, the data, all big-endian (RPM
// documentation, "RPM Package format", and header.c).
func parseHeader(b []byte) (*header, error) {
	if len(b) < 8 {
		return nil, errors.New("header: too short")
	}
	entries, size := int64(binary.BigEndian.Uint32(b)), int64(binary.BigEndian.Uint32(b[4:]))
	if entries == 0 || entries > 1<<20 || 8+16*entries+size > int64(len(b)) {
		return nil, fmt.Errorf("header: %d entries and %d data bytes in %d bytes", entries, size, len(b))
	}
	index, data := b[8:8+16*entries], b[8+16*entries:8+16*entries+size]
	h := &header{}
	for ; len(index) > 0; index = index[16:] {
		tag, typ, off, count := binary.BigEndian.Uint32(index), binary.BigEndian.Uint32(index[4:]), binary.BigEndian.Uint32(index[8:]), binary.BigEndian.Uint32(index[12:])
		var err error
		switch tag {
		case tagBasenames:
			h.baseNames, err = arrayAt(typ == typeStringArray, off, count, 1, data)
		case tagDirNames:
			h.dirNames, err = arrayAt(typ == typeStringArray, off, count, 1, data)
		case tagDirIndexes:
			h.dirIndexes, err = arrayAt(typ == typeInt32, off, count, 4, data)
		default:
			err = h.set(tag, typ, off, data)
		}
		if err != nil {
			return nil, err
		}
	}
	return h, nil
}

func (h *header) set(tag, typ, off uint32, data []byte) error {
	var dst *string
	switch tag {
	case tagName:
		dst = &h.name
	case tagVersion:
		dst = &h.version
	case tagRelease:
		dst = &h.release
	case tagArch:
		dst = &h.arch
	case tagSourceRPM:
		dst = &h.source
	case tagModularity:
		dst = &h.modularity
	case tagEpoch:
		if typ != typeInt32 || uint64(off)+4 > uint64(len(data)) {
			return errors.New("header: bad epoch")
		}
		h.epoch = binary.BigEndian.Uint32(data[off:])
		return nil
	default:
		return nil
	}
	if typ != typeString && typ != typeI18NString || uint64(off) > uint64(len(data)) {
		return fmt.Errorf("header: bad tag %d", tag)
	}
	n := bytes.IndexByte(data[off:], 0)
	if n < 0 || n > maxText {
		return fmt.Errorf("header: tag %d has no end", tag)
	}
	*dst = string(data[off : int(off)+n])
	return nil
}

func arrayAt(ok bool, off, count, size uint32, data []byte) (array, error) {
	if !ok || count > maxRPMFiles || uint64(off)+uint64(count)*uint64(size) > uint64(len(data)) {
		return array{}, errors.New("header: bad file list")
	}
	return array{data[off:], int(count)}, nil
}

// strings returns the elements of an array of texts.
func (a array) strings() ([]string, error) {
	out := make([]string, 0, a.count)
	for b := a.data; len(out) < a.count; {
		n := bytes.IndexByte(b, 0)
		if n < 0 || n > maxText {
			return nil, errors.New("header: the file list has no end")
		}
		out, b = append(out, string(b[:n])), b[n+1:]
	}
	return out, nil
}

// eachFile calls f with the path of each of the package's files: its base name
// and, by an index, its directory (RPM documentation, "RPM Tags", Basenames,
// Dirindexes, Dirnames).
func (h *header) eachFile(f func(string)) error {
	dirs, err := h.dirNames.strings()
	if err != nil {
		return err
	}
	names, err := h.baseNames.strings()
	if err != nil {
		return err
	}
	if len(names) != h.dirIndexes.count {
		return errors.New("header: bad file list")
	}
	for i, name := range names {
		d := binary.BigEndian.Uint32(h.dirIndexes.data[4*i:])
		if uint64(d) >= uint64(len(dirs)) {
			return errors.New("header: bad file list")
		}
		f(dirs[d] + name)
	}
	return nil
}
