package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"sampan.dev/sampan/internal/fault"
)

// lockData makes the data directory and keeps every other server off it.
func lockData(cfg *Config) (*os.File, error) {
	dir, err := filepath.Abs(cfg.Data)
	if err != nil {
		return nil, err
	}
	cfg.Data = dir
	if err := os.MkdirAll(filepath.Join(dir, "run"), 0o711); err != nil {
		return nil, fault.Invalid("the data directory cannot be made: %w", err).Try("set another with --data")
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fault.Invalid("the data directory %s is not writable: %w", dir, err).Try("set another with --data")
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fault.Conflict("another sampan works on %s", dir).Try("stop it first, or use another directory with --data")
		}
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return lock, nil
}

// A Running server says here how programs on the same machine reach it.
type Running struct {
	Pid int    `json:"pid"`
	URL string `json:"url"`
	SSH string `json:"ssh"`
	KV  string `json:"kv"`
}

func runFile(data string) string { return filepath.Join(data, "run", "sampan.json") }

func (s *Server) announce() error {
	text, err := json.Marshal(Running{Pid: os.Getpid(), URL: s.parts.webURL(), SSH: s.parts.sshURL(), KV: s.cfg.KVClient})
	if err != nil {
		return err
	}
	if err := os.WriteFile(runFile(s.cfg.Data), append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("say where the server is: %w", err)
	}
	return nil
}

// RunningServer reads what the server that works on the data directory says of itself.
func RunningServer(data string) (Running, error) {
	var r Running
	text, err := os.ReadFile(runFile(data))
	if err != nil {
		return r, fault.Unavailable("the server on %s does not say where it is: %w", data, err).Try("wait until it has started")
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("read %s: %w", runFile(data), err)
	}
	return r, nil
}
