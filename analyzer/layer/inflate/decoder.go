package inflate

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// Window is how far back a match may reach, in bytes (RFC 1951, 2).
const Window = 32 << 10

// ErrCorrupt is for a stream that is not what it should be. What was inflated
// up to there is right as far as anyone can tell.
var ErrCorrupt = errors.New("corrupt data")

func corrupt(what string) error { return fmt.Errorf("%w: %s", ErrCorrupt, what) }

// decoder inflates one DEFLATE stream (RFC 1951) after another.
type decoder struct {
	in    *bufio.Reader
	bits  uint64 // what was taken from in and not used yet, lowest bit first
	nbits uint   // how many of bits are valid: fewer than 8 between symbols

	block  blockKind
	last   bool // this block is the stream's last
	stored int  // bytes of a stored block to come
	length int  // bytes of a match to come, for which there was no room
	dist   int  // of that match

	lit        [litSize]entry
	distance   [distSize]entry
	repeat     [1 << repeatBits]entry
	lens       [maxLits + 2 + maxDists + 2]uint8
	litSymbols [maxLits + 2]entry
	repeats    [maxRepeats]entry
}

type blockKind uint8

const (
	between blockKind = iota // a block's header comes next
	stored
	coded
	ended
)

// reset begins with a new stream.
func (d *decoder) reset() {
	d.block, d.last, d.bits, d.nbits, d.length = between, false, 0, 0, 0
}

// decode inflates into out[from:] until that is full or the stream ends, and
// returns where it stopped. The bytes of out[start:from] are what this stream
// has given last, Window of them or all. err is io.EOF at the stream's end.
func (d *decoder) decode(out []byte, start, from int) (at int, err error) {
	for at = from; at < len(out); {
		switch d.block {
		case between:
			err = d.header()
		case stored:
			at, err = d.copyStored(out, at)
		case coded:
			at, err = d.inflate(out, start, at)
		case ended:
			err = io.EOF
		}
		if err != nil {
			return at, err
		}
	}
	return at, nil
}

// endBlock goes on after a block's end. What is left of the last one's last
// byte is padding.
func (d *decoder) endBlock() {
	d.block = between
	if d.last {
		d.block = ended
	}
}

// need takes bytes from the input until there are n bits.
func (d *decoder) need(n uint) error {
	for d.nbits < n {
		b, err := d.in.ReadByte()
		if err != nil {
			return cut(err)
		}
		d.bits |= uint64(b) << d.nbits
		d.nbits += 8
	}
	return nil
}

// cut makes an end of the input within a stream what it is.
func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (d *decoder) take(n uint) uint {
	v := uint(d.bits & (1<<n - 1))
	d.bits >>= n
	d.nbits -= n
	return v
}

// next reads one symbol's entry and removes it from the bits. tail is what the
// bits were, for what belongs to the symbol.
func (d *decoder) next(table []entry, width uint) (e entry, tail uint64, err error) {
	for {
		e = table[d.bits&(1<<width-1)]
		if e&flagSecond != 0 {
			e = table[uint64(e>>16)+d.bits>>width&(1<<(e>>8&0xf)-1)]
		}
		n := uint(e & 0xff)
		if n <= d.nbits {
			tail = d.bits
			d.bits >>= n
			d.nbits -= n
			return e, tail, nil
		}
		// The bits beyond nbits are zero, and not the stream's. One byte more: a
		// shorter code that begins with the same bits would have been found.
		if err := d.need(d.nbits + 1); err != nil {
			return 0, 0, err
		}
	}
}

// value is an entry's base and the bits that are added to it.
func value(e entry, tail uint64) int {
	return int(e>>16) + int(tail&(1<<(e&0x3f)-1)>>(e>>8&0xf))
}

// header reads what a block begins with (RFC 1951, 3.2.3).
func (d *decoder) header() error {
	if err := d.need(3); err != nil {
		return err
	}
	d.last = d.take(1) == 1
	switch d.take(2) {
	case 0:
		return d.storedHeader()
	case 1:
		d.fixedCodes()
	case 2:
		if err := d.codes(); err != nil {
			return err
		}
	default:
		return corrupt("a block of the reserved type")
	}
	d.block = coded
	return nil
}

// storedHeader reads a stored block's length (RFC 1951, 3.2.4).
func (d *decoder) storedHeader() error {
	d.bits, d.nbits = 0, 0 // up to the byte's end
	if err := d.need(32); err != nil {
		return err
	}
	n, inverse := d.take(16), d.take(16)
	if n != ^inverse&0xffff {
		return corrupt("a stored block's length")
	}
	d.block, d.stored = stored, int(n)
	if n == 0 {
		d.endBlock()
	}
	return nil
}

