package inflate

import "math/bits"

const (
	litBits    = 11 // of the index of a litTable; longer codes go on in a second lookup
	distBits   = 8
	repeatBits = 7  // the longest code of its kind, so there is no second lookup
	maxCode    = 15 // bits of the longest code (RFC 1951, 3.2.7)
	maxLits    = 286
	maxDists   = 30
	maxRepeats = 19
	endOfBlock = 256

	// A table that starts with n bits needs as much room for m symbols at most
	// (zlib's "enough" for the complete codes of m symbols and 15 bits).
	litSize  = 2342 // enough 288 11 15
	distSize = 402  // enough 32 8 15
)

// An entry of a table tells all about the symbol that some bits begin with:
//
//	bits 0–7   how many bits the code and what belongs to it take
//	bits 8–11  how many of them are the code's; the rest are the number to add
//	bits 12–14 flags
//	bits 16–30 the length's or distance's base, or where the second lookup begins
//
// A literal, which has flagLiteral, has its byte there.
type entry = uint32

const (
	flagLiteral entry = 1 << 31
	flagSpecial entry = 1 << 14 // one of the next two, or invalid
	flagEnd     entry = 1 << 13 // the block's end
	flagSecond  entry = 1 << 12 // go on with the table at the base; bits 8–11 are its width

	invalid = flagSpecial
)

// codeEntry adds to what an entry is that its code has n bits.
func codeEntry(e entry, n uint) entry { return e + entry(n) | entry(n)<<8 }

// with is a base to which n more bits are added.
func with(base, n entry) entry { return base<<16 | n }

// lengths are the entries of the symbols from 257 on (RFC 1951, 3.2.5).
var lengths = [...]entry{
	with(3, 0), with(4, 0), with(5, 0), with(6, 0), with(7, 0), with(8, 0), with(9, 0), with(10, 0),
	with(11, 1), with(13, 1), with(15, 1), with(17, 1), with(19, 2), with(23, 2), with(27, 2), with(31, 2),
	with(35, 3), with(43, 3), with(51, 3), with(59, 3), with(67, 4), with(83, 4), with(99, 4), with(115, 4),
	with(131, 5), with(163, 5), with(195, 5), with(227, 5), with(258, 0), invalid, invalid,
}

// distances are the entries of the distance symbols (RFC 1951, 3.2.5).
var distances = [...]entry{
	with(1, 0), with(2, 0), with(3, 0), with(4, 0), with(5, 1), with(7, 1), with(9, 2), with(13, 2),
	with(17, 3), with(25, 3), with(33, 4), with(49, 4), with(65, 5), with(97, 5), with(129, 6), with(193, 6),
	with(257, 7), with(385, 7), with(513, 8), with(769, 8), with(1025, 9), with(1537, 9), with(2049, 10), with(3073, 10),
	with(4097, 11), with(6145, 11), with(8193, 12), with(12289, 12), with(16385, 13), with(24577, 13), invalid, invalid,
}

// litSymbols are the entries of all symbols of the literal and length code.
func litSymbols() (s [maxLits + 2]entry) {
	for i := range endOfBlock {
		s[i] = flagLiteral | with(entry(i), 0)
	}
	s[endOfBlock] = flagSpecial | flagEnd
	copy(s[endOfBlock+1:], lengths[:])
	return s
}

// repeatSymbols are those of the code in which the others' lengths are written.
func repeatSymbols() (s [maxRepeats]entry) {
	for i := range s {
		s[i] = with(entry(i), 0)
	}
	return s
}

// build fills table, which begins with 1<<width entries, from the lengths of the
// symbols' codes; 0 means that a symbol has none. It reports false for lengths
// that are no prefix code: over-subscribed or incomplete ones (RFC 1951, 3.2.2).
// A single code of one bit is accepted, and no code at all, as zlib does: what
// is not a code gives an invalid entry.
func build(table []entry, width uint, lens []uint8, symbols []entry) bool {
	var count [maxCode + 1]int
	for _, n := range lens {
		count[n]++
	}
	longest := uint(maxCode)
	for longest > 0 && count[longest] == 0 {
		longest--
	}
	if longest == 0 {
		for i := range 1 << width {
			table[i] = invalid
		}
		return true
	}
	// Symbols by the length of their code, those of one length in their order.
	var sorted [maxLits + 2]uint16
	var offset [maxCode + 2]int
	left := 1
	for n := 1; n <= maxCode; n++ {
		if left = left<<1 - count[n]; left < 0 {
			return false
		}
		offset[n+1] = offset[n] + count[n]
	}
	for s, n := range lens {
		if n != 0 {
			sorted[offset[n]] = uint16(s)
			offset[n]++
		}
	}
	if left > 0 && longest > 1 {
		return false
	}
	if left > 0 { // one code of one bit
		e := codeEntry(symbols[sorted[0]], 1)
		for i := 0; i < 1<<width; i += 2 {
			table[i], table[i+1] = e, invalid|1
		}
		return true
	}
	fill(table, width, longest, &count, sorted[:], symbols)
	return true
}

// fill writes the entries of a complete code. Codes are counted up bit-reversed,
// as they are in the stream; the table doubles with each more bit of a code.
func fill(table []entry, width, longest uint, count *[maxCode + 1]int, sorted []uint16, symbols []entry) {
	code, next, size := uint(0), 0, uint(1)
	n := uint(1)
	for ; n <= width; n++ {
		copy(table[size:2*size], table[:size])
		size *= 2
		for range count[n] {
			table[code] = codeEntry(symbols[sorted[next]], n)
			next++
			code = following(code, n)
		}
	}
	if longest <= width {
		return
	}
	end := uint(1) << width
	prefix, start, second := ^uint(0), end, uint(0)
	for ; n <= longest; n++ {
		for left := count[n]; left > 0; left-- {
			if p := code & (1<<width - 1); p != prefix {
				prefix, start = p, end
				// As wide as the codes with this prefix need: until they fill it.
				second = n - width
				for used := left; used < 1<<second; {
					second++
					used = used<<1 + count[width+second]
				}
				end += 1 << second
				table[p] = flagSpecial | flagSecond | entry(start)<<16 | entry(second)<<8
			}
			e := codeEntry(symbols[sorted[next]], n)
			next++
			for i := code >> width; i < 1<<second; i += 1 << (n - width) {
				table[start+i] = e
			}
			code = following(code, n)
		}
	}
}

// following is the code after code of n bits, both bit-reversed. After the last
// one, all ones, it is that again.
func following(code, n uint) uint {
	zeros := ^code & (1<<n - 1)
	if zeros == 0 {
		return code
	}
	top := uint(1) << (bits.Len(zeros) - 1)
	return code&(top-1) | top
}
