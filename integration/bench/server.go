//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// server is a running server under measurement.
type server struct {
	address string // of the registry
	ops     string // of sluice's operations listener
	cmd     *exec.Cmd
	log     *os.File
	done    chan struct{} // closed when the process has ended
}

const (
	patience = 30 * time.Second // for a server that starts or stops
	pause    = 5 * time.Millisecond
)

// startSluice starts sluice with a fresh data folder in front of u; more is more
// configuration, or "". The access log is off, as it is on the other side.
func (l *lab) startSluice(ctx context.Context, u *upstream, more string) (*server, error) {
	dir, err := os.MkdirTemp(l.dir, "sluice-")
	if err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "data")
	if err := os.CopyFS(data, os.DirFS(l.seed)); err != nil {
		return nil, err
	}
	address, ops, err := freeAddresses(ctx)
	if err != nil {
		return nil, err
	}
	config := fmt.Sprintf("default: up\nupstreamDefaults: false\ndockerConfig: none\nlog:\n  level: warn\n"+
		"advisories:\n  from: %s\n  kev: \"\"\n  updateEvery: 0s\n%s", l.feed, more)
	file := filepath.Join(dir, "sluice.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	s := &server{address: address, ops: ops}
	return s, s.start(ctx, dir, l.sluice, "serve", "--config", file, "--data", data, "--listen", address,
		"--ops-listen", ops, "--upstream", "up=http://"+u.address)
}

// peerKind is how distribution runs.
type peerKind uint8

const (
	plain       peerKind = iota // a registry that is pushed to
	cached                      // the same with its in-memory cache of descriptors
	pullThrough                 // a pull-through cache
)

// startPeer starts distribution with fresh storage; u is for pullThrough.
func (l *lab) startPeer(ctx context.Context, kind peerKind, u *upstream) (*server, error) {
	dir, err := os.MkdirTemp(l.dir, "distribution-")
	if err != nil {
		return nil, err
	}
	address, _, err := freeAddresses(ctx)
	if err != nil {
		return nil, err
	}
	config := fmt.Sprintf("version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\n"+
		"http:\n  addr: %s\n  secret: benchmark\nhealth:\n  storagedriver:\n    enabled: false\n"+
		"storage:\n  filesystem:\n    rootdirectory: %s\n", address, filepath.Join(dir, "data"))
	switch kind {
	case cached:
		config += "  cache:\n    blobdescriptor: inmemory\n"
	case pullThrough:
		config += "proxy:\n  remoteurl: http://" + u.address + "\n"
	case plain:
	}
	file := filepath.Join(dir, "registry.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	s := &server{address: address}
	return s, s.start(ctx, dir, l.registry, "serve", file)
}

// start starts the process and returns when it answers.
func (s *server) start(ctx context.Context, dir, program string, args ...string) error {
	var err error
	if s.log, err = os.Create(filepath.Join(dir, "log")); err != nil {
		return err
	}
	s.cmd = exec.CommandContext(ctx, program, args...)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	s.cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none", "OTEL_METRICS_EXPORTER=none", "OTEL_LOGS_EXPORTER=none")
	if err := s.cmd.Start(); err != nil {
		return err
	}
	s.done = make(chan struct{})
	go func() {
		_ = s.cmd.Wait() // how it ended is in its log
		close(s.done)
	}()
	deadline := time.Now().Add(patience)
	for {
		if _, err = httpGet(ctx, "http://"+s.address+"/v2/"); err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return errors.Join(fmt.Errorf("%s does not answer: %w\n%s", filepath.Base(program), err, s.said()), s.stop())
		}
		select {
		case <-s.done:
			return fmt.Errorf("%s ended:\n%s", filepath.Base(program), s.said())
		case <-time.After(pause):
		}
	}
}

// said is the end of what the server logged.
func (s *server) said() string {
	b, err := os.ReadFile(s.log.Name())
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-4<<10):])
}

// stop ends the process and removes its folder.
func (s *server) stop() error {
	defer s.log.Close()
	_ = s.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-s.done:
	case <-time.After(patience):
		_ = s.cmd.Process.Kill()
		<-s.done
	}
	return os.RemoveAll(filepath.Dir(s.log.Name()))
}

// cpu is the processor time that the process and those that it has started have
// used, in steps of 10 ms.
func (s *server) cpu() (time.Duration, error) {
	sum, err := cpuOf(s.cmd.Process.Pid)
	if err != nil {
		return 0, err
	}
	children, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for _, file := range children {
		b, err := os.ReadFile(file)
		if err != nil {
			continue // of a thread that has ended
		}
		for _, child := range strings.Fields(string(b)) {
			pid, err := strconv.Atoi(child)
			if err != nil {
				return 0, err
			}
			if d, err := cpuOf(pid); err == nil { // else it has ended, and is in its parent's
				sum += d
			}
		}
	}
	return sum, nil
}

