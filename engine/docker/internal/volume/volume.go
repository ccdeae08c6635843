// Package volume is what Docker's API knows of volumes: named directories that outlive the
// containers which use them. One that nobody named is anonymous, and says so by a label.
package volume

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	types "github.com/moby/moby/api/types/volume"

	"sampan.dev/sampan/engine"
	"sampan.dev/sampan/engine/docker/internal/api"
	"sampan.dev/sampan/internal/fault"
)

// A Service answers requests about volumes. It is safe for concurrent use.
type Service struct{ engine *engine.Engine }

// New answers from an engine.
func New(e *engine.Engine) *Service { return &Service{e} }

// Routes adds all of them.
func (s *Service) Routes(rt *api.Router) {
	for pattern, h := range map[string]api.Handler{
		"GET /volumes":           s.list,
		"POST /volumes/create":   s.create,
		"POST /volumes/prune":    s.prune,
		"GET /volumes/{name}":    s.inspect,
		"PUT /volumes/{name}":    s.update,
		"DELETE /volumes/{name}": s.remove,
	} {
		rt.Handle(pattern, h)
	}
}

func (s *Service) update(http.ResponseWriter, *http.Request) error {
	return fault.Unavailable("volume update only valid for cluster volumes, but swarm is unavailable")
}

// anonymous is the label of volumes that nobody named.
const anonymous = "com.docker.volume.anonymous"

// local is where Docker says that a volume is.
const local = "local"

// Describe is a volume as the API shows it.
func Describe(v engine.VolumeInfo) types.Volume {
	out := types.Volume{
		Name: v.Name, Driver: v.Driver, Mountpoint: v.Path, Scope: local, CreatedAt: v.Created.Format(time.RFC3339), Labels: labels(v),
	}
	if len(v.Options) > 0 {
		out.Options = v.Options
	}
	return out
}

// labels are null without one, as they are with Docker.
func labels(v engine.VolumeInfo) map[string]string {
	all := maps.Clone(v.Labels)
	if v.Anonymous {
		if all == nil {
			all = map[string]string{}
		}
		all[anonymous] = ""
	}
	if len(all) == 0 {
		return nil
	}
	return all
}

func (s *Service) list(w http.ResponseWriter, r *http.Request) error {
	f, err := api.FiltersOf(r)
	if err != nil {
		return err
	}
	if err := f.Check("dangling", "driver", "label", "label!", "name"); err != nil {
		return err
	}
	unused, err := f.Bool("dangling", false)
	if err != nil {
		return err
	}
	all, err := s.engine.Volumes(r.Context())
	if err != nil {
		return err
	}
	users := s.engine.VolumeUsers(r.Context())
	out := types.ListResponse{Volumes: []types.Volume{}}
	for _, v := range all {
		switch {
		case f.Has("dangling") && unused != (users[v.Name] == 0):
		case !f.MatchPattern("name", v.Name), !f.Match("driver", v.Driver), !f.MatchLabels(labels(v)):
		default:
			out.Volumes = append(out.Volumes, Describe(v))
		}
	}
	return api.JSON(w, http.StatusOK, out)
}

func (s *Service) find(r *http.Request) (engine.VolumeInfo, error) {
	name := r.PathValue("name")
	v, err := s.engine.Volume(r.Context(), name)
	if fault.Is(err, fault.KindNotFound) {
		return v, fault.NotFound("get %s: no such volume", name)
	}
	return v, err
}

func (s *Service) inspect(w http.ResponseWriter, r *http.Request) error {
	v, err := s.find(r)
	if err != nil {
		return err
	}
	return api.JSON(w, http.StatusOK, Describe(v))
}

