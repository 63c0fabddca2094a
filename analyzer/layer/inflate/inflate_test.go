package inflate

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	kgzip "github.com/klauspost/compress/gzip"
)

// unpack reads all of a gzip stream in blocks of size bytes.
func unpack(in *bufio.Reader, size int) ([]byte, error) {
	r := NewReader(in)
	var out []byte
	buf := make([]byte, Window+size)
	for {
		n, err := r.ReadBlock(buf)
		out = append(out, buf[Window:Window+n]...)
		switch {
		case errors.Is(err, io.EOF):
			return out, nil
		case err != nil:
			return out, err
		case n != size:
			return out, errors.New("a short block without an error")
		}
	}
}

// unpackRaw inflates one DEFLATE stream, in pieces of size bytes.
func unpackRaw(in *bufio.Reader, size int) ([]byte, error) {
	d := &NewReader(bufio.NewReader(strings.NewReader(""))).d
	d.in = in
	var out []byte
	for {
		from := len(out)
		out = slices.Grow(out, size)[:from+size]
		at, err := d.decode(out, max(0, from-Window), from)
		out = out[:at]
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, err
		}
	}
}

// samples are bytes of different kinds: those that compress well, badly, not at
// all, with near and far matches.
func samples() map[string][]byte {
	random := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 70_000)
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	few := make([]byte, 70_000)
	for i := range few {
		few[i] = "aab\n"[random.IntN(4)]
	}
	var words []byte
	for len(words) < 150_000 {
		words = append(words, strings.Repeat(string(rune('a'+random.IntN(26))), 1+random.IntN(9))...)
		words = append(words, " the of and lib usr share "[random.IntN(20):]...)
		if i := len(words); random.IntN(4) == 0 && i > 40_000 {
			from := i - 1 - random.IntN(Window-300)
			words = append(words, words[from:from+min(i-from, 3+random.IntN(255))]...)
		}
	}
	var periods []byte
	for dist := 1; dist < 40; dist++ {
		p := noise[dist*50 : dist*51]
		periods = append(periods, bytes.Repeat(p, 1+1000/len(p))...)
	}
	skewed := make([]byte, 60_000) // codes of all lengths up to the longest
	for i := range skewed {
		n := 0
		for random.IntN(2) == 0 && n < 255 {
			n++
		}
		skewed[i] = byte(n * 7)
	}
	return map[string][]byte{
		"empty": nil, "one byte": {'x'}, "zeros": make([]byte, 300_000), "noise": noise, "few": few, "words": words,
		"periods": periods, "skewed": skewed,
	}
}

// TestRoundTrip unpacks what compress/flate packed, with every kind of block, of
// input and of output.
func TestRoundTrip(t *testing.T) {
	if testing.Short() {
		t.Skip("long under the race detector")
	}
	for name, want := range samples() {
		for _, level := range []int{gzip.HuffmanOnly, gzip.NoCompression, 1, 6, 9} {
			packed := pack(t, want, level)
			for _, in := range []struct {
				name string
				wrap func(io.Reader) io.Reader
			}{
				{"whole", func(r io.Reader) io.Reader { return r }},
				{"halves", iotest.HalfReader},
				{"bytes", iotest.OneByteReader},
				{"with EOF", iotest.DataErrReader},
			} {
				for _, size := range []int{1, 300, 4097, 256 << 10} {
					if size < 4097 && (level != 6 || len(want) > 200_000) || size == 1 && in.name != "whole" {
						continue // slow
					}
					got, err := unpack(bufio.NewReaderSize(in.wrap(bytes.NewReader(packed)), 1000), size)
					if err != nil || !bytes.Equal(got, want) {
						t.Errorf("%s, level %d, input %s, blocks of %d: %d bytes of %d, %v", name, level, in.name, size, len(got), len(want), err)
					}
				}
			}
		}
	}
}

func pack(t testing.TB, b []byte, level int) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, level)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// bitstream writes bits as DEFLATE has them, lowest first; codes go in with
// their highest bit first.
type bitstream struct {
	b []byte
	n uint
}

func (s *bitstream) bits(v uint, n int) *bitstream {
	for i := range n {
		if s.n%8 == 0 {
			s.b = append(s.b, 0)
		}
		s.b[s.n/8] |= byte(v>>i&1) << (s.n % 8)
		s.n++
	}
	return s
}

