package container

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"syscall"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/sys/user"

	"sampan.dev/sampan/engine"
	"sampan.dev/sampan/engine/docker/internal/api"
	"sampan.dev/sampan/engine/docker/internal/archive"
	"sampan.dev/sampan/internal/fault"
)

func (s *Service) changes(w http.ResponseWriter, r *http.Request) error {
	c, err := s.find(r)
	if err != nil {
		return err
	}
	list, err := s.engine.Changes(r.Context(), c.ID)
	if err != nil {
		return err
	}
	out := []container.FilesystemChange{}
	for _, change := range list {
		out = append(out, container.FilesystemChange{Kind: container.ChangeType(change.Kind), Path: change.Path})
	}
	return api.JSON(w, http.StatusOK, out)
}

func (s *Service) export(w http.ResponseWriter, r *http.Request) error {
	c, err := s.find(r)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-tar")
	return s.engine.Export(r.Context(), c.ID, w)
}

// browse calls do with the files of a request's container and the path that it is about.
func (s *Service) browse(r *http.Request, do func(c engine.Container, t archive.Tree, name string) error) (err error) {
	name := r.URL.Query().Get("path")
	if name == "" {
		return fault.Invalid("bad parameter: path cannot be empty")
	}
	c, err := s.find(r)
	if err != nil {
		return err
	}
	root, release, err := s.engine.Files(r.Context(), c.ID)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	err = do(c, archive.Tree{Root: root}, name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return fault.NotFound("Could not find the file %s in container %s", name, r.PathValue("id"))
	}
	return err
}

// archive answers GET with a tar stream, and HEAD with what is at the path alone.
func (s *Service) archive(w http.ResponseWriter, r *http.Request) error {
	return s.browse(r, func(_ engine.Container, t archive.Tree, name string) error {
		f, err := t.Stat(name)
		if err != nil {
			return err
		}
		stat, err := json.Marshal(container.PathStat{Name: f.Name(), Size: f.Size(), Mode: f.Mode(), Mtime: f.ModTime(), LinkTarget: f.Target})
		if err != nil {
			return err
		}
		w.Header().Set("X-Docker-Container-Path-Stat", base64.StdEncoding.EncodeToString(stat))
		if r.Method == http.MethodHead {
			return nil
		}
		w.Header().Set("Content-Type", "application/x-tar")
		return t.Pack(w, name)
	})
}

// extract puts the files of a tar stream into a directory of the container.
func (s *Service) extract(w http.ResponseWriter, r *http.Request) error {
	return s.browse(r, func(c engine.Container, t archive.Tree, name string) error {
		f, err := t.Stat(strings.TrimSuffix(name, "/") + "/.")
		if err != nil {
			return err
		}
		if !f.IsDir() {
			return fault.Invalid("extraction point is not a directory")
		}
		if err := writable(c, name); err != nil {
			return err
		}
		o := archive.Options{KeepType: api.Bool(r, "noOverwriteDirNonDir")}
		if api.Bool(r, "copyUIDGID") && c.User != "" {
			if o.Owner, err = owner(t, c.User); err != nil {
				return err
			}
		}
		return t.Unpack(r.Body, name, o)
	})
}

// writable says in good words what the kernel would say of a running container only.
func writable(c engine.Container, name string) error {
	name = path.Clean("/" + name)
	found, readOnly := "", c.Spec.ReadOnly
	mounts := append(c.Spec.Mounts[:len(c.Spec.Mounts):len(c.Spec.Mounts)], c.Volumes...)
	for _, m := range mounts {
		if len(m.Target) > len(found) && (name == m.Target || strings.HasPrefix(name, m.Target+"/")) {
			found, readOnly = m.Target, m.ReadOnly
		}
	}
	switch {
	case readOnly && found == "":
		return fault.Forbidden("container rootfs is marked read-only")
	case readOnly:
		return fault.Forbidden("mounted volume is marked read-only")
	}
	return nil
}

// owner looks a user up in the container's own files.
func owner(t archive.Tree, name string) (*[2]int, error) {
	passwd, err := t.Read("/etc/passwd")
	if err != nil {
		return nil, err
	}
	group, err := t.Read("/etc/group")
	if err != nil {
		return nil, err
	}
	u, err := user.GetExecUser(name, &user.ExecUser{}, strings.NewReader(passwd), strings.NewReader(group))
	if err != nil {
		return nil, fault.Invalid("unable to find user %s: %w", name, err)
	}
	return &[2]int{u.Uid, u.Gid}, nil
}