func (s *Service) create(w http.ResponseWriter, r *http.Request) error {
	var asked types.CreateRequest
	if err := api.Decode(r, &asked); err != nil {
		return err
	}
	if asked.ClusterVolumeSpec != nil {
		return fault.Unavailable("cluster volumes need a swarm, which this engine is not part of")
	}
	if asked.Driver != "" && asked.Driver != local && asked.Driver != "default" {
		return fault.NotFound("create %s: error looking up volume plugin %s: plugin %q not found", asked.Name, asked.Driver, asked.Driver)
	}
	v, err := s.engine.CreateVolume(r.Context(), engine.VolumeSpec{
		Name: asked.Name, Options: asked.DriverOpts, Labels: asked.Labels, Anonymous: asked.Name == "",
	})
	if err != nil {
		return err
	}
	return api.JSON(w, http.StatusCreated, Describe(v))
}

func (s *Service) remove(w http.ResponseWriter, r *http.Request) error {
	force := api.Bool(r, "force")
	v, err := s.find(r)
	if force && fault.Is(err, fault.KindNotFound) {
		return api.NoContent(w)
	}
	if err != nil {
		return err
	}
	err = s.engine.RemoveVolume(r.Context(), v.Name, force)
	if fault.Is(err, fault.KindConflict) {
		if users, uerr := s.users(r.Context(), v.Name); uerr == nil && len(users) > 0 {
			return fault.Conflict("remove %s: volume is in use - [%s]", v.Name, strings.Join(users, ", "))
		}
	}
	if err != nil {
		return err
	}
	return api.NoContent(w)
}

// users are the containers that have a volume.
func (s *Service) users(ctx context.Context, name string) ([]string, error) {
	all, err := s.engine.Containers(ctx, nil)
	if err != nil {
		return nil, err
	}
	var users []string
	for _, c := range all {
		if slices.ContainsFunc(c.Volumes, func(m engine.Mount) bool { return m.Type == engine.Volume && m.Source == name }) {
			users = append(users, c.ID)
		}
	}
	return users, nil
}

func (s *Service) prune(w http.ResponseWriter, r *http.Request) error {
	f, err := api.FiltersOf(r)
	if err != nil {
		return err
	}
	if err := f.Check("all", "label", "label!"); err != nil {
		return err
	}
	named, err := f.Bool("all", !api.AtLeast(r, "1.42"))
	if err != nil {
		return err
	}
	all, err := s.engine.Volumes(r.Context())
	if err != nil {
		return err
	}
	users := s.engine.VolumeUsers(r.Context())
	out := types.PruneReport{VolumesDeleted: []string{}}
	for _, v := range all {
		if users[v.Name] > 0 || !named && !v.Anonymous || !f.MatchLabels(labels(v)) {
			continue
		}
		size := Size(r.Context(), v)
		switch err := s.engine.RemoveVolume(r.Context(), v.Name, false); {
		case fault.Is(err, fault.KindNotFound), fault.Is(err, fault.KindConflict):
			continue // somebody removed it, or uses it now
		case err != nil:
			return fmt.Errorf("remove volume %s: %w", v.Name, err)
		}
		out.VolumesDeleted = append(out.VolumesDeleted, v.Name)
		out.SpaceReclaimed += uint64(max(size, 0))
	}
	return api.JSON(w, http.StatusOK, out)
}

// Size is the room that a volume takes on this machine's disk. Of one that is mounted from
// elsewhere, and of one that vanishes meanwhile, it is -1: not known.
func Size(ctx context.Context, v engine.VolumeInfo) int64 {
	if len(v.Options) > 0 {
		return -1
	}
	var bytes int64
	seen := map[[2]uint64]bool{} // a file of several names counts once
	err := filepath.WalkDir(v.Path, func(path string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if d.IsDir() {
			return nil // as Docker counts
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && !seen[[2]uint64{st.Dev, st.Ino}] {
			seen[[2]uint64{st.Dev, st.Ino}] = st.Nlink > 1
			bytes += st.Blocks * 512
		}
		return nil
	})
	if err != nil {
		return -1
	}
	return bytes
}
