package container

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"

	"sampan.dev/sampan/engine"
	"sampan.dev/sampan/engine/docker/internal/api"
	"sampan.dev/sampan/engine/docker/internal/moment"
	"sampan.dev/sampan/internal/fault"
)

func (s *Service) start(w http.ResponseWriter, r *http.Request) error {
	if r.ContentLength > 7 || r.ContentLength == -1 {
		return fault.Invalid("starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24")
	}
	if r.URL.Query().Get("checkpoint") != "" {
		return noCheckpoints(w, r)
	}
	c, err := s.find(r)
	if err != nil {
		return err
	}
	switch c.State {
	case engine.Paused:
		return fault.Conflict("cannot start a paused container, try unpause instead")
	case engine.Running, engine.Restarting:
		return api.NotModified()
	}
	if err := s.engine.Start(r.Context(), c.ID); err != nil {
		return err
	}
	s.sizeFirst(r, c)
	return api.NoContent(w)
}

// sizeFirst gives a terminal the size that the client had when it created the container.
func (s *Service) sizeFirst(r *http.Request, c engine.Container) {
	if !c.Spec.TTY {
		return
	}
	q, err := requestOf(c)
	if err != nil {
		return // its inspect says so
	}
	if size := q.HostConfig.ConsoleSize; size[0] > 0 && size[1] > 0 {
		_ = s.engine.Resize(r.Context(), c.ID, engine.Size{Rows: uint16(size[0]), Columns: uint16(size[1])}) // it may have ended
	}
}

// ending reads how a container is to be stopped.
func ending(r *http.Request) (signal string, grace time.Duration, err error) {
	if api.AtLeast(r, "1.42") {
		signal = r.URL.Query().Get("signal")
	}
	if r.URL.Query().Get("t") == "" {
		return signal, 0, nil
	}
	seconds, err := api.Int(r, "t", 0)
	return signal, graceOf(&seconds), err
}

func (s *Service) stop(w http.ResponseWriter, r *http.Request) error {
	signal, grace, err := ending(r)
	if err != nil {
		return err
	}
	c, err := s.find(r)
	if err != nil {
		return err
	}
	if !running(c) {
		return api.NotModified()
	}
	if err := s.engine.Stop(r.Context(), c.ID, signal, grace); err != nil {
		return err
	}
	return api.NoContent(w)
}

func (s *Service) restart(w http.ResponseWriter, r *http.Request) error {
	signal, grace, err := ending(r)
	if err != nil {
		return err
	}
	c, err := s.find(r)
	if err != nil {
		return err
	}
	if err := s.engine.Restart(r.Context(), c.ID, signal, grace); err != nil {
		return err
	}
	s.sizeFirst(r, c)
	return api.NoContent(w)
}

func (s *Service) kill(w http.ResponseWriter, r *http.Request) error {
	c, err := s.find(r)
	if err != nil {
		return err
	}
	if !running(c) {
		return fault.Conflict("cannot kill container: %s: container %s is not running", r.PathValue("id"), c.ID)
	}
	if err := s.engine.Kill(r.Context(), c.ID, r.URL.Query().Get("signal")); err != nil {
		return err
	}
	return api.NoContent(w)
}

func (s *Service) pause(w http.ResponseWriter, r *http.Request) error {
	c, err := s.find(r)
	if err != nil {
		return err
	}
	switch c.State {
	case engine.Paused:
		return fault.Conflict("container %s is already paused", c.ID)
	case engine.Restarting:
		return fault.Conflict("Container %s is restarting, wait until the container is running", c.ID)
	case engine.Created, engine.Exited:
		return fault.Conflict("container %s is not running", c.ID)
	}
	if err := s.engine.Pause(r.Context(), c.ID); err != nil {
		return err
	}
	return api.NoContent(w)
}

func (s *Service) unpause(w http.ResponseWriter, r *http.Request) error {
	c, err := s.find(r)
	if err != nil {
		return err
	}
	if c.State != engine.Paused {
		return fault.Conflict("Container %s is not paused", c.ID)
	}
	if err := s.engine.Resume(r.Context(), c.ID); err != nil {
		return err
	}
	return api.NoContent(w)
}

// wait answers in two steps: with the header when it is registered, and with the end.
func (s *Service) wait(w http.ResponseWriter, r *http.Request) error {
	condition := r.URL.Query().Get("condition")
	switch condition {
	case engine.NotRunning, engine.NextExit, engine.Removed:
	case "":
		condition = engine.NotRunning
	default:
		return fault.Invalid("invalid condition: %q", condition)
	}
	if !api.AtLeast(r, "1.30") {
		condition = engine.NotRunning
	}
	c, err := s.find(r)
	if err != nil {
		return err
	}
	over, err := s.engine.WaitFor(r.Context(), c.ID, condition)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	if api.AtLeast(r, "1.30") {
		w.WriteHeader(http.StatusOK)
		api.Flush(w)
	}
	exit, err := over()
	answer := container.WaitResponse{StatusCode: int64(exit.Code)}
	if err != nil {
		if r.Context().Err() != nil {
			return err
		}
		answer.StatusCode, answer.Error = -1, &container.WaitExitError{Message: err.Error()}
	}
	return api.Stream(w).Send(answer)
}

