package extract

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	maxRPMs   = 200_000
	maxHeader = 256 << 20 // rpm's own limit (header.c, headerMaxbytes)
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

	typeInt32      = 4
	typeString     = 6
	typeI18NString = 9
)

// header is what is read of an rpm header.
type header struct {
	name, version, release, arch, source, modularity string
	epoch                                            uint32
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
		if err := h.set(binary.BigEndian.Uint32(index), binary.BigEndian.Uint32(index[4:]), binary.BigEndian.Uint32(index[8:]), data); err != nil {
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
	if n < 0 || n > 4096 {
		return fmt.Errorf("header: tag %d has no end", tag)
	}
	*dst = string(data[off : int(off)+n])
	return nil
}
