package main

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// image is one row: how its root file system is made, and what knows its packages.
type image struct {
	name, tool string
	build      func(context.Context, *lab) (root string, err error)
	installed  func(ctx context.Context, l *lab, root string) ([]pkg, error)
}

var bullseye = []string{"python3", "python3-django", "nodejs", "node-semver", "ruby", "nginx-light"}

func images() []image {
	out := []image{
		{"almalinux-9-micro", "rpm -qa", rootfs("almalinux-9-20231124-aarch64-micro.tar.xz"), rpmQuery("AlmaLinux:9")},
	}
	for _, file := range []string{
		"alpine-minirootfs-3.6.5-x86_64.tar.gz", "alpine-minirootfs-3.10.9-x86_64.tar.gz", "alpine-minirootfs-3.18.9-x86_64.tar.gz",
		"alpine-minirootfs-3.18.9-aarch64.tar.gz", "alpine-minirootfs-3.20.3-x86_64.tar.gz",
	} {
		name := strings.ReplaceAll(strings.TrimSuffix(file, ".tar.gz"), "minirootfs-", "")
		out = append(out, image{name, "lib/apk/db/installed", rootfs(file), apkDatabase})
	}
	debian := func(suite, release string, include ...string) image {
		return image{"debian-" + suite, "dpkg-query, importlib.metadata, Gem::Specification", debootstrap(suite, include...), debianSystem(release)}
	}
	return append(out,
		debian("bullseye", "11", bullseye...),
		debian("bookworm", "12", "python3", "python3-django", "nodejs", "node-semver", "openjdk-17-jre-headless", "libcommons-collections3-java", "ruby", "nginx-light"),
		image{"debian-bullseye, versions of 2021", "dpkg-query", debianReleased, dpkgQuery("11")},
		image{"alpine-3.10, first revisions", "lib/apk/db/installed", alpineReleased, apkDatabase},
		debian("trixie", "13", "python3", "python3-requests", "nodejs", "openjdk-21-jre-headless", "ruby", "nginx-light", "linux-libc-dev"),
		image{"rocky-9 (rpmdb, SQLite)", "rpm -qa", rpmDatabase("rpmdb.sqlite", "rocky", "9.2", "github.com/google/osv-scalibr", "extractor/filesystem/os/rpm/testdata/rpmdb.sqlite"), rpmQuery("Rocky Linux:9")},
		image{"centos-7 (rpmdb, BerkeleyDB)", "rpm -qa", rpmDatabase("Packages", "centos", "7", "github.com/google/osv-scalibr", "extractor/filesystem/os/rpm/testdata/Packages"), rpmQuery("")},
		image{"npm application", "npm ls", npmApplication(true), npmList},
		image{"npm application, no lock file", "npm ls", npmApplication(false), npmList},
		image{"go binaries (ELF, PE)", "go version -m", goBinaries, goVersion},
		image{"java application", "what was packed", javaApplication, javaPacked},
		image{"python application", "importlib.metadata", pythonApplication, pythonMetadata},
		image{"planted secrets", "lib/apk/db/installed", plantedSecrets, apkDatabase},
	)
}

// once builds a directory under the lab's, or takes the one of an earlier run.
func once(l *lab, name string, build func(root string) error) (string, error) {
	root, err := filepath.Abs(l.path(name))
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(root + ".done"); err == nil {
		return root, nil
	}
	if err := errors.Join(os.RemoveAll(root), os.MkdirAll(root, 0o755)); err != nil {
		return "", err
	}
	if err := build(root); err != nil {
		return "", err
	}
	return root, os.WriteFile(root+".done", nil, 0o644)
}

func rootfs(file string) func(context.Context, *lab) (string, error) {
	return func(ctx context.Context, l *lab) (string, error) {
		from := filepath.Join(l.data, "rootfs", file)
		if _, err := os.Stat(from); errors.Is(err, fs.ErrNotExist) {
			return "", &missingError{from + " is not here"}
		}
		return once(l, file, func(root string) error {
			_, err := output(ctx, "", "tar", "-xf", from, "-C", root)
			return err
		})
	}
}

func debootstrap(suite string, include ...string) func(context.Context, *lab) (string, error) {
	return func(ctx context.Context, l *lab) (string, error) {
		if err := need("debootstrap", "chroot", "dpkg-query"); err != nil {
			return "", err
		}
		return once(l, suite, func(root string) error {
			args := []string{"--variant=minbase", "--include=" + strings.Join(include, ","), suite, root}
			if m := mirror(); m != "" {
				args = append(args, m)
			}
			if _, err := output(ctx, "", "debootstrap", args...); err != nil {
				return &missingError{err.Error()}
			}
			return nil
		})
	}
}

// debianReleased is the package database of bullseye with the versions of its
// release: what stable updates append (+deb11u3, ~deb11u2) taken off.
func debianReleased(ctx context.Context, l *lab) (string, error) {
	from, err := debootstrap("bullseye", bullseye...)(ctx, l)
	if err != nil {
		return "", err
	}
	return rewritten(l, from, "bullseye-released", "var/lib/dpkg/status", "etc/os-release", regexp.MustCompile(`(?m)^(Version: .*?)[+~]deb11u\d+$`), "$1")
}

