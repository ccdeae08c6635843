package container

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"sampan.dev/sampan/engine"
	"sampan.dev/sampan/engine/docker/internal/api"
	"sampan.dev/sampan/internal/fault"
)

func (s *Service) create(w http.ResponseWriter, r *http.Request) error {
	q, warnings, err := parseRequest(r)
	if err != nil {
		return err
	}
	image, err := s.image(r, q.Config.Image)
	if err != nil {
		return err
	}
	q.merge(image.Config)
	manifest := image.Manifest
	manifest.Platform = &image.Platform
	q.Manifest = &manifest
	if err := q.check(); err != nil {
		return err
	}
	spec, err := s.spec(r.Context(), &q)
	if err != nil {
		return asInvalid(err)
	}
	c, err := s.make(r.Context(), spec, r.URL.Query().Get("name"))
	if err != nil {
		return err
	}
	if warnings == nil {
		warnings = []string{}
	}
	return api.JSON(w, http.StatusCreated, container.CreateResponse{ID: c.ID, Warnings: warnings})
}

// image finds the one to run. That it is missing is said with 404, and then clients pull it.
func (s *Service) image(r *http.Request, ref string) (engine.Image, error) {
	if ref == "" {
		return engine.Image{}, fault.Invalid("no image specified")
	}
	i, err := s.engine.Image(r.Context(), ref)
	if fault.Is(err, fault.KindNotFound) {
		return i, fault.NotFound("No such image: %s", tagged(ref))
	}
	if err != nil {
		return i, err
	}
	text := r.URL.Query().Get("platform")
	if text == "" || !api.AtLeast(r, "1.41") {
		return i, nil
	}
	want, err := platforms.Parse(text)
	if err != nil {
		return i, fault.Invalid("invalid platform %q: %w", text, err)
	}
	if i.Platform.Architecture != "" && !platforms.OnlyStrict(want).Match(i.Platform) {
		return i, fault.NotFound("image with reference %s was found but its platform (%s) does not match the specified platform (%s)",
			ref, platforms.Format(i.Platform), platforms.Format(want))
	}
	return i, nil
}

// tagged is a reference with the tag that it means.
func tagged(ref string) string {
	last := ref[strings.LastIndexByte(ref, '/')+1:]
	if strings.ContainsAny(last, ":@") {
		return ref
	}
	return ref + ":latest"
}

// asInvalid keeps what is missing beside the image from being answered with 404, which makes
// clients pull the image.
func asInvalid(err error) error {
	if fault.Is(err, fault.KindNotFound) {
		return fault.Invalid("%w", err)
	}
	return err
}

// make creates a container under its name, or under one that is free.
func (s *Service) make(ctx context.Context, spec engine.Spec, name string) (engine.Container, error) {
	if name != "" {
		spec.Name = strings.TrimPrefix(name, "/")
		c, err := s.engine.Create(ctx, spec)
		return c, asInvalid(s.nameTaken(ctx, err, spec.Name))
	}
	for try := 0; ; try++ {
		spec.Name = randomName(try)
		c, err := s.engine.Create(ctx, spec)
		if try < 20 && isNameTaken(err) {
			continue
		}
		return c, asInvalid(err)
	}
}

func isNameTaken(err error) bool {
	f, ok := fault.Of(err)
	return ok && f.Kind == fault.KindConflict && f.Field == "name"
}

// nameTaken says it in Docker's words: clients look for them.
func (s *Service) nameTaken(ctx context.Context, err error, name string) error {
	if !isNameTaken(err) {
		return err
	}
	other, lookup := s.engine.Container(ctx, name)
	if lookup != nil {
		return err
	}
	return fault.Conflict(`Conflict. The container name "/%s" is already in use by container "%s". You have to remove (or rename) that container to be able to reuse that name.`,
		name, other.ID)
}

