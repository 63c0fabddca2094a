package secret

import "encoding/binary"

// filterBits is the size of a filter's table: small enough for the nearest
// cache, large enough that one place in 200 of other text looks like a keyword.
const filterBits = 14

// filter finds the places of many keywords in one pass, some 650 MB in a second
// of a processor. It looks at groups of three bytes, of which each keyword has a
// rare one.
type filter struct {
	table [1 << filterBits]uint8 // 1 + index into buckets; 0 = no keyword has this group
	rules [][]keyword
}

// keyword is one literal text, found by the group at its offset at.
type keyword struct {
	text string
	at   int
	rule *rule
}

func group(x uint32) uint32 { return x & 0xffffff * 0x9e3779b1 >> (32 - filterBits) }

// newFilter returns a filter of the keywords of rs: 255 at most, of 3 bytes at least.
func newFilter(rs []rule) *filter {
	f := &filter{}
	for i := range rs {
		k := keyword{rs[i].keyword, rarest(rs[i].keyword), &rs[i]}
		g := group(uint32(k.text[k.at]) | uint32(k.text[k.at+1])<<8 | uint32(k.text[k.at+2])<<16)
		if f.table[g] == 0 {
			f.rules = append(f.rules, nil)
			f.table[g] = uint8(len(f.rules))
		}
		b := &f.rules[f.table[g]-1]
		*b = append(*b, k)
	}
	return f
}

// rarest returns the offset of the group with the fewest lower-case letters,
// the last of them: tokens have capitals, digits and marks where words have not.
func rarest(s string) int {
	best, least := 0, 4
	for i := 0; i+3 <= len(s); i++ {
		n := 0
		for _, c := range []byte(s[i : i+3]) {
			if 'a' <= c && c <= 'z' || c == '-' || c == ' ' {
				n++
			}
		}
		if n <= least {
			best, least = i, n
		}
	}
	return best
}

// find calls hit for each keyword that starts in text[from:to], in the order of
// the text as far as their groups tell.
func (f *filter) find(text []byte, from, to int, hit func(r *rule, at int)) {
	// A keyword that starts before to may have its group behind it.
	i, end := from, min(len(text), to+maxKeyword)
	for ; i+8 <= end; i += 6 {
		x := binary.LittleEndian.Uint64(text[i:])
		if f.table[group(uint32(x))]|f.table[group(uint32(x>>8))]|f.table[group(uint32(x>>16))]|
			f.table[group(uint32(x>>24))]|f.table[group(uint32(x>>32))]|f.table[group(uint32(x>>40))] == 0 {
			continue
		}
		for k := range 6 {
			f.check(text, from, to, i+k, hit)
		}
	}
	for ; i+3 <= end; i++ {
		f.check(text, from, to, i, hit)
	}
}

// check looks for the keywords with the group at text[i:].
func (f *filter) check(text []byte, from, to, i int, hit func(r *rule, at int)) {
	b := f.table[group(uint32(text[i])|uint32(text[i+1])<<8|uint32(text[i+2])<<16)]
	if b == 0 {
		return
	}
	for _, k := range f.rules[b-1] {
		at := i - k.at
		if at >= from && at < to && at+len(k.text) <= len(text) && string(text[at:at+len(k.text)]) == k.text {
			hit(k.rule, at)
		}
	}
}