func (s *bitstream) code(v uint, n int) *bitstream {
	for i := n - 1; i >= 0; i-- {
		s.bits(v>>i, 1)
	}
	return s
}

// dynamic begins a block with the lengths of its codes, each written in 4 bits.
func dynamic(lit, dist []uint) *bitstream {
	s := new(bitstream).bits(1, 1).bits(2, 2).bits(uint(len(lit)-257), 5).bits(uint(len(dist)-1), 5).bits(15, 4)
	for _, symbol := range repeatOrder { // 16 codes of 4 bits for the lengths 0 to 15
		if symbol < 16 {
			s.bits(4, 3)
		} else {
			s.bits(0, 3)
		}
	}
	for _, n := range append(append([]uint{}, lit...), dist...) {
		s.code(n, 4)
	}
	return s
}

// lits are the code lengths of 257 or more symbols: those of set, and else 0.
func lits(n int, set map[int]uint) []uint {
	l := make([]uint, n)
	for symbol, bits := range set {
		l[symbol] = bits
	}
	return l
}

// malformed are streams that must be refused, one of each kind, and their
// neighbours that must not.
func malformed() map[string]struct {
	b    []byte
	want string // "" = accepted
} {
	type c = struct {
		b    []byte
		want string
	}
	fixed := func() *bitstream { return new(bitstream).bits(1, 1).bits(1, 2) }
	ab := map[int]uint{'a': 1, 256: 1}
	return map[string]c{
		"nothing":                     {nil, "unexpected EOF"},
		"a block of the type 3":       {[]byte{7}, "reserved type"},
		"stored":                      {append([]byte{1, 3, 0, 0xfc, 0xff}, "abc"...), ""},
		"stored, empty":               {[]byte{1, 0, 0, 0xff, 0xff}, ""},
		"stored, lengths differ":      {append([]byte{1, 3, 0, 0xfd, 0xff}, "abc"...), "stored block's length"},
		"stored, cut":                 {append([]byte{1, 3, 0, 0xfc, 0xff}, "ab"...), "unexpected EOF"},
		"stored, cut in its length":   {[]byte{1, 3, 0, 0xfc}, "unexpected EOF"},
		"fixed, empty":                {fixed().code(0, 7).b, ""},
		"fixed, cut":                  {fixed().code(0x30, 8).b[:1], "unexpected EOF"},
		"fixed, match":                {fixed().code(0x30, 8).code(1, 7).code(0, 5).code(0, 7).b, ""},
		"fixed, distance too far":     {fixed().code(0x30, 8).code(1, 7).code(1, 5).code(0, 7).b, "beyond the beginning"},
		"fixed, symbol 286":           {fixed().code(0xc6, 8).b, "no literal or length"},
		"fixed, symbol 287":           {fixed().code(0xc7, 8).b, "no literal or length"},
		"fixed, distance symbol 30":   {fixed().code(0x30, 8).code(1, 7).code(30, 5).b, "no distance"},
		"fixed, distance symbol 31":   {fixed().code(0x30, 8).code(1, 7).code(31, 5).b, "no distance"},
		"fixed, length 258 in 284":    {fixed().code(0x30, 8).code(0xc4, 8).bits(31, 5).code(0, 5).code(0, 7).b, ""},
		"dynamic":                     {dynamic(lits(257, ab), []uint{0}).code(0, 1).code(1, 1).b, ""},
		"dynamic, cut":                {dynamic(lits(257, ab), []uint{0}).b[:20], "unexpected EOF"},
		"dynamic, 287 literals":       {dynamic(lits(287, ab), []uint{0}).code(1, 1).b, "too many literal codes"},
		"dynamic, 31 distances":       {dynamic(lits(257, ab), make([]uint, 31)).code(1, 1).b, "too many distance codes"},
		"literals over-subscribed":    {dynamic(lits(257, map[int]uint{'a': 1, 'b': 1, 256: 1}), []uint{0}).code(1, 1).b, "the literal code"},
		"literals incomplete":         {dynamic(lits(257, map[int]uint{'a': 2, 256: 1}), []uint{0}).code(0, 1).b, "the literal code"},
		"no literals at all":          {dynamic(lits(257, nil), []uint{0}).bits(0, 8).b, "no literal or length"},
		"only the end":                {dynamic(lits(257, map[int]uint{256: 1}), []uint{0}).code(0, 1).b, ""},
		"only the end, another code":  {dynamic(lits(257, map[int]uint{256: 1}), []uint{0}).code(1, 1).b, "no literal or length"},
		"only the end, in two bits":   {dynamic(lits(257, map[int]uint{256: 2}), []uint{0}).code(0, 2).b, "the literal code"},
		"distances over-subscribed":   {dynamic(lits(257, ab), []uint{1, 1, 1}).code(1, 1).b, "the distance code"},
		"distances incomplete":        {dynamic(lits(257, ab), []uint{1, 2}).code(1, 1).b, "the distance code"},
		"one distance":                {dynamic(lits(258, map[int]uint{'a': 1, 256: 2, 257: 2}), []uint{1}).code(0, 1).code(3, 2).code(0, 1).code(2, 2).b, ""},
		"one distance, another code":  {dynamic(lits(258, map[int]uint{'a': 1, 256: 2, 257: 2}), []uint{1}).code(0, 1).code(3, 2).code(1, 1).code(2, 2).b, "no distance"},
		"no distances, and a match":   {dynamic(lits(258, map[int]uint{'a': 1, 256: 2, 257: 2}), []uint{0}).code(0, 1).code(3, 2).code(0, 1).code(2, 2).b, "no distance"},
		"repeat of nothing":           {new(bitstream).bits(1, 1).bits(2, 2).bits(0, 14).bits(1, 3).bits(1, 3).bits(0, 6).code(0, 1).bits(0, 40).b, "without a first one"},
		"repeat past the end":         {new(bitstream).bits(1, 1).bits(2, 2).bits(0, 14).bits(0, 6).bits(1, 3).bits(1, 3).code(1, 1).bits(127, 7).code(1, 1).bits(127, 7).b, "more code lengths than codes"},
		"lengths over-subscribed":     {new(bitstream).bits(1, 1).bits(2, 2).bits(0, 14).bits(1, 3).bits(1, 3).bits(1, 3).bits(0, 40).b, "code of the code lengths"},
		"lengths incomplete":          {new(bitstream).bits(1, 1).bits(2, 2).bits(0, 14).bits(2, 3).bits(2, 3).bits(2, 3).bits(0, 40).b, "code of the code lengths"},
		"lengths without a code":      {new(bitstream).bits(1, 1).bits(2, 2).bits(0, 14).bits(0, 12).bits(0, 40).b, "a code length"},
		"lengths cut":                 {new(bitstream).bits(1, 1).bits(2, 2).bits(0, 14).bits(1, 3).b, "unexpected EOF"},
		"two blocks, the last stored": {append(new(bitstream).bits(0, 1).bits(1, 2).code(0x30, 8).code(0, 7).bits(1, 1).bits(0, 2).b, 1, 0, 0xfe, 0xff, 'x'), ""},
	}
}

