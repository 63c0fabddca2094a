package integration

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// patience is how long a test waits for something that should happen at once.
const patience = 30 * time.Second

// program is the path of the binary that TestMain builds. Beside it lies an
// empty configuration of Docker's, so that no client sees that of the user.
var program string

// offlineEnv holds the path of the program for a test that another process
// starts, in a network namespace of its own.
const offlineEnv = "SLUICE_TEST_PROGRAM"

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	// Parallel tests wait more than they compute; -parallel overrides this.
	if err := flag.Set("test.parallel", "8"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	dir, err := os.MkdirTemp("", "sluice-integration-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "sluice")
	if built := os.Getenv(offlineEnv); built != "" { // this is a test that another process started
		program = built
		return m.Run()
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte("{}"), 0o600); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	args := []string{"build", "-o", program}
	if raceEnabled() { // then the program under test looks for races too
		args = append(args, "-race")
	}
	build := exec.CommandContext(context.Background(), "go", append(args, "../cmd/sluice")...)
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "build ../cmd/sluice:", err)
		return 1
	}
	return m.Run()
}

func raceEnabled() bool {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return false
	}
	for _, s := range info.Settings {
		if s.Key == "-race" {
			return s.Value == "true"
		}
	}
	return false
}

// server is one running `sluice serve`.
type server struct {
	registry string // host:port of the registry listener
	ops      string // host:port of the operations listener
	data     string
	config   string
	flags    []string
	env      []string
	cmd      *exec.Cmd
	killed   *exec.Cmd     // the process that kill ended
	done     chan struct{} // closed when the process has ended
	log      *lockedBuffer
}

// options are what a test wants of its server.
type options struct {
	upstream   string // URL; its name in the proxy is "up", and it is the default upstream; "" = config has one
	advisories string // directory in OSV's export layout, imported before the start; "" = no index
	feed       string // where the server itself looks for advisories; "" = a port nobody listens on
	data       string // "" = a fresh directory
	config     string // more YAML, behind the keys of advisories
	env        []string
}

// start starts a server and ends it with the test.
func start(t *testing.T, o options) *server {
	t.Helper()
	s := &server{data: o.data}
	if s.data == "" {
		s.data = t.TempDir()
	}
	if o.advisories != "" {
		out, code := sluice(t, "db", "update", "--data", s.data, "--from", o.advisories)
		if code != 0 {
			t.Fatalf("db update: exit %d\n%s", code, out)
		}
	}
	feed := "from: " + o.feed
	if o.feed == "" {
		feed = "from: http://" + freeAddress(t) + "\n  updateEvery: 0s"
	}
	s.config = filepath.Join(t.TempDir(), "sluice.yaml")
	text := "default: up\nadvisories:\n  kev: \"\"\n  maxAge: 0s\n  " + feed + "\n" + o.config
	if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.registry, s.ops, s.env = freeAddress(t), freeAddress(t), append(environment(), o.env...)
	if o.upstream != "" {
		s.flags = []string{"--upstream", "up=" + o.upstream}
	}
	s.run(t)
	return s
}

