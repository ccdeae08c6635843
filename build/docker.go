package build

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/moby/buildkit/client"
	api "github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/jsonstream"

	"sampan.dev/sampan/build/internal/dockerfile"
	"sampan.dev/sampan/internal/fault"
)

// Docker serves the part of the Docker Engine API that builds images: BuildKit for clients that
// speak it (/grpc, /session), and the classic POST /build for those that do not.
type Docker struct{ daemon *dockerfile.Daemon }

// Docker is the one of this Builder; nil on the host.
func (b *Builder) Docker() *Docker {
	if b.cfg.Engine == nil {
		return nil
	}
	return &Docker{b.daemon}
}

// Routes adds the addresses. Errors are the router's to answer.
func (d *Docker) Routes(add func(pattern string, h func(http.ResponseWriter, *http.Request) error)) {
	add("POST /grpc", d.grpc)
	add("POST /session", d.daemon.Session)
	add("POST /build", d.build)
	add("POST /build/prune", d.prune)
	add("POST /build/cancel", func(w http.ResponseWriter, r *http.Request) error { return nil }) // a build ends with its request
}

// grpc hands the connection to BuildKit.
func (d *Docker) grpc(w http.ResponseWriter, r *http.Request) error {
	if r.Header.Get("Upgrade") != "h2c" {
		return fault.Invalid("BuildKit is reached by an upgrade to h2c").Try("send the headers Connection: Upgrade and Upgrade: h2c")
	}
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return fmt.Errorf("take the connection: %w", err)
	}
	if _, err := fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"); err != nil {
		return conn.Close()
	}
	return d.daemon.GRPC(r.Context(), conn)
}

func (d *Docker) build(w http.ResponseWriter, r *http.Request) error {
	c, err := classic(r)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	out := json.NewEncoder(flushing{w, http.NewResponseController(w)})
	if err := d.daemon.Build(r.Context(), c, out); err != nil {
		return out.Encode(failure{jsonstream.Message{Error: &jsonstream.Error{Message: err.Error()}}, err.Error()})
	}
	return nil
}

// A failure has the text twice: old clients read "error".
type failure struct {
	jsonstream.Message
	Text string `json:"error"`
}

// flushing sends each line when it is written.
type flushing struct {
	w http.ResponseWriter
	c *http.ResponseController
}

func (f flushing) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	if err == nil {
		err = f.c.Flush()
	}
	return n, err
}

// classic reads the parameters of POST /build.
func classic(r *http.Request) (dockerfile.Classic, error) {
	q := r.URL.Query()
	is := func(name string) bool {
		v := q.Get(name)
		return v != "" && v != "0" && v != "false" && v != "no"
	}
	c := dockerfile.Classic{
		Context: r.Body, Remote: q.Get("remote"), Dockerfile: q.Get("dockerfile"), Tags: q["t"], Target: q.Get("target"),
		Platform: q.Get("platform"), Network: q.Get("networkmode"), Hosts: q["extrahosts"], NoCache: is("nocache"),
		Pull: is("pull"), Quiet: is("q"), Attributes: map[string]string{},
	}
	if q.Get("version") == "2" {
		return c, fault.Invalid("BuildKit is reached by /grpc and /session").Try("install Docker's plugin buildx")
	}
	if c.Remote == "client-session" {
		return c, fault.Invalid("the files of a build come in its request, or by BuildKit")
	}
	for _, p := range []struct {
		name string
		to   any
	}{{"buildargs", &c.Args}, {"labels", &c.Labels}} {
		if text := q.Get(p.name); text != "" {
			if err := json.Unmarshal([]byte(text), p.to); err != nil {
				return c, fault.Invalid("the parameter %s cannot be read: %w", p.name, err)
			}
		}
	}
	if text := r.Header.Get("X-Registry-Config"); text != "" {
		raw, err := base64.URLEncoding.DecodeString(text)
		if err == nil {
			err = json.Unmarshal(raw, &c.SignIns)
		}
		if err != nil {
			return c, fault.Invalid("the header X-Registry-Config cannot be read: %w", err)
		}
	}
	return c, limits(q.Get, c.Attributes)
}

// limits of the build's steps, as attributes of the frontend.
func limits(q func(string) string, to map[string]string) error {
	for param, key := range map[string]string{
		"memory": "memory", "memswap": "memswap", "cpushares": "cpushares", "cpuperiod": "cpuperiod", "cpuquota": "cpuquota",
		"cpusetcpus": "cpusetcpus", "cpusetmems": "cpusetmems", "cgroupparent": "cgroup-parent", "shmsize": "shm-size",
	} {
		if v := q(param); v != "" && v != "0" {
			to[key] = v
		}
	}
	if text := q("ulimits"); text != "" {
		var list []*container.Ulimit
		if err := json.Unmarshal([]byte(text), &list); err != nil {
			return fault.Invalid("the parameter ulimits cannot be read: %w", err)
		}
		var all []string
		for _, u := range list {
			if u == nil {
				return fault.Invalid("a limit of the parameter ulimits is null")
			}
			all = append(all, fmt.Sprintf("%s=%d:%d", u.Name, u.Soft, u.Hard))
		}
		if len(all) > 0 {
			to["ulimit"] = strings.Join(all, ",")
		}
	}
	return nil
}

func (d *Docker) prune(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	o := client.PruneInfo{All: q.Get("all") == "1" || q.Get("all") == "true"}
	for name, to := range map[string]*int64{"reserved-space": &o.ReservedSpace, "keep-storage": &o.ReservedSpace, "max-used-space": &o.MaxUsedSpace, "min-free-space": &o.MinFreeSpace} {
		if text := q.Get(name); text != "" {
			n, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				return fault.Invalid("the parameter %s is no number of bytes: %q", name, text)
			}
			*to = n
		}
	}
	if err := pruneFilters(q.Get("filters"), &o); err != nil {
		return err
	}
	ids, freed, err := d.daemon.Prune(r.Context(), o)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(api.CachePruneReport{CachesDeleted: ids, SpaceReclaimed: uint64(freed)})
}

// pruneFilters reads {"until": {"24h": true}, …}.
func pruneFilters(text string, o *client.PruneInfo) error {
	if text == "" {
		return nil
	}
	var all map[string]map[string]bool
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		return fault.Invalid("the filters cannot be read: %w", err)
	}
	for key, values := range all {
		for value := range values {
			switch key {
			case "until", "unused-for":
				d, err := time.ParseDuration(value)
				if err != nil {
					return fault.Invalid("%q is no time span", value).Try("write 24h")
				}
				o.KeepDuration = d
			case "id", "parent", "type", "description", "inuse", "shared", "private":
				o.Filter = append(o.Filter, key+"=="+value)
			default:
				return fault.Invalid("invalid filter '%s'", key)
			}
		}
	}
	return nil
}

// Records are what the cache holds, for `docker system df`.
func (d *Docker) Records(ctx context.Context) ([]api.CacheRecord, error) {
	list, err := d.daemon.Cache(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]api.CacheRecord, 0, len(list))
	for _, u := range list {
		all = append(all, api.CacheRecord{
			ID: u.ID, Parents: u.Parents, Type: string(u.RecordType), Description: u.Description, InUse: u.InUse, Shared: u.Shared,
			Size: u.Size, CreatedAt: u.CreatedAt, LastUsedAt: u.LastUsedAt, UsageCount: u.UsageCount,
		})
	}
	return all, nil
}