// TestMalformed decodes each stream, with the room and the input that the fast
// loop wants behind it and without.
func TestMalformed(t *testing.T) {
	for name, tt := range malformed() {
		for _, padding := range []int{0, 64} {
			if padding > 0 && tt.want == "unexpected EOF" {
				continue
			}
			in := append(bytes.Clone(tt.b), bytes.Repeat([]byte{0xee}, padding)...)
			for _, size := range []int{1, 1000} {
				r := bufio.NewReader(bytes.NewReader(in))
				got, err := unpackRaw(r, size)
				if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
					t.Errorf("%s, %d bytes behind it, blocks of %d: error %v, want %q", name, padding, size, err, tt.want)
				}
				compareRaw(t, in, got, err, r)
			}
		}
	}
}

// compareRaw compares a result with that of compress/flate.
func compareRaw(t *testing.T, in, got []byte, err error, rest *bufio.Reader) {
	t.Helper()
	r := bufio.NewReader(bytes.NewReader(in))
	want, werr := io.ReadAll(flate.NewReader(r))
	if (err == nil) != (werr == nil) {
		t.Fatalf("error %v, compress/flate says %v", err, werr)
	}
	if err == nil || errors.Is(err, ErrCorrupt) && !errors.Is(werr, io.ErrUnexpectedEOF) {
		if !bytes.Equal(got, want) {
			t.Fatalf("%d bytes, compress/flate gives %d: %s", len(got), len(want), cmp.Diff(want, got))
		}
	}
	if err != nil {
		if short, long := got, want; !bytes.HasPrefix(long, short) && !bytes.HasPrefix(short, long) {
			t.Fatalf("%q before the error %v, compress/flate gives %q before %v", short, err, long, werr)
		}
		return
	}
	left, wleft := left(t, rest), left(t, r)
	if left != wleft {
		t.Fatalf("%d bytes left in the input, compress/flate leaves %d", left, wleft)
	}
}

