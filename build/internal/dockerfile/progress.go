package dockerfile

import (
	"strings"

	"github.com/moby/buildkit/client"
	digest "github.com/opencontainers/go-digest"

	"sampan.dev/sampan/build/internal/step"
)

// show prints what BuildKit does: a line for each step when it begins, and what steps print.
func show(out *step.Output, status <-chan *client.SolveStatus) {
	said := map[digest.Digest]bool{}
	lines := map[digest.Digest]*step.Lines{}
	for s := range status {
		for _, v := range s.Vertexes {
			if v.Started == nil || said[v.Digest] || !worth(v.Name) {
				continue
			}
			said[v.Digest] = true
			if v.Cached {
				out.Detail("%s (cached)", v.Name)
			} else {
				out.Detail("%s", v.Name)
			}
		}
		for _, l := range s.Logs {
			w := lines[l.Vertex]
			if w == nil {
				w = out.Lines()
				lines[l.Vertex] = w
			}
			_, _ = w.Write(l.Data) // an Output takes everything
		}
		for _, w := range s.Warnings {
			out.Detail("warning: %s", w.Short)
		}
	}
	for _, w := range lines {
		w.Close()
	}
}

// worth leaves out the steps that no Dockerfile has.
func worth(name string) bool {
	return strings.HasPrefix(name, "[") && !strings.HasPrefix(name, "[internal]")
}
