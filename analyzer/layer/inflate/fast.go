package inflate

import "encoding/binary"

const (
	// inSlack is how many bytes one round of fast may load.
	inSlack = 16
	// outSlack is how many bytes one round of fast may write: three literals, the longest match, and what its last word has too many.
	outSlack = 3 + 258 + 16
)

// fast decodes symbols while there is room to be generous: it loads and stores
// words that go beyond what a symbol needs. It stops at the block's end, or near
// the end of out or of what is buffered of the input.
func (d *decoder) fast(out []byte, start, at int) (int, error) {
	in, err := d.in.Peek(d.in.Buffered())
	if err != nil {
		return at, err
	}
	var (
		lit, distance = &d.lit, &d.distance
		bits, n       = d.bits, uint64(d.nbits) // of n only the low 6 bits matter
		pos           int
		lastIn        = len(in) - inSlack
		lastOut       = len(out) - outSlack
	)
	// 56 bits or more are there after a refill. Three literals take 33
	// of them; two and a length 42; a distance after that may need another one.
	for pos <= lastIn && at <= lastOut {
		bits |= load(in, pos) << (n & 63)
		pos += int((63 - n&63) >> 3)
		n |= 56

		e := lit[bits&(1<<litBits-1)]
		if e&flagLiteral != 0 {
			out[at] = byte(e >> 16)
			at++
			bits >>= e & 63
			n -= uint64(e)
			e = lit[bits&(1<<litBits-1)]
			if e&flagLiteral != 0 {
				out[at] = byte(e >> 16)
				at++
				bits >>= e & 63
				n -= uint64(e)
				e = lit[bits&(1<<litBits-1)]
				if e&flagLiteral != 0 {
					out[at] = byte(e >> 16)
					at++
					bits >>= e & 63
					n -= uint64(e)
					continue
				}
			}
		}
		if e&flagSpecial != 0 {
			if e&flagSecond != 0 {
				e = lit[uint64(e>>16)+bits>>litBits&(1<<(e>>8&0xf)-1)]
			}
			if e&flagLiteral != 0 {
				out[at] = byte(e >> 16)
				at++
				bits >>= e & 63
				n -= uint64(e)
				continue
			}
			if e&flagSpecial != 0 {
				bits >>= e & 63
				n -= uint64(e)
				if e&flagEnd == 0 {
					err = corrupt("no literal or length has this code")
				} else {
					d.endBlock()
				}
				break
			}
		}
		length := value(e, bits)
		bits >>= e & 63
		n -= uint64(e)

		if n&63 < maxCode+13 {
			bits |= load(in, pos) << (n & 63)
			pos += int((63 - n&63) >> 3)
			n |= 56
		}
		e = distance[bits&(1<<distBits-1)]
		if e&flagSpecial != 0 {
			if e&flagSecond != 0 {
				e = distance[uint64(e>>16)+bits>>distBits&(1<<(e>>8&0xf)-1)]
			}
			if e&flagSpecial != 0 {
				err = corrupt("no distance has this code")
				break
			}
		}
		dist := value(e, bits)
		bits >>= e & 63
		n -= uint64(e)
		if dist > at-start {
			err = errDistance
			break
		}
		copyMatch(out, at, dist, length)
		at += length
	}
	// Bytes that were loaded and not used go back.
	n &= 63
	pos -= int(n >> 3)
	n &= 7
	d.bits, d.nbits = bits&(1<<n-1), uint(n)
	if _, derr := d.in.Discard(pos); derr != nil {
		return at, derr
	}
	return at, err
}

func load(b []byte, at int) uint64 { return binary.LittleEndian.Uint64(b[at:]) }

// copyMatch copies length bytes from dist bytes before at, in words; out has 16
// bytes of room behind them. What the words write too much is written again.
func copyMatch(out []byte, at, dist, length int) {
	from, end := at-dist, at+length
	if dist < 8 {
		// After the first word, the pattern can be read from a word or more back.
		for i := range 8 {
			out[at+i] = out[from+i]
		}
		at += 8
		from = at - int(patternBack[dist])
	}
	for at < end {
		binary.LittleEndian.PutUint64(out[at:], load(out, from))
		binary.LittleEndian.PutUint64(out[at+8:], load(out, from+8))
		at += 16
		from += 16
	}
}

// patternBack is the least multiple of a distance that is no less than 8.
var patternBack = [8]uint8{0, 8, 8, 9, 8, 10, 12, 14}