func left(t *testing.T, r io.Reader) int64 {
	t.Helper()
	n, err := io.Copy(io.Discard, r)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// FuzzInflate compares with compress/flate: the same bytes, the same errors or
// none, and the same use of the input.
func FuzzInflate(f *testing.F) {
	for _, tt := range malformed() {
		f.Add(tt.b, uint16(1000), uint16(0))
	}
	for _, b := range samples() {
		b = b[:min(len(b), 3000)]
		for _, level := range []int{flate.HuffmanOnly, 0, 6} {
			var packed bytes.Buffer
			w, err := flate.NewWriter(&packed, level)
			if err != nil {
				f.Fatal(err)
			}
			if _, err := w.Write(b); err != nil {
				f.Fatal(err)
			}
			if err := w.Close(); err != nil {
				f.Fatal(err)
			}
			f.Add(packed.Bytes(), uint16(512), uint16(100))
		}
	}
	f.Fuzz(func(t *testing.T, in []byte, size, chunk uint16) {
		var src io.Reader = bytes.NewReader(in)
		if chunk > 0 {
			src = &chunks{in, int(chunk)}
		}
		r := bufio.NewReader(src)
		got, err := unpackRaw(r, 1+int(size))
		compareRaw(t, in, got, err, r)
	})
}

// chunks gives n bytes at a time.
type chunks struct {
	b []byte
	n int
}

func (c *chunks) Read(p []byte) (int, error) {
	if len(c.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.b[:min(len(c.b), c.n)])
	c.b = c.b[n:]
	return n, nil
}

// FuzzGzip compares with compress/gzip, one member at a time.
func FuzzGzip(f *testing.F) {
	for _, tt := range gzips(f) {
		f.Add(tt.b)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		got, err := unpack(bufio.NewReader(bytes.NewReader(in)), 5000)
		want, werr := members(in)
		if err == nil != (werr == nil) {
			t.Fatalf("error %v, compress/gzip says %v", err, werr)
		}
		if err == nil && !bytes.Equal(got, want) {
			t.Fatalf("%d bytes, compress/gzip gives %d", len(got), len(want))
		}
	})
}

// members is what compress/gzip makes of the members that b begins with.
func members(b []byte) ([]byte, error) {
	in := bufio.NewReader(bytes.NewReader(b))
	z, err := gzip.NewReader(in)
	if err != nil {
		return nil, err
	}
	var out []byte
	for {
		z.Multistream(false)
		m, err := io.ReadAll(z)
		if out = append(out, m...); err != nil {
			return out, err
		}
		if magic, _ := in.Peek(2); !bytes.Equal(magic, []byte{0x1f, 0x8b}) {
			return out, nil
		}
		if err := z.Reset(in); err != nil {
			return out, err
		}
	}
}

type gzipCase struct {
	name string
	b    []byte
	want string // the bytes, or with err part of the error
	err  bool
}

