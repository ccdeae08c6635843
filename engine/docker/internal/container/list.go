package container

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"

	"sampan.dev/sampan/engine"
	"sampan.dev/sampan/engine/docker/internal/api"
)

func (s *Service) list(w http.ResponseWriter, r *http.Request) error {
	filters, err := api.FiltersOf(r)
	if err != nil {
		return err
	}
	limit, err := api.Int(r, "limit", 0)
	if err != nil {
		return err
	}
	all, err := s.engine.Containers(r.Context(), nil)
	if err != nil {
		return err
	}
	slices.Reverse(all) // the newest first
	choice, err := s.choose(r.Context(), filters, all)
	if err != nil {
		return err
	}
	choice.all = choice.all || api.Bool(r, "all") || limit > 0
	out := []any{}
	l := lister{service: s, sized: api.Bool(r, "size"), images: map[string]string{}}
	for _, c := range all {
		if limit > 0 && len(out) == limit {
			break
		}
		q, err := requestOf(c)
		if err != nil {
			return err
		}
		if !choice.takes(c, q) {
			continue
		}
		summary, err := l.summary(r.Context(), c, q)
		if err != nil {
			return err
		}
		out = append(out, forVersion(r, summary))
	}
	return api.JSON(w, http.StatusOK, out)
}

// forVersion leaves out what older clients do not know.
func forVersion(r *http.Request, s container.Summary) container.Summary {
	if !api.AtLeast(r, "1.46") {
		s.HostConfig.Annotations = nil
	}
	if !api.AtLeast(r, "1.48") {
		s.ImageManifestDescriptor = nil
	}
	if !api.AtLeast(r, "1.52") {
		s.Health = nil
	}
	return s
}

// A lister remembers which image a name means.
type lister struct {
	service *Service
	sized   bool
	images  map[string]string // reference → ID
}

func (l *lister) summary(ctx context.Context, c engine.Container, q request) (container.Summary, error) {
	s := l.service
	out := container.Summary{
		ID: c.ID, Names: []string{"/" + c.Name}, Image: l.image(ctx, c), ImageID: c.Image, Command: command(c.Args),
		Created: c.Created.Unix(), Ports: portList(c, q), Labels: q.Config.Labels, State: container.ContainerState(c.State),
		Status: status(c, time.Now()), Mounts: s.mountPoints(ctx, c, q), Health: health(c), ImageManifestDescriptor: q.Manifest,
		NetworkSettings: &container.NetworkSettingsSummary{Networks: s.endpoints(ctx, c, q)},
	}
	out.HostConfig.NetworkMode = string(q.HostConfig.NetworkMode)
	out.HostConfig.Annotations = q.HostConfig.Annotations
	if l.sized {
		rw, root, err := s.engine.Size(ctx, c.ID)
		if err != nil {
			return out, err
		}
		out.SizeRw, out.SizeRootFs = rw, root
	}
	return out, nil
}

// image is the name that the container was made from, or the ID when the name is another's now.
func (l *lister) image(ctx context.Context, c engine.Container) string {
	ref := c.Spec.Image
	id, known := l.images[ref]
	if !known {
		if i, err := l.service.engine.Image(ctx, ref); err == nil {
			id = i.ID
		}
		l.images[ref] = id
	}
	if id != c.Image {
		return c.Image
	}
	return ref
}

func health(c engine.Container) *container.HealthSummary {
	return &container.HealthSummary{Status: healthStatus(c), FailingStreak: c.Checks.Failures}
}

func healthStatus(c engine.Container) container.HealthStatus {
	if c.Healthy == "" {
		return container.NoHealthcheck
	}
	return container.HealthStatus(c.Healthy)
}

// command is the line that people see.
func command(args []string) string {
	line := make([]string, len(args))
	for i, a := range args {
		line[i] = a
		if i > 0 && strings.Contains(a, " ") {
			line[i] = "'" + a + "'"
		}
	}
	return strings.Join(line, " ")
}

// status is what the list says of a state, as in "Up 3 hours (healthy)".
func status(c engine.Container, now time.Time) string {
	since := func(t time.Time) string { return units.HumanDuration(now.Sub(t)) }
	switch c.State {
	case engine.Running:
		switch c.Healthy {
		case "":
			return "Up " + since(c.Started)
		case string(container.Starting):
			return "Up " + since(c.Started) + " (health: starting)"
		}
		return "Up " + since(c.Started) + " (" + c.Healthy + ")"
	case engine.Paused:
		return "Up " + since(c.Started) + " (Paused)"
	case engine.Restarting:
		return fmt.Sprintf("Restarting (%d) %s ago", c.Exit.Code, since(c.Finished))
	case engine.Exited:
		if c.Finished.IsZero() { // nobody saw it
			return fmt.Sprintf("Exited (%d)", c.Exit.Code)
		}
		return fmt.Sprintf("Exited (%d) %s ago", c.Exit.Code, since(c.Finished))
	}
	return "Created"
}