func (s *Service) rename(w http.ResponseWriter, r *http.Request) error {
	name := strings.TrimPrefix(r.URL.Query().Get("name"), "/")
	if name == "" {
		return fault.Invalid("Neither old nor new names may be empty")
	}
	c, err := s.find(r)
	if err != nil {
		return err
	}
	if c.Name == name {
		return fault.Invalid("Renaming a container with the same name as its current name")
	}
	if err := s.nameTaken(r.Context(), s.engine.Rename(r.Context(), c.ID, name), name); err != nil {
		return err
	}
	return api.NoContent(w)
}

func (s *Service) update(w http.ResponseWriter, r *http.Request) error {
	var in container.UpdateConfig
	if err := api.Decode(r, &in); err != nil {
		return err
	}
	if !api.AtLeast(r, "1.40") {
		in.PidsLimit = nil
	}
	if !api.AtLeast(r, "1.55") {
		in.BlkioWeightDevice = nil
		in.BlkioDeviceReadBps, in.BlkioDeviceWriteBps, in.BlkioDeviceReadIOps, in.BlkioDeviceWriteIOps = nil, nil, nil, nil
	}
	c, err := s.find(r)
	if err != nil {
		return err
	}
	var change engine.Update
	l, err := limits(c.Spec.Limits, in.Resources)
	if err != nil {
		return err
	}
	change.Limits = &l
	if in.RestartPolicy.Name != "" {
		if err := container.ValidateRestartPolicy(in.RestartPolicy); err != nil {
			return fault.Invalid("%w", err)
		}
		if c.Spec.AutoRemove && !in.RestartPolicy.IsNone() {
			return fault.Invalid("Restart policy cannot be updated because AutoRemove is enabled for the container")
		}
		policy := restartOf(in.RestartPolicy)
		change.Restart = &policy
	}
	if err := s.engine.Update(r.Context(), c.ID, change); err != nil {
		return err
	}
	return api.JSON(w, http.StatusOK, container.UpdateResponse{Warnings: []string{}})
}

func (s *Service) remove(w http.ResponseWriter, r *http.Request) error {
	c, err := s.find(r)
	if err != nil {
		return err
	}
	if api.Bool(r, "link") {
		return fault.Invalid("links are names in /etc/hosts here, and are not removed by themselves")
	}
	force := api.Bool(r, "force")
	if running(c) && !force {
		advice := "stop the container before removing or force remove"
		if c.State == engine.Paused {
			advice = "unpause and then " + advice
		}
		return fault.Conflict("cannot remove container %q: container is %s: %s", "/"+c.Name, c.State, advice)
	}
	err = s.engine.Remove(r.Context(), c.ID, engine.RemoveOptions{Force: force, Volumes: api.Bool(r, "v")})
	if fault.Is(err, fault.KindNotFound) {
		return errMissing(r.PathValue("id"))
	}
	if err != nil {
		return err
	}
	return api.NoContent(w)
}

// until is the filter of that name; the zero time when there is none.
func until(f api.Filters) (time.Time, error) {
	switch values := f.Get("until"); len(values) {
	case 0:
		return time.Time{}, nil
	case 1:
		return moment.Parse(values[0], time.Now())
	}
	return time.Time{}, fault.Invalid("more than one until filter specified")
}

// prune removes those that do not run.
func (s *Service) prune(w http.ResponseWriter, r *http.Request) error {
	f, err := api.FiltersOf(r)
	if err != nil {
		return err
	}
	if err := f.Check("label", "label!", "until"); err != nil {
		return err
	}
	until, err := until(f)
	if err != nil {
		return err
	}
	all, err := s.engine.Containers(r.Context(), nil)
	if err != nil {
		return err
	}
	report := container.PruneReport{ContainersDeleted: []string{}}
	var errs []error
	for _, c := range all {
		if running(c) || !f.MatchLabels(c.Spec.Labels) || !until.IsZero() && !c.Created.Before(until) {
			continue
		}
		size, _, err := s.engine.Size(r.Context(), c.ID)
		if err == nil {
			err = s.engine.Remove(r.Context(), c.ID, engine.RemoveOptions{})
		}
		if err != nil {
			if !fault.Is(err, fault.KindNotFound) && !fault.Is(err, fault.KindConflict) { // else it went, or was started, meanwhile
				errs = append(errs, err)
			}
			continue
		}
		report.ContainersDeleted = append(report.ContainersDeleted, c.ID)
		report.SpaceReclaimed += uint64(size)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return api.JSON(w, http.StatusOK, report)
}

// terminalSize reads the size that a client's terminal has.
func terminalSize(r *http.Request) (engine.Size, error) {
	rows, err := api.Int(r, "h", -1)
	if err != nil || rows < 0 || rows > 1<<16-1 {
		return engine.Size{}, fault.Invalid("invalid resize height %q", r.URL.Query().Get("h"))
	}
	columns, err := api.Int(r, "w", -1)
	if err != nil || columns < 0 || columns > 1<<16-1 {
		return engine.Size{}, fault.Invalid("invalid resize width %q", r.URL.Query().Get("w"))
	}
	return engine.Size{Columns: uint16(columns), Rows: uint16(rows)}, nil
}

func (s *Service) resize(w http.ResponseWriter, r *http.Request) error {
	size, err := terminalSize(r)
	if err != nil {
		return err
	}
	c, err := s.find(r)
	if err != nil {
		return err
	}
	if !running(c) {
		return fault.Conflict("container %s is not running", c.ID)
	}
	return s.engine.Resize(r.Context(), c.ID, size)
}