func gzips(t testing.TB) []gzipCase {
	t.Helper()
	var named bytes.Buffer
	w := gzip.NewWriter(&named)
	w.Name, w.Comment, w.Extra = "name", "comment", []byte("extra")
	if _, err := w.Write([]byte("named")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	a, empty := pack(t, []byte("abc"), 6), pack(t, nil, 6)
	edit := func(b []byte, at int, v byte) []byte {
		b = bytes.Clone(b)
		b[(at+len(b))%len(b)] ^= v
		return b
	}
	join := func(b ...[]byte) []byte { return bytes.Join(b, nil) }
	withCRC := append([]byte{0x1f, 0x8b, 8, flagHeaderCRC, 0, 0, 0, 0, 0, 255}, 0xce, 0x8c)
	return []gzipCase{
		{"plain", a, "abc", false},
		{"empty", empty, "", false},
		{"with a name, a comment and an extra field", named.Bytes(), "named", false},
		{"members", join(a, empty, a, named.Bytes()), "abcabcnamed", false},
		{"padding", join(a, make([]byte, 9)), "abc", false},
		{"half a magic number behind it", join(a, []byte{0x1f}), "abc", false},
		{"header of a second member cut", join(a, a[:5]), "unexpected EOF", true},
		{"second member broken", join(a, edit(a, 2, 1)), "invalid header", true},
		{"checksum", edit(a, -8, 1), "invalid checksum", true},
		{"length", edit(a, -1, 1), "invalid checksum", true},
		{"header checksum wrong", append(edit(withCRC, -1, 1), a[10:]...), "invalid header", true},
		{"no magic", []byte("not gzip at all"), "invalid header", true},
		{"method", edit(a, 2, 1), "invalid header", true},
		{"cut in the header", a[:9], "unexpected EOF", true},
		{"cut in the name", named.Bytes()[:19], "unexpected EOF", true},
		{"cut in the data", a[:12], "unexpected EOF", true},
		{"cut in the trailer", a[:len(a)-1], "unexpected EOF", true},
		{"nothing", nil, "unexpected EOF", true},
	}
}

func TestGzip(t *testing.T) {
	for _, tt := range gzips(t) {
		for _, size := range []int{2, 100} {
			got, err := unpack(bufio.NewReader(iotest.OneByteReader(bytes.NewReader(tt.b))), size)
			if tt.err {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("%s: %q and the error %v, want one with %q", tt.name, got, err, tt.want)
				}
			} else if err != nil || string(got) != tt.want {
				t.Errorf("%s: %q, %v, want %q", tt.name, got, err, tt.want)
			}
		}
	}
}

// TestInputError checks that the input's own error is not taken for the stream's.
func TestInputError(t *testing.T) {
	broken := errors.New("connection reset")
	whole := pack(t, bytes.Repeat([]byte("some text that repeats itself "), 1000), 6)
	for n := range len(whole) {
		_, err := unpack(bufio.NewReader(io.MultiReader(bytes.NewReader(whole[:n]), iotest.ErrReader(broken))), 500)
		if !errors.Is(err, broken) {
			t.Errorf("broken after %d bytes: %v", n, err)
		}
	}
}

// TestMembersDoNotShareHistory checks that a match cannot reach into the member before.
func TestMembersDoNotShareHistory(t *testing.T) {
	second := new(bitstream).bits(1, 1).bits(1, 2).code(1, 7).code(0, 5).code(0, 7).b // a match at the beginning
	in := bytes.Join([][]byte{pack(t, []byte("abc"), 6), {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255}, second, make([]byte, 60)}, nil)
	if got, err := unpack(bufio.NewReader(bytes.NewReader(in)), 1000); !errors.Is(err, errDistance) {
		t.Errorf("%q, %v", got, err)
	}
}

// BenchmarkInflate unpacks the file $SLUICE_TEST_GZIP, or text made here, with
// this package, klauspost/compress and the standard library.
func BenchmarkInflate(b *testing.B) {
	packed := pack(b, samples()["words"], 6)
	if file := os.Getenv("SLUICE_TEST_GZIP"); file != "" {
		var err error
		if packed, err = os.ReadFile(file); err != nil {
			b.Fatal(err)
		}
	}
	buf := make([]byte, Window+256<<10)
	for _, bb := range []struct {
		name string
		run  func(*bufio.Reader) (int64, error)
	}{
		{"sluice", func(in *bufio.Reader) (int64, error) {
			r := NewReader(in)
			var total int64
			for {
				n, err := r.ReadBlock(buf)
				total += int64(n)
				if errors.Is(err, io.EOF) {
					return total, nil
				} else if err != nil {
					return total, err
				}
			}
		}},
		{"klauspost", func(in *bufio.Reader) (int64, error) {
			r, err := kgzip.NewReader(in)
			if err != nil {
				return 0, err
			}
			return io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{r}, buf)
		}},
		{"std", func(in *bufio.Reader) (int64, error) {
			r, err := gzip.NewReader(in)
			if err != nil {
				return 0, err
			}
			return io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{r}, buf)
		}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			in := bufio.NewReaderSize(nil, 256<<10)
			for b.Loop() {
				in.Reset(bytes.NewReader(packed))
				n, err := bb.run(in)
				if err != nil {
					b.Fatal(err)
				}
				b.SetBytes(n)
			}
		})
	}
}