// cpuOf is the processor time of a process and of its children that have ended
// (proc_pid_stat(5): utime, stime, cutime and cstime).
func cpuOf(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:])) // the name may have spaces
	const utime, cstime, tick = 14 - 3, 17 - 3, 10 * time.Millisecond
	if len(fields) <= cstime {
		return 0, fmt.Errorf("/proc/pid/stat: %q", b)
	}
	var sum time.Duration
	for _, f := range fields[utime : cstime+1] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(n) * tick
	}
	return sum, nil
}

// watch looks at how large the process and its children are together, until stop
// is called, which returns the most that was seen, in bytes.
func (s *server) watch() (stop func() (int64, error)) {
	const every = 50 * time.Millisecond
	end, done := make(chan struct{}), make(chan struct{})
	var peak int64
	var err error
	go func() {
		defer close(done)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for err == nil {
			var now int64
			now, err = resident(s.cmd.Process.Pid)
			peak = max(peak, now)
			select {
			case <-tick.C:
			case <-end:
				return
			}
		}
	}()
	return func() (int64, error) {
		close(end)
		<-done
		return peak, err
	}
}

// resident is how much memory a process and its descendants take together, in
// bytes. They run the same file and share what they hand over: the pages of files
// and shared memory (RssFile, RssShmem) are those of the first, which has them all.
func resident(root int) (int64, error) {
	var sum int64
	members, err := family(root)
	for _, p := range members {
		size, perr := sizes(p.pid)
		switch {
		case p.pid == root:
			sum, err = sum+size["VmRSS"], errors.Join(err, perr)
		case perr == nil: // else it has ended
			sum += size["RssAnon"]
		}
	}
	return sum, err
}

// sizes are those of a process in /proc/pid/status that are in kB there, in bytes.
func sizes(pid int) (map[string]int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return nil, err
	}
	all := map[string]int64{}
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(line, ":")
		if v, ok := strings.CutSuffix(strings.TrimSpace(value), " kB"); ok {
			kib, err := strconv.ParseInt(v, 10, 64)
			if err != nil {
				return nil, fmt.Errorf("/proc/pid/status: %q: %w", line, err)
			}
			all[key] = kib << 10
		}
	}
	if all["VmRSS"] == 0 {
		return nil, fmt.Errorf("process %d has no memory: it has ended", pid)
	}
	return all, nil
}

// process is what /proc/pid/stat tells.
type process struct {
	pid, parent int
	ticks       int64 // used by it, and by its children that have ended
}

// family returns a process and its descendants.
func family(root int) ([]process, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	children := map[int][]process{}
	var members []process
	for _, file := range stats {
		b, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		p, err := parseStat(b)
		if err != nil {
			return nil, err
		}
		if p.pid == root {
			members = append(members, p)
		}
		children[p.parent] = append(children[p.parent], p)
	}
	if len(members) == 0 {
		return nil, fmt.Errorf("process %d has ended", root)
	}
	for i := 0; i < len(members); i++ {
		members = append(members, children[members[i].pid]...)
	}
	return members, nil
}

// parseStat reads /proc/pid/stat (proc(5): pid, name, state, ppid, …, utime,
// stime, cutime and cstime as the fields 14 to 17).
func parseStat(b []byte) (p process, err error) {
	name, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')') // the name may have spaces and brackets
	fields := strings.Fields(string(b[end+1:]))
	const parent, utime, cstime = 4 - 3, 14 - 3, 17 - 3
	if name < 1 || end < name || len(fields) <= cstime {
		return p, fmt.Errorf("/proc/pid/stat: %q", b)
	}
	var errs [3]error
	p.pid, errs[0] = strconv.Atoi(strings.TrimSpace(string(b[:name])))
	p.parent, errs[1] = strconv.Atoi(fields[parent])
	for _, f := range fields[utime : cstime+1] {
		n, err := strconv.ParseInt(f, 10, 64)
		p.ticks, errs[2] = p.ticks+n, errors.Join(errs[2], err)
	}
	return p, errors.Join(errs[:]...)
}

// analysedOnce is nil if sluice has analysed one image so far.
func (s *server) analysedOnce(ctx context.Context) error {
	b, err := httpGet(ctx, "http://"+s.ops+"/metrics")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "sluice_analyses_total "); ok {
			if strings.TrimSpace(v) != "1" {
				return fmt.Errorf("%s analyses of one image", strings.TrimSpace(v))
			}
			return nil
		}
	}
	return errors.New("/metrics has no sluice_analyses_total")
}

// freeAddresses returns two addresses of the loopback interface that nobody
// listens on.
func freeAddresses(ctx context.Context) (one, two string, err error) {
	var lc net.ListenConfig
	a, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", "", err
	}
	defer a.Close()
	b, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", "", err
	}
	defer b.Close()
	return a.Addr().String(), b.Addr().String(), nil
}