// run starts the process and returns when it answers.
func (s *server) run(t *testing.T) {
	t.Helper()
	s.log, s.done = new(lockedBuffer), make(chan struct{})
	// The test's context ends just before its cleanups run.
	cmd := exec.CommandContext(t.Context(), program, append([]string{
		"serve", "--config", s.config, "--data", s.data, "--listen", s.registry, "--ops-listen", s.ops,
	}, s.flags...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = patience // then it is killed
	cmd.Env = s.env
	cmd.Stdout, cmd.Stderr = s.log, s.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	log, done := s.log, s.done
	s.cmd = cmd
	go func() {
		_ = cmd.Wait() // how it ended is in cmd.ProcessState
		close(done)
	}()
	t.Cleanup(func() {
		<-done
		if state := cmd.ProcessState; !state.Success() && s.killed != cmd {
			t.Errorf("the server ended with: %s", state)
		}
		if strings.Contains(log.String(), "DATA RACE") || strings.Contains(log.String(), "panic") {
			t.Error("the server's log tells of a race or a panic")
		}
		if t.Failed() {
			t.Logf("log of the server:\n%s", log.String())
		}
	})
	until(t, "the server answers /livez", func() error {
		select {
		case <-done:
			return fmt.Errorf("the server ended: %s\n%s", cmd.ProcessState, log.String())
		default:
		}
		return wantStatus(t, "http://"+s.ops+"/livez", http.StatusOK)
	})
}

// kill ends the process as a power cut would.
func (s *server) kill(t *testing.T) {
	t.Helper()
	s.killed = s.cmd
	if err := s.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-s.done
}

// answer is a response that was read to its end.
type answer struct {
	status int
	header http.Header
	body   []byte
	err    error // of the body: a cut connection
}

// get asks the registry listener.
func (s *server) get(t *testing.T, path string, header ...string) answer {
	t.Helper()
	return s.ask(t, http.MethodGet, path, header...)
}

// ask sends a request to the registry listener. Header holds "Name: value" lines.
func (s *server) ask(t *testing.T, method, path string, header ...string) answer {
	t.Helper()
	return ask(t, method, "http://"+s.registry+path, nil, header...)
}

// api asks the operations API with a JSON body, or none, and returns the answer.
func (s *server) api(t *testing.T, method, path string, body any) answer {
	t.Helper()
	if body == nil {
		return ask(t, method, "http://"+s.ops+"/api/v1"+path, nil)
	}
	data, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	return ask(t, method, "http://"+s.ops+"/api/v1"+path, data, "Content-Type: application/json")
}

// metric sums all series of a metric.
func (s *server) metric(t *testing.T, name string) float64 {
	t.Helper()
	a := ask(t, http.MethodGet, "http://"+s.ops+"/metrics", nil)
	if a.status != http.StatusOK {
		t.Fatalf("/metrics: %d", a.status)
	}
	sum, found := 0.0, false
	for lines := bufio.NewScanner(bytes.NewReader(a.body)); lines.Scan(); {
		series, value, ok := strings.Cut(lines.Text(), " ")
		if bare, _, _ := strings.Cut(series, "{"); !ok || bare != name {
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			t.Fatalf("metric %s: %v", series, err)
		}
		sum, found = sum+v, true
	}
	if !found {
		t.Fatalf("/metrics has no %s", name)
	}
	return sum
}

// ask fails the test on an error before the headers; one after them is in answer.err.
func ask(t *testing.T, method, url string, body []byte, header ...string) answer {
	t.Helper()
	a, err := try(t.Context(), method, url, body, header...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// try is ask for goroutines other than the test's.
func try(ctx context.Context, method, url string, body []byte, header ...string) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	for _, h := range header {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	a := answer{status: resp.StatusCode, header: resp.Header}
	a.body, a.err = io.ReadAll(resp.Body)
	return a, nil
}

func wantStatus(t *testing.T, url string, want int) error {
	a, err := try(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	if a.status != want {
		return fmt.Errorf("%s: %d %s, want %d", url, a.status, a.body, want)
	}
	return nil
}

// refusal is the body of an answer in OCI's error format.
type refusal struct {
	Errors []struct {
		Code    string          `json:"code"`
		Message string          `json:"message"`
		Detail  json.RawMessage `json:"detail"`
	} `json:"errors"`
}

// refused returns the code and message of an OCI error and fails the test on
// anything else.
func (a answer) refused(t *testing.T) (code, message string) {
	t.Helper()
	var r refusal
	if err := json.Unmarshal(a.body, &r); err != nil || len(r.Errors) != 1 {
		t.Fatalf("%d %q is not one OCI error (%v)", a.status, a.body, err)
	}
	return r.Errors[0].Code, r.Errors[0].Message
}

var verdictID = regexp.MustCompile(`\(verdict ([^)\s]+)\)`)

// verdictOf returns the verdict's id that a message names.
func verdictOf(t *testing.T, message string) string {
	t.Helper()
	m := verdictID.FindStringSubmatch(message)
	if m == nil {
		t.Fatalf("%q names no verdict", message)
	}
	return m[1]
}

// sluice runs the program and returns what it printed and its exit code.
func sluice(t *testing.T, args ...string) (out string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = environment()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("sluice %s: %v", strings.Join(args, " "), err)
	}
	t.Cleanup(func() {
		if t.Failed() && stderr.Len() > 0 {
			t.Logf("stderr of sluice %s:\n%s", strings.Join(args, " "), stderr.String())
		}
	})
	return stdout.String(), cmd.ProcessState.ExitCode()
}

// environment is ours without what would change the program's configuration.
func environment() []string {
	var env []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "SLUICE_") && !strings.HasPrefix(e, "DOCKER_CONFIG=") {
			env = append(env, e)
		}
	}
	return append(env, "DOCKER_CONFIG="+filepath.Dir(program))
}

// ports are those from which freeAddress takes.
type ports struct {
	next  atomic.Int32
	claim net.Listener // on the first of them
}

// ours are a thousand ports that no other process with these tests uses: a server
// that is killed finds its own free when it starts again. They lie below those
// that the system gives to outgoing connections (net.ipv4.ip_local_port_range),
// one of which could take an address between freeAddress and its user.
var ours = func() *ports {
	p := new(ports)
	for first := int32(12000); first < 32000 && p.claim == nil; first += 1000 {
		p.next.Store(first)
		p.claim, _ = new(net.ListenConfig).Listen(context.Background(), "tcp", fmt.Sprintf("127.0.0.1:%d", first)) // else another process has them
	}
	return p
}()

// freeAddress returns an address of the loopback interface that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	var lc net.ListenConfig
	for range 1000 {
		l, err := lc.Listen(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", ours.next.Add(1)))
		if err != nil {
			continue // somebody else's
		}
		defer l.Close()
		return l.Addr().String()
	}
	t.Fatal("no free port")
	return ""
}

// until calls check until it returns nil, and fails the test when it never does.
func until(t *testing.T, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited %s: %s: %v", patience, what, err)
		}
		<-tick.C
	}
}

// onCI reports whether what is missing is a failure.
func onCI() bool { return os.Getenv("SLUICE_CI") == "1" || os.Getenv("CI") == "true" }

// tool returns the path of a program that the test needs, or ends the test.
func tool(t *testing.T, name string) string {
	t.Helper()
	p, err := exec.LookPath(name)
	if err == nil {
		return p
	}
	if onCI() {
		t.Fatalf("%s is not installed, and CI must have it: %v", name, err)
	}
	t.Skipf("%s is not installed", name)
	return ""
}

// shared returns the path of a file or directory of the shared test data, or
// skips the test.
func shared(t *testing.T, name string) string {
	t.Helper()
	root := os.Getenv("SLUICE_TEST_DATA")
	if root == "" {
		root = filepath.Join("..", "..", "shared", "data")
	} else if _, err := os.Stat(root); err != nil {
		t.Fatalf("SLUICE_TEST_DATA: %v", err)
	}
	p, err := filepath.Abs(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(p); err != nil {
		t.Skipf("no shared test data: %v", err)
	}
	return p
}

// lockedBuffer is a buffer that a process writes and a test reads.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
