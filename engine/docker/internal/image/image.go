// Package image is what Docker's API knows of images and registries.
//
// An image's ID is the digest of its configuration; what its names point at, a manifest or an
// index of several platforms, is its Descriptor. Progress is told as Docker tells it.
package image

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/pkg/authconfig"
	types "github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/registry"
	"github.com/opencontainers/go-digest"

	"sampan.dev/sampan/engine"
	"sampan.dev/sampan/engine/docker/internal/api"
	"sampan.dev/sampan/internal/fault"
)

// A Service answers requests about images. It is safe for concurrent use.
type Service struct{ engine *engine.Engine }

// New answers from an engine.
func New(e *engine.Engine) *Service { return &Service{e} }

// Routes adds all of them.
func (s *Service) Routes(rt *api.Router) {
	for pattern, h := range map[string]api.Handler{
		"GET /images/json":    s.list,
		"GET /images/search":  search,
		"GET /images/get":     s.saveAll,
		"POST /images/create": s.create,
		"POST /images/load":   s.load,
		"POST /images/prune":  s.prune,
		"POST /auth":          s.auth,
	} {
		rt.Handle(pattern, h)
	}
	rt.HandleName("GET", "/images/", "/json", s.inspect)
	rt.HandleName("GET", "/images/", "/history", s.history)
	rt.HandleName("GET", "/images/", "/get", s.save)
	rt.HandleName("POST", "/images/", "/push", s.push)
	rt.HandleName("POST", "/images/", "/tag", s.tag)
	rt.HandleName("DELETE", "/images/", "", s.remove)
	rt.HandleName("GET", "/distribution/", "/json", s.distribution)
}

func search(http.ResponseWriter, *http.Request) error {
	return api.NotImplemented("images cannot be searched from here: look for one in the pages of its registry, and pull it by its full name")
}

// credentials are those that the client sends along. What cannot be read counts as none, as
// it does with Docker.
func credentials(r *http.Request) *engine.RegistryAuth {
	sent, err := authconfig.Decode(r.Header.Get(registry.AuthHeader))
	if err != nil || *sent == (registry.AuthConfig{}) {
		return nil
	}
	auth := authOf(*sent)
	return &auth
}

func authOf(a registry.AuthConfig) engine.RegistryAuth {
	return engine.RegistryAuth{
		Username: a.Username, Password: a.Password, IdentityToken: a.IdentityToken,
		RegistryToken: a.RegistryToken, ServerAddress: a.ServerAddress,
	}
}

// auth is docker login.
func (s *Service) auth(w http.ResponseWriter, r *http.Request) error {
	var sent registry.AuthConfig
	if err := api.Decode(r, &sent); err != nil {
		return err
	}
	if err := s.engine.SignIn(r.Context(), authOf(sent)); err != nil {
		return err
	}
	return api.JSON(w, http.StatusOK, registry.AuthResponse{Status: "Login Succeeded", IdentityToken: sent.IdentityToken})
}

func (s *Service) distribution(w http.ResponseWriter, r *http.Request) error {
	target, platforms, err := s.engine.RemoteImage(r.Context(), api.Name(r), credentials(r))
	if err != nil {
		return err
	}
	return api.JSON(w, http.StatusOK, registry.DistributionInspect{Descriptor: target, Platforms: platforms})
}

// named is NAME:TAG, NAME@DIGEST or NAME of two parameters.
func named(name, tag string) (string, error) {
	name = strings.TrimSuffix(name, ":") // docker pull -a once sent it
	if name == "" || tag == "" {
		return name, nil
	}
	parsed, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return "", fault.Invalid("%w", err)
	}
	if d, err := digest.Parse(tag); err == nil {
		return reference.TrimNamed(parsed).Name() + "@" + d.String(), nil
	}
	tagged, err := reference.WithTag(reference.TrimNamed(parsed), tag)
	if err != nil {
		return "", fault.Invalid("%w", err)
	}
	return tagged.String(), nil
}

// whole reports whether a name is a repository, without a tag.
func whole(name string) bool {
	parsed, err := reference.ParseNormalizedNamed(name)
	return err == nil && reference.IsNameOnly(parsed)
}

