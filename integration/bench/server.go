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

// startSluice starts sluice with a fresh data folder in front of u. The access
// log is off, as it is on the other side.
func (l *lab) startSluice(ctx context.Context, u *upstream) (*server, error) {
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
		"advisories:\n  from: %s\n  kev: \"\"\n  updateEvery: 0s\n", l.feed)
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

// cpu is the processor time that the process has used, in steps of 10 ms
// (proc(5), /proc/pid/stat: utime and stime).
func (s *server) cpu() (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:])) // the name may have spaces
	const utime, stime, tick = 14 - 3, 15 - 3, 10 * time.Millisecond
	if len(fields) <= stime {
		return 0, fmt.Errorf("/proc/pid/stat: %q", b)
	}
	user, err := strconv.ParseInt(fields[utime], 10, 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseInt(fields[stime], 10, 64)
	return time.Duration(user+system) * tick, err
}

// peak is the largest resident size of the process in bytes (VmHWM).
func (s *server) peak() (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(v), "kB")), 10, 64)
			return kib << 10, err
		}
	}
	return 0, errors.New("/proc/pid/status has no VmHWM")
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
