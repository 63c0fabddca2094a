package upstream

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"
)

// guard dials, and refuses addresses that its rule refuses. It looks at the
// address that a name has resolved to, at the moment of the connect, so a name
// that resolves differently the second time (DNS rebinding) gains nothing.
//
// An HTTP proxy from the environment (HTTP_PROXY, HTTPS_PROXY, NO_PROXY) is the
// operator's own and may stand anywhere. What it dials is for it to judge; of
// requests through it, only private literals are refused here (see steer).
type guard struct {
	rule     func(netip.AddrPort) error
	proxy    func(*http.Request) (*url.URL, error)
	resolver *net.Resolver // nil = the system's
	proxies  sync.Map      // "host:port" of the proxies in use
}

func (g *guard) proxyFor(r *http.Request) (*url.URL, error) {
	u, err := g.proxy(r)
	if u != nil {
		g.proxies.Store(proxyAddress(u), true)
	}
	return u, err
}

func (g *guard) dial(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second, Resolver: g.resolver}
	if _, ok := g.proxies.Load(address); !ok {
		d.Control = g.control
	}
	return d.DialContext(ctx, network, address)
}

// control sees each resolved address just before the connect.
func (g *guard) control(_, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	return g.rule(ap)
}

// proxyAddress is what http.Transport dials for a proxy.
func proxyAddress(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443", "socks5": "1080", "socks5h": "1080"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// publicOnly is the rule of upstreams without AllowPrivate.
func publicOnly(ap netip.AddrPort) error {
	if kind := special(ap.Addr()); kind != "" {
		return private(ap.Addr().String(), kind, false)
	}
	return nil
}

// noMetadata is the rule of upstreams with AllowPrivate: no registry stands
// where a cloud hands out the credentials of its machines.
func noMetadata(ap netip.AddrPort) error {
	if kind := special(ap.Addr()); kind == cloudMetadata {
		return private(ap.Addr().String(), kind, true)
	}
	return nil
}

func private(host, kind string, allowed bool) error {
	reason := fmt.Sprintf("leads to %s, a %s address", host, kind)
	if !allowed {
		reason += ", and the upstream is not configured with allowPrivate"
	}
	return &ContentError{Reason: reason}
}

const cloudMetadata = "cloud metadata"

// metadata are the addresses of the clouds' metadata and credential services:
// AWS (EC2, ECS, EKS), Google, Azure, Alibaba, Oracle.
var metadata = addresses("169.254.169.254", "169.254.170.2", "169.254.170.23", "fd00:ec2::254", "fd00:ec2::23",
	"fd20:ce::254", "168.63.129.16", "100.100.100.200", "192.0.0.192")

// specials are the networks that are not the public internet: IANA's registries
// of special-purpose addresses (RFC 6890), without those that embed an IPv4
// address, which embedded reads.
var specials = []struct {
	kind     string
	prefixes []netip.Prefix
}{
	{"loopback", networks("127.0.0.0/8", "::1/128")},
	{"private", networks("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fec0::/10")},
	{"link-local", networks("169.254.0.0/16", "fe80::/10")},
	{"carrier-grade NAT", networks("100.64.0.0/10")},
	{"unspecified", networks("0.0.0.0/8", "::/128")},
	{"multicast", networks("224.0.0.0/4", "ff00::/8")},
	{"reserved", networks("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
		"240.0.0.0/4", "2001::/23", "2001:db8::/32", "3fff::/20")},
}

// special names what kind of address a is, "" for one of the public internet.
// Of IPv6, only 2000::/3 is public, and what embeds a public IPv4 address. A
// NAT64 prefix of a network's own cannot be told from any other.
func special(a netip.Addr) string {
	a = a.WithZone("").Unmap()
	for _, m := range metadata {
		if a == m {
			return cloudMetadata
		}
	}
	for _, s := range specials {
		for _, p := range s.prefixes {
			if p.Contains(a) {
				return s.kind
			}
		}
	}
	switch v4, ok := embedded(a); {
	case ok:
		return special(v4)
	case a.Is4() || publicV6.Contains(a):
		return ""
	}
	return "reserved"
}

var (
	publicV6   = netip.MustParsePrefix("2000::/3")
	sixToFour  = netip.MustParsePrefix("2002::/16")    // RFC 3056
	nat64      = netip.MustParsePrefix("64:ff9b::/96") // RFC 6052
	compatible = netip.MustParsePrefix("::/96")        // RFC 4291, 2.5.5.1
)

// embedded returns the IPv4 address that an IPv6 address stands for.
func embedded(a netip.Addr) (netip.Addr, bool) {
	b := a.As16()
	switch {
	case a.Is4():
		return netip.Addr{}, false
	case sixToFour.Contains(a):
		return netip.AddrFrom4([4]byte(b[2:6])), true
	case nat64.Contains(a), compatible.Contains(a):
		return netip.AddrFrom4([4]byte(b[12:])), true
	}
	return netip.Addr{}, false
}

// literal names what kind of address host, of a URL, is written as; "" for a
// public one and for names. A host that ends in a number without being an
// address as it is commonly written (127.1, 0x7f000001) is one that resolvers
// take for an address all the same.
func literal(host string) string {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "localhost" || strings.HasSuffix(host, ".localhost") { // RFC 6761, 6.3
		return "loopback"
	}
	if a, err := netip.ParseAddr(host); err == nil {
		return special(a)
	}
	last := host[strings.LastIndexByte(host, '.')+1:]
	if hex, ok := strings.CutPrefix(last, "0x"); ok && strings.Trim(hex, "0123456789abcdef") == "" || last != "" && strings.Trim(last, "0123456789") == "" {
		return "malformed"
	}
	return ""
}

func addresses(s ...string) []netip.Addr {
	out := make([]netip.Addr, len(s))
	for i, a := range s {
		out[i] = netip.MustParseAddr(a)
	}
	return out
}

func networks(s ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(s))
	for i, p := range s {
		out[i] = netip.MustParsePrefix(p)
	}
	return out
}
