package container

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"

	"sampan.dev/sampan/engine"
	"sampan.dev/sampan/engine/docker/internal/api"
	"sampan.dev/sampan/internal/fault"
)

// top asks the machine's ps(1), for clients may pass any of its options.
func (s *Service) top(w http.ResponseWriter, r *http.Request) error {
	args := "-ef"
	if r.URL.Query().Has("ps_args") && r.URL.Query().Get("ps_args") != "" {
		args = r.URL.Query().Get("ps_args")
	}
	if err := checkPsArgs(args); err != nil {
		return err
	}
	c, err := s.find(r)
	if err != nil {
		return err
	}
	switch c.State {
	case engine.Restarting:
		return fault.Conflict("Container %s is restarting, wait until the container is running", c.ID)
	case engine.Created, engine.Exited:
		return fault.Conflict("container %s is not running", c.ID)
	}
	pids, err := s.engine.Processes(r.Context(), c.ID)
	if err != nil {
		return err
	}
	text, err := ps(r.Context(), strings.Fields(args))
	if err != nil {
		return err
	}
	out, err := parsePs(text, pids)
	if err != nil {
		return err
	}
	return api.JSON(w, http.StatusOK, out)
}

// checkPsArgs keeps the column of process numbers from being renamed: by it those of other
// containers are left out.
func checkPsArgs(args string) error {
	for _, m := range regexp.MustCompile(`\s*([^\s=,]*)=([^\s]*)`).FindAllStringSubmatch(args, -1) {
		if m[1] != "pid" && strings.Contains(strings.ToUpper(m[2]), "PID") {
			return fault.Invalid(`specifying "%s=%s" is not allowed`, m[1], m[2])
		}
	}
	return nil
}

func ps(ctx context.Context, args []string) (string, error) {
	cmd := exec.CommandContext(ctx, "ps", args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if errors.Is(err, exec.ErrNotFound) {
		return "", fault.Unavailable("the program ps is not installed on this machine").Try("install procps")
	}
	if err != nil {
		return "", fault.Invalid("error running ps: %s", strings.TrimSpace(stderr.String()+" "+err.Error()))
	}
	return string(out), nil
}

// parsePs picks the lines of those processes.
func parsePs(text string, pids []int) (container.TopResponse, error) {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	out := container.TopResponse{Titles: strings.Fields(lines[0]), Processes: [][]string{}}
	column := slices.Index(out.Titles, "PID")
	if column < 0 {
		return out, fault.Invalid("Couldn't find PID field in ps output")
	}
	for _, line := range lines[1:] {
		fields := strings.Fields(line)
		if len(fields) <= column {
			continue
		}
		pid, err := strconv.Atoi(fields[column])
		if err != nil || !slices.Contains(pids, pid) {
			continue
		}
		if n := len(out.Titles); len(fields) > n { // the last column is the command with its spaces
			fields = append(fields[:n-1:n-1], strings.Join(fields[n-1:], " "))
		}
		out.Processes = append(out.Processes, fields)
	}
	return out, nil
}