// alpineReleased is the database of Alpine 3.10 with each package at -r0.
func alpineReleased(ctx context.Context, l *lab) (string, error) {
	from, err := rootfs("alpine-minirootfs-3.10.9-x86_64.tar.gz")(ctx, l)
	if err != nil {
		return "", err
	}
	return rewritten(l, from, "alpine-released", "lib/apk/db/installed", "etc/alpine-release", regexp.MustCompile(`(?m)^(V:.*-r)\d+$`), "${1}0")
}

// rewritten is a file system with two files of another, one of them changed.
func rewritten(l *lab, from, name, database, release string, pattern *regexp.Regexp, by string) (string, error) {
	return once(l, name, func(root string) error {
		db, err := os.ReadFile(filepath.Join(from, database))
		if err != nil {
			return err
		}
		rel, err := os.ReadFile(filepath.Join(from, release))
		if err != nil {
			return err
		}
		return errors.Join(put(root, database, pattern.ReplaceAll(db, []byte(by))), put(root, release, rel))
	})
}

// mirror is the one that this machine's apt uses; "" leaves it to debootstrap.
func mirror() string {
	files, _ := filepath.Glob("/etc/apt/sources.list.d/*.sources")
	for _, f := range append(files, "/etc/apt/sources.list") {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			if w := strings.Fields(line); len(w) > 1 && (w[0] == "URIs:" || w[0] == "deb") && strings.HasPrefix(w[1], "http") {
				return w[1]
			}
		}
	}
	return ""
}

// rpmDatabase is a file system with nothing but a real rpm database, which the
// test data of a module has, and an os-release.
func rpmDatabase(name, id, version, module, file string) func(context.Context, *lab) (string, error) {
	return func(ctx context.Context, l *lab) (string, error) {
		dir, err := output(ctx, "", "go", "list", "-m", "-f", "{{.Dir}}", module)
		if err != nil {
			return "", err
		}
		b, err := os.ReadFile(filepath.Join(strings.TrimSpace(dir), filepath.FromSlash(file)))
		if err != nil {
			return "", &missingError{err.Error()}
		}
		return once(l, id+version, func(root string) error {
			return errors.Join(
				put(root, "var/lib/rpm/"+name, b),
				put(root, "etc/os-release", fmt.Appendf(nil, "ID=%s\nVERSION_ID=%q\n", id, version)),
			)
		})
	}
}

func put(root, name string, content []byte) error {
	file := filepath.Join(root, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, content, 0o644)
}

// npmApplication installs versions with known vulnerabilities, and the tree
// that they depend on.
func npmApplication(lock bool) func(context.Context, *lab) (string, error) {
	return func(ctx context.Context, l *lab) (string, error) {
		if err := need("npm"); err != nil {
			return "", err
		}
		return once(l, fmt.Sprintf("npm-lock-%v", lock), func(root string) error {
			app := filepath.Join(root, "srv", "app")
			if err := put(app, "package.json", []byte(`{"name":"app","version":"1.0.0","private":true}`)); err != nil {
				return err
			}
			args := append([]string{"install", "--ignore-scripts", "--no-audit", "--no-fund"}, npmPackages...)
			if _, err := output(ctx, app, "npm", args...); err != nil {
				return &missingError{err.Error()}
			}
			if lock {
				return nil
			}
			return errors.Join(os.Remove(filepath.Join(app, "package-lock.json")), os.Remove(filepath.Join(app, "node_modules", ".package-lock.json")))
		})
	}
}

var npmPackages = []string{
	"lodash@4.17.20", "minimist@1.2.0", "marked@0.3.6", "axios@0.21.0", "ua-parser-js@0.7.20", "express@4.16.0", "@babel/traverse@7.22.0",
}

// goModules are required at versions with known vulnerabilities.
var goModules = []string{"golang.org/x/text@v0.3.5", "golang.org/x/crypto@v0.0.0-20200622213623-75b288015ac9", "github.com/dgrijalva/jwt-go@v3.2.0+incompatible", "gopkg.in/yaml.v2@v2.2.2"}

const goProgram = `package main

import (
	"fmt"

	"github.com/dgrijalva/jwt-go"
	"golang.org/x/crypto/ssh"
	"golang.org/x/text/language"
	"gopkg.in/yaml.v2"
)

func main() { fmt.Println(jwt.SigningMethodHS256.Alg(), ssh.KeyAlgoRSA, language.English, yaml.MapSlice{}) }
`

