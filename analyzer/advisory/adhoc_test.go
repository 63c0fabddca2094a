package advisory

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"
)

func TestAdhocReal(t *testing.T) {
	t0 := time.Now()
	x, s := openReal(t)
	b, _ := json.MarshalIndent(s, "", " ")
	fmt.Println(string(b)[:900], time.Since(t0))
	for _, p := range []string{"pkg:npm/lodash@4.17.20", "pkg:npm/lodash", "pkg:maven/org.springframework/spring-beans@5.3.17", "pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1", "pkg:golang/stdlib@1.16.0", "pkg:golang/github.com/gin-gonic/gin@v1.6.0", "pkg:apk/alpine/musl@1.1.22-r3?distro=alpine-3.10.9", "pkg:apk/alpine/openssl@1.1.1b-r1?distro=alpine-3.10", "pkg:deb/debian/openssl@1.1.1n-0+deb11u3?distro=bullseye", "pkg:pypi/Django@3.2.0", "pkg:rpm/almalinux/openssl-libs@3.0.1-43.el9_0?distro=almalinux-9.1&epoch=1", "pkg:deb/debian/openssl@1.1.1n-0+deb11u3?distro=bookworm", "pkg:gem/rails@5.0.0", "pkg:cargo/openssl@0.8.0", "pkg:bitnami/nginx@1.20.0-3"} {
		f, err := x.Lookup(p)
		fmt.Println(p, len(f), err)
		for i, v := range f {
			if i > 4 {
				break
			}
			fmt.Printf("   %s %s %v %.1f kev=%v fixed=%q %s | %v\n", v.Advisory, v.Class, v.Severity, v.Score, v.KEV, v.Fixed, v.Source, v.Aliases)
		}
	}
}