func (d *decoder) copyStored(out []byte, at int) (int, error) {
	n, err := io.ReadFull(d.in, out[at:min(len(out), at+d.stored)])
	if err != nil {
		return at + n, cut(err)
	}
	if d.stored -= n; d.stored == 0 {
		d.endBlock()
	}
	return at + n, nil
}

// fixedCodes makes the tables of the codes that a block need not tell (3.2.6).
func (d *decoder) fixedCodes() {
	lens := d.lens[:maxLits+2]
	for i := range lens {
		switch {
		case i < 144, i >= 280:
			lens[i] = 8
		case i < 256:
			lens[i] = 9
		default:
			lens[i] = 7
		}
	}
	build(d.lit[:], litBits, lens, d.litSymbols[:])
	lens = d.lens[:maxDists+2]
	for i := range lens {
		lens[i] = 5
	}
	build(d.distance[:], distBits, lens, distances[:])
}

// repeatOrder is the order in which the lengths of the code of the lengths are
// written (3.2.7).
var repeatOrder = [maxRepeats]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// codes reads the codes of a block and makes their tables (3.2.7).
func (d *decoder) codes() error {
	if err := d.need(14); err != nil {
		return err
	}
	nlit, ndist, nrepeat := d.take(5)+257, d.take(5)+1, d.take(4)+4
	if nlit > maxLits {
		return corrupt("too many literal codes")
	}
	if ndist > maxDists {
		return corrupt("too many distance codes")
	}
	clear(d.lens[:maxRepeats])
	for _, symbol := range repeatOrder[:nrepeat] {
		if err := d.need(3); err != nil {
			return err
		}
		d.lens[symbol] = uint8(d.take(3))
	}
	if !build(d.repeat[:], repeatBits, d.lens[:maxRepeats], d.repeats[:]) {
		return corrupt("the code of the code lengths")
	}
	lens := d.lens[:nlit+ndist]
	if err := d.codeLengths(lens); err != nil {
		return err
	}
	if !build(d.lit[:], litBits, lens[:nlit], d.litSymbols[:]) {
		return corrupt("the literal code")
	}
	if !build(d.distance[:], distBits, lens[nlit:], distances[:]) {
		return corrupt("the distance code")
	}
	return nil
}

func (d *decoder) codeLengths(lens []uint8) error {
	for i := 0; i < len(lens); {
		e, _, err := d.next(d.repeat[:], repeatBits)
		if err != nil {
			return err
		}
		if e&flagSpecial != 0 {
			return corrupt("a code length")
		}
		symbol := uint8(e >> 16)
		if symbol < 16 {
			lens[i] = symbol
			i++
			continue
		}
		var value uint8
		extra, least := uint(7), uint(11)
		switch symbol {
		case 16:
			if i == 0 {
				return corrupt("a repeated code length without a first one")
			}
			value, extra, least = lens[i-1], 2, 3
		case 17:
			extra, least = 3, 3
		}
		if err := d.need(extra); err != nil {
			return err
		}
		n := int(least + d.take(extra))
		if i+n > len(lens) {
			return corrupt("more code lengths than codes")
		}
		for range n {
			lens[i] = value
			i++
		}
	}
	return nil
}

// inflate decodes the symbols of a block until it ends or out is full.
func (d *decoder) inflate(out []byte, start, at int) (int, error) {
	at = d.match(out, at)
	for at < len(out) && d.block == coded {
		var err error
		if len(out)-at >= outSlack && d.in.Buffered() >= inSlack {
			if at, err = d.fast(out, start, at); err != nil || d.block != coded {
				return at, err
			}
		}
		if at, err = d.careful(out, start, at); err != nil {
			return at, err
		}
	}
	return at, nil
}

// careful decodes one symbol, with as many bytes of the input as it takes, into
// what room there is.
func (d *decoder) careful(out []byte, start, at int) (int, error) {
	e, tail, err := d.next(d.lit[:], litBits)
	switch {
	case err != nil:
		return at, err
	case e&flagLiteral != 0:
		out[at] = byte(e >> 16)
		return at + 1, nil
	case e&flagEnd != 0:
		d.endBlock()
		return at, nil
	case e&flagSpecial != 0:
		return at, corrupt("no literal or length has this code")
	}
	length := value(e, tail)
	e, tail, err = d.next(d.distance[:], distBits)
	switch {
	case err != nil:
		return at, err
	case e&flagSpecial != 0:
		return at, corrupt("no distance has this code")
	}
	dist := value(e, tail)
	if dist > at-start {
		return at, errDistance
	}
	d.length, d.dist = length, dist
	return d.match(out, at), nil
}

// errDistance is for a match that begins before the stream.
var errDistance = corrupt("a distance beyond the beginning")

// match copies what there is room for of the match that is due.
func (d *decoder) match(out []byte, at int) int {
	n := min(d.length, len(out)-at)
	d.length -= n
	for range n {
		out[at] = out[at-d.dist]
		at++
	}
	return at
}