// platform is a parameter that clients of that version and newer ones send; at most one.
func platform(r *http.Request, key, version string) (string, error) {
	if !api.AtLeast(r, version) {
		return "", nil
	}
	sent := api.Query(r)[key]
	if len(sent) > 1 {
		return "", fault.Invalid("multiple platforms are not supported")
	}
	return first(sent), nil
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

// teller sends progress as Docker's clients draw it.
func teller(st *api.JSONStream) func(engine.Progress) {
	return func(p engine.Progress) {
		m := jsonstream.Message{ID: p.ID, Status: p.Status}
		if p.ID != "" {
			m.Progress = &jsonstream.Progress{Current: p.Done, Total: p.Total}
		}
		if p.Pushed != nil {
			raw, err := json.Marshal(p.Pushed)
			if err != nil {
				return
			}
			m = jsonstream.Message{Progress: &jsonstream.Progress{}, Aux: (*json.RawMessage)(&raw)}
		}
		// A client that is gone ends the request's context, and so the work.
		_ = st.Send(m)
	}
}

func (s *Service) create(w http.ResponseWriter, r *http.Request) error {
	if api.Query(r).Get("fromImage") == "" {
		return s.importTar(w, r)
	}
	return s.pull(w, r)
}

func (s *Service) pull(w http.ResponseWriter, r *http.Request) error {
	q := api.Query(r)
	ref, err := named(q.Get("fromImage"), q.Get("tag"))
	if err != nil {
		return err
	}
	p, err := platform(r, "platform", "1.32")
	if err != nil {
		return err
	}
	st := api.Stream(w)
	o := engine.PullOptions{Platform: p, Auth: credentials(r), All: whole(ref)}
	_, err = s.engine.Pull(r.Context(), ref, o, teller(st))
	return st.Fail(err)
}

func (s *Service) importTar(w http.ResponseWriter, r *http.Request) error {
	q := api.Query(r)
	name, err := named(q.Get("repo"), q.Get("tag"))
	if err != nil {
		return err
	}
	p, err := platform(r, "platform", "1.32")
	if err != nil {
		return err
	}
	from := q.Get("fromSrc")
	body, err := source(r, from)
	if err != nil {
		return err
	}
	defer body.Close()
	flat := engine.FlatImage{Name: name, Message: q.Get("message"), Changes: q["changes"], Platform: p}
	if flat.Message == "" {
		flat.Message = "Imported from " + from
	}
	st := api.Stream(w)
	image, err := s.engine.ImportTar(r.Context(), body, flat)
	if err != nil {
		return st.Fail(err)
	}
	return st.Send(jsonstream.Message{Status: image.ID})
}

func (s *Service) load(w http.ResponseWriter, r *http.Request) error {
	p, err := platform(r, "platform", "1.48")
	if err != nil {
		return err
	}
	st := api.Stream(w)
	var progress func(engine.Progress)
	if !api.BoolOr(r, "quiet", true) {
		progress = teller(st)
	}
	loaded, err := s.engine.Load(r.Context(), r.Body, p, progress)
	for _, one := range loaded {
		text := "Loaded image: " + one.Name + "\n"
		if one.Name == "" {
			text = "Loaded image ID: " + one.ID + "\n"
		}
		if err := st.Send(jsonstream.Message{Stream: text}); err != nil {
			return err
		}
	}
	return st.Fail(err)
}

func (s *Service) saveAll(w http.ResponseWriter, r *http.Request) error {
	return s.write(w, r, api.Query(r)["names"])
}

func (s *Service) save(w http.ResponseWriter, r *http.Request) error {
	return s.write(w, r, []string{api.Name(r)})
}

func (s *Service) write(w http.ResponseWriter, r *http.Request, names []string) error {
	p, err := platform(r, "platform", "1.48")
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-tar")
	return s.engine.Save(r.Context(), names, p, w)
}

func (s *Service) push(w http.ResponseWriter, r *http.Request) error {
	ref, err := named(api.Name(r), api.Query(r).Get("tag"))
	if err != nil {
		return err
	}
	p, err := platform(r, "platform", "1.46")
	if err != nil {
		return err
	}
	st := api.Stream(w)
	o := engine.PushOptions{Platform: p, Auth: credentials(r), All: whole(ref)}
	return st.Fail(s.engine.Push(r.Context(), ref, o, teller(st)))
}

func (s *Service) tag(w http.ResponseWriter, r *http.Request) error {
	q := api.Query(r)
	name, err := named(q.Get("repo"), q.Get("tag"))
	if err != nil {
		return err
	}
	if name == "" {
		return fault.Invalid("the new name is missing").On("repo")
	}
	if parsed, err := reference.ParseNormalizedNamed(name); err == nil && reference.FamiliarName(parsed) == string(digest.Canonical) {
		return fault.Invalid("refusing to create an ambiguous tag using digest algorithm as name")
	}
	if err := s.engine.Tag(r.Context(), api.Name(r), name); err != nil {
		return err
	}
	w.WriteHeader(http.StatusCreated)
	return nil
}

func (s *Service) remove(w http.ResponseWriter, r *http.Request) error {
	name := api.Name(r)
	if strings.TrimSpace(name) == "" {
		return fault.Invalid("image name cannot be blank")
	}
	if api.AtLeast(r, "1.50") && len(api.Query(r)["platforms"]) > 0 {
		return api.NotImplemented("a single platform of an image cannot be removed: remove the image, and pull the platforms that you need")
	}
	removed, err := s.engine.RemoveImage(r.Context(), name, api.Bool(r, "force"))
	if err != nil {
		return err
	}
	return api.JSON(w, http.StatusOK, deleted(removed))
}

func deleted(removed []engine.RemovedImage) []types.DeleteResponse {
	all := make([]types.DeleteResponse, len(removed))
	for i, one := range removed {
		all[i] = types.DeleteResponse{Untagged: one.Untagged, Deleted: one.Deleted}
	}
	return all
}

func (s *Service) history(w http.ResponseWriter, r *http.Request) error {
	p, err := platform(r, "platform", "1.48")
	if err != nil {
		return err
	}
	image, steps, err := s.engine.History(r.Context(), api.Name(r), p)
	if err != nil {
		return err
	}
	all := make([]types.HistoryResponseItem, len(steps))
	for i, step := range steps {
		all[i] = types.HistoryResponseItem{ID: "<missing>", Comment: step.Comment, CreatedBy: step.By, Size: step.Size}
		if !step.Created.IsZero() {
			all[i].Created = step.Created.Unix()
		}
		if i == 0 {
			all[i].ID, all[i].Tags = image.ID, image.Names
		}
	}
	return api.JSON(w, http.StatusOK, all)
}