// spec is what the engine is told.
func (s *Service) spec(ctx context.Context, q *request) (engine.Spec, error) {
	c, h := q.Config, q.HostConfig
	out := engine.Spec{
		Image: c.Image, Entrypoint: full(c.Entrypoint), Command: full(c.Cmd), Env: c.Env, WorkDir: c.WorkingDir, User: c.User,
		Groups: h.GroupAdd, Hostname: c.Hostname, Domainname: c.Domainname, Labels: c.Labels,
		Tmpfs: h.Tmpfs, Search: h.DNSSearch, Resolver: h.DNSOptions,
		PID: string(h.PidMode), IPC: string(h.IpcMode), UTS: string(h.UTSMode), Cgroups: string(h.CgroupnsMode),
		CgroupParent: h.CgroupParent, Restart: restartOf(h.RestartPolicy), Health: healthOf(c.Healthcheck),
		StopSignal: c.StopSignal, StopTimeout: graceOf(c.StopTimeout), AutoRemove: h.AutoRemove,
		TTY: c.Tty, Stdin: c.OpenStdin, Init: h.Init != nil && *h.Init, ReadOnly: h.ReadonlyRootfs, Privileged: h.Privileged,
		CapAdd: h.CapAdd, CapDrop: h.CapDrop, Sysctls: h.Sysctls, DeviceRules: h.DeviceCgroupRules, ShmSize: h.ShmSize,
		Annotations: h.Annotations,
	}
	for _, d := range h.Devices {
		out.Devices = append(out.Devices, engine.Device{Host: d.PathOnHost, Container: d.PathInContainer, Access: d.CgroupPermissions})
	}
	for _, ip := range h.DNS {
		out.DNS = append(out.DNS, ip.String())
	}
	var err error
	if out.Limits, err = limits(engine.Limits{}, h.Resources); err != nil {
		return out, err
	}
	if h.OomScoreAdj != 0 {
		out.Limits.OOM = &h.OomScoreAdj
	}
	for _, step := range []func(context.Context, *request, *engine.Spec) error{
		s.mounts, s.networks, ports, security, logLimits, keep,
	} {
		if err := step(ctx, q, &out); err != nil {
			return out, err
		}
	}
	return out, nil
}

// full is a list that is there even when it is empty, so that the image's does not take its place.
func full(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// keep writes the request down.
func keep(_ context.Context, q *request, out *engine.Spec) (err error) {
	out.Request, err = json.Marshal(q)
	return err
}

// networks says how the container is in which networks.
func (s *Service) networks(ctx context.Context, q *request, out *engine.Spec) error {
	out.Network = string(q.HostConfig.NetworkMode)
	if err := s.hosts(ctx, q, out); err != nil {
		return err
	}
	if of := q.HostConfig.NetworkMode.ConnectedContainer(); of != "" {
		other, err := s.findID(ctx, of)
		if err != nil {
			return err
		}
		out.Hostname, out.Domainname = other.Spec.Hostname, other.Spec.Domainname
	}
	if !q.HostConfig.NetworkMode.IsBridge() && !q.HostConfig.NetworkMode.IsUserDefined() {
		q.Endpoints = nil
		return nil
	}
	named := map[string]*network.EndpointSettings{}
	for key, e := range q.Endpoints {
		n, err := s.engine.Network(ctx, key)
		if fault.Is(err, fault.KindNotFound) {
			return fault.Invalid("network %s not found", key)
		}
		if err != nil {
			return err
		}
		named[n.Name] = e
		out.Networks = append(out.Networks, attachment(n.Name, e))
	}
	q.Endpoints = named
	main, err := s.engine.Network(ctx, out.Network)
	if fault.Is(err, fault.KindNotFound) {
		return fault.Invalid("network %s not found", out.Network)
	}
	if err != nil {
		return err
	}
	if _, ok := named[main.Name]; !ok {
		out.Networks = append(out.Networks, engine.Attachment{Network: main.Name})
	}
	slices.SortFunc(out.Networks, func(a, b engine.Attachment) int { return strings.Compare(a.Network, b.Network) })
	return nil
}

func attachment(name string, e *network.EndpointSettings) engine.Attachment {
	a := engine.Attachment{Network: name, Aliases: e.Aliases, Priority: e.GwPriority}
	if len(e.MacAddress) > 0 {
		a.MAC = e.MacAddress.String()
	}
	if e.IPAMConfig != nil {
		a.IPv4, a.IPv6 = e.IPAMConfig.IPv4Address, e.IPAMConfig.IPv6Address
	}
	return a
}

// hosts are further names in /etc/hosts. Links, which Docker keeps for old clients, are such ones.
func (s *Service) hosts(ctx context.Context, q *request, out *engine.Spec) error {
	out.Hosts = slices.Clone(q.HostConfig.ExtraHosts)
	links := slices.Clone(q.HostConfig.Links)
	for _, e := range q.Endpoints {
		links = append(links, e.Links...)
	}
	for _, link := range links {
		name, alias, ok := strings.Cut(link, ":")
		if !ok {
			alias = strings.TrimPrefix(name, "/")
		}
		other, err := s.findID(ctx, name)
		if err != nil {
			return fault.Invalid("could not get container for %s: %w", name, err)
		}
		if other.IP == "" {
			return fault.Invalid("Cannot link to a non running container: /%s AS %s", other.Name, alias)
		}
		out.Hosts = append(out.Hosts, alias[strings.LastIndexByte(alias, '/')+1:]+":"+other.IP)
	}
	return nil
}