func goBinaries(ctx context.Context, l *lab) (string, error) {
	return once(l, "go-binaries", func(root string) error {
		src, err := os.MkdirTemp(l.work, "go-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(src)
		if err := put(src, "main.go", []byte(goProgram)); err != nil {
			return err
		}
		steps := [][]string{
			{"go", "mod", "init", "example.org/old"},
			append([]string{"go", "get"}, goModules...),
			{"env", "GOOS=linux", "GOARCH=amd64", "go", "build", "-o", filepath.Join(root, "usr/local/bin/old"), "."},
			{"env", "GOOS=windows", "GOARCH=amd64", "go", "build", "-o", filepath.Join(root, "opt/old.exe"), "."},
		}
		for _, s := range steps {
			if _, err := output(ctx, src, s[0], s[1:]...); err != nil {
				return &missingError{err.Error()}
			}
		}
		return nil
	})
}

// javaJars are packed with the pom.properties that the real archives have: no
// repository of Maven's is reached from here.
var javaJars = []pkg{
	{typ: "maven", name: "org.apache.logging.log4j:log4j-core", version: "2.14.1"},
	{typ: "maven", name: "com.fasterxml.jackson.core:jackson-databind", version: "2.9.8"},
	{typ: "maven", name: "org.springframework:spring-beans", version: "5.3.17"},
	{typ: "maven", name: "org.apache.commons:commons-text", version: "1.9"},
}

// javaApplication has the same archives as files, in a Spring Boot archive, and
// in a war in an ear.
func javaApplication(_ context.Context, l *lab) (string, error) {
	return once(l, "java", func(root string) error {
		var lib []string
		for _, j := range javaJars {
			group, artifact, _ := strings.Cut(j.name, ":")
			jar := zipped(
				"META-INF/MANIFEST.MF", "Manifest-Version: 1.0\r\nImplementation-Title: "+artifact+"\r\nImplementation-Version: "+j.version+"\r\n\r\n",
				"META-INF/maven/"+group+"/"+artifact+"/pom.properties", "version="+j.version+"\ngroupId="+group+"\nartifactId="+artifact+"\n",
			)
			lib = append(lib, artifact+"-"+j.version+".jar", string(jar))
		}
		within := func(dir string) []string {
			out := []string{"META-INF/MANIFEST.MF", "Manifest-Version: 1.0\r\n\r\n"}
			for i := 0; i < len(lib); i += 2 {
				out = append(out, dir+lib[i], lib[i+1])
			}
			return out
		}
		war := zipped(within("WEB-INF/lib/")...)
		return errors.Join(
			put(root, "srv/lib/"+lib[0], []byte(lib[1])),
			put(root, "srv/boot.jar", zipped(within("BOOT-INF/lib/")...)),
			put(root, "srv/all.ear", zipped("META-INF/MANIFEST.MF", "Manifest-Version: 1.0\r\n\r\n", "web.war", string(war))),
		)
	})
}

// zipped writes names and contents to an archive in memory, which cannot fail.
func zipped(files ...string) []byte {
	var b bytes.Buffer
	zw := zip.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		if w, err := zw.Create(files[i]); err == nil {
			_, _ = w.Write([]byte(files[i+1]))
		}
	}
	_ = zw.Close()
	return b.Bytes()
}

// pythonApplication is a virtual environment with METADATA at versions with
// known vulnerabilities: no index of Python's is reached from here.
func pythonApplication(_ context.Context, l *lab) (string, error) {
	return once(l, "python", func(root string) error {
		for _, p := range [][2]string{{"Django", "3.2.0"}, {"Jinja2", "2.11.2"}, {"PyYAML", "5.3"}, {"urllib3", "1.26.4"}, {"requests", "2.25.0"}, {"Pillow", "8.1.0"}, {"cryptography", "3.3.1"}, {"pip", "23.0"}} {
			dir := "srv/venv/lib/python3.11/site-packages/" + p[0] + "-" + p[1] + ".dist-info/"
			if err := put(root, dir+"METADATA", []byte("Metadata-Version: 2.1\nName: "+p[0]+"\nVersion: "+p[1]+"\n\nText.\n")); err != nil {
				return err
			}
		}
		return nil
	})
}

// plantedSecrets is a plain Alpine with three keys that were made now.
func plantedSecrets(ctx context.Context, l *lab) (string, error) {
	from := filepath.Join(l.data, "rootfs", "alpine-minirootfs-3.20.3-x86_64.tar.gz")
	if _, err := os.Stat(from); errors.Is(err, fs.ErrNotExist) {
		return "", &missingError{from + " is not here"}
	}
	return once(l, "secrets", func(root string) error {
		if _, err := output(ctx, "", "tar", "-xf", from, "-C", root); err != nil {
			return err
		}
		old, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			return err
		}
		ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return err
		}
		der, err := x509.MarshalPKCS8PrivateKey(ec)
		if err != nil {
			return err
		}
		return errors.Join(
			put(root, "root/.ssh/id_rsa", pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(old)})),
			put(root, "etc/ssl/private/server.key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
			put(root, "root/.aws/credentials", fmt.Appendf(nil, "[default]\naws_access_key_id = AKIA%s\naws_secret_access_key = %s\n", letters(16), letters(40))),
		)
	})
}

// letters returns random characters of base32.
func letters(n int) string {
	s := rand.Text()
	for len(s) < n {
		s += rand.Text()
	}
	return s[:n]
}
