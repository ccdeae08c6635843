package container

import (
	"net/http"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/container"

	"sampan.dev/sampan/engine"
	"sampan.dev/sampan/engine/docker/internal/api"
	"sampan.dev/sampan/internal/fault"
)

func (s *Service) commit(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	var over struct{ *container.Config }
	if _, err := api.DecodeOptional(r, &over); err != nil {
		return err
	}
	ref, err := commitName(q.Get("repo"), q.Get("tag"))
	if err != nil {
		return err
	}
	c, err := s.findID(r.Context(), q.Get("container"))
	if err != nil {
		return err
	}
	i, err := s.engine.Commit(r.Context(), c.ID, engine.CommitOptions{
		Ref: ref, Author: q.Get("author"), Message: q.Get("comment"), Pause: api.BoolOr(r, "pause", true),
		Config: imageConfig(over.Config), Changes: q["changes"],
	})
	if err != nil {
		return err
	}
	return api.JSON(w, http.StatusCreated, container.CommitResponse{ID: i.ID})
}

// commitName joins a repository and a tag; empty is none.
func commitName(repo, tag string) (string, error) {
	if repo == "" {
		return "", nil
	}
	name, err := reference.ParseNormalizedNamed(repo)
	if err != nil {
		return "", fault.Invalid("%w", err)
	}
	if _, digested := name.(reference.Digested); digested {
		return "", fault.Invalid("cannot import digest reference")
	}
	if tag != "" {
		if name, err = reference.WithTag(name, tag); err != nil {
			return "", fault.Invalid("%w", err)
		}
	}
	return reference.TagNameOnly(name).String(), nil
}

// imageConfig is what a client wants otherwise than the container has it.
func imageConfig(c *container.Config) engine.ImageConfig {
	if c == nil {
		return engine.ImageConfig{}
	}
	out := engine.ImageConfig{
		Entrypoint: c.Entrypoint, Command: c.Cmd, Env: c.Env, WorkDir: c.WorkingDir, User: c.User, Labels: c.Labels,
		StopSignal: c.StopSignal, OnBuild: c.OnBuild, Shell: c.Shell, Health: healthOf(c.Healthcheck),
	}
	for port := range c.ExposedPorts {
		out.Ports = append(out.Ports, port.String())
	}
	for path := range c.Volumes {
		out.Volumes = append(out.Volumes, path)
	}
	return out
}
