package image

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	types "github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/storage"
	"github.com/opencontainers/go-digest"

	"sampan.dev/sampan/engine"
	"sampan.dev/sampan/engine/docker/internal/api"
	"sampan.dev/sampan/engine/docker/internal/legacy"
	"sampan.dev/sampan/internal/fault"
)

func digestOf(text string) digest.Digest { return digest.Digest(text) }

func (s *Service) inspect(w http.ResponseWriter, r *http.Request) error {
	p, err := platform(r, "platform", "1.49")
	if err != nil {
		return err
	}
	manifests := api.AtLeast(r, "1.48") && api.Bool(r, "manifests")
	if manifests && p != "" {
		return fault.Invalid("conflicting options: manifests and platform options cannot both be set")
	}
	image, err := s.engine.ImageFor(r.Context(), api.Name(r), p)
	if err != nil {
		return err
	}
	out, made, err := s.describe(r, image)
	if err != nil {
		return err
	}
	if manifests {
		if out.Manifests, err = s.manifests(r.Context(), image, s.engine.ImageUsers(r.Context())); err != nil {
			return err
		}
	}
	if p != "" {
		out.Descriptor = &image.Manifest
	}
	return s.answer(w, r, out, made)
}

// A file is what an image's configuration says and engine.Image does not.
type file struct {
	dockerspec.DockerOCIImage
	DockerVersion string `json:"docker_version"`
	Parent        string `json:"parent"`
}

func (s *Service) describe(r *http.Request, i engine.Image) (types.InspectResponse, file, error) {
	var made file
	if err := json.Unmarshal(i.Raw, &made); err != nil {
		return types.InspectResponse{}, made, fmt.Errorf("read the configuration of image %s: %w", i.ID, err)
	}
	usages, _, err := s.engine.ImageUsages(r.Context(), []engine.Image{i})
	if err != nil {
		return types.InspectResponse{}, made, err
	}
	config := made.Config
	out := types.InspectResponse{
		ID: i.ID, RepoTags: filled(i.Names), RepoDigests: filled(i.Digests), Comment: i.Comment, Author: made.Author, Config: &config,
		Architecture: made.Architecture, Variant: made.Variant, Os: made.OS, OsVersion: made.OSVersion,
		Size: usages[0].Total(), RootFS: types.RootFS{Type: "layers", Layers: i.Layers},
		Metadata: types.Metadata{LastTagTime: i.Tagged}, Descriptor: &i.Target,
	}
	if !i.Created.IsZero() {
		out.Created = i.Created.Format(time.RFC3339Nano)
	}
	return out, made, nil
}

// answer adds what older versions had.
func (s *Service) answer(w http.ResponseWriter, r *http.Request, out types.InspectResponse, made file) error {
	more := map[string]any{}
	if !api.AtLeast(r, "1.44") {
		more["VirtualSize"] = out.Size
		if out.Created == "" {
			out.Created = time.Time{}.Format(time.RFC3339Nano)
		}
	}
	if !api.AtLeast(r, "1.45") {
		more["Container"], more["ContainerConfig"] = "", map[string]any{}
	}
	if !api.AtLeast(r, "1.48") {
		out.Descriptor = nil
	}
	if !api.AtLeast(r, "1.52") {
		out.GraphDriver = &storage.DriverData{Name: s.engine.Snapshotter()}
		more["Parent"], more["Comment"], more["Author"], more["DockerVersion"] = made.Parent, "", "", made.DockerVersion
		more["Config"] = oldConfig(!api.AtLeast(r, "1.50"))
	}
	if len(more) == 0 {
		return api.JSON(w, http.StatusOK, out)
	}
	all, err := legacy.With(out, more)
	if err != nil {
		return err
	}
	return api.JSON(w, http.StatusOK, all)
}

// oldConfig are members that were always there once, those of containers even in images.
func oldConfig(containers bool) map[string]any {
	all := map[string]any{
		"Cmd": nil, "Entrypoint": nil, "Env": nil, "Labels": nil, "OnBuild": nil, "User": "", "Volumes": nil, "WorkingDir": "",
	}
	if !containers {
		return all
	}
	for _, name := range []string{"AttachStderr", "AttachStdin", "AttachStdout", "OpenStdin", "StdinOnce", "Tty"} {
		all[name] = false
	}
	for _, name := range []string{"Domainname", "Hostname", "Image"} {
		all[name] = ""
	}
	return all
}
