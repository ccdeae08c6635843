package container

import (
	"context"

	"github.com/moby/moby/api/types/container"
)

// Summaries lists all containers with their sizes, as docker system df wants them.
func (s *Service) Summaries(ctx context.Context) ([]container.Summary, error) {
	all, err := s.engine.Containers(ctx, nil)
	if err != nil {
		return nil, err
	}
	l := lister{service: s, sized: true, images: map[string]string{}}
	out := make([]container.Summary, 0, len(all))
	for _, c := range all {
		q, err := requestOf(c)
		if err != nil {
			return nil, err
		}
		summary, err := l.summary(ctx, c, q)
		if err != nil {
			return nil, err
		}
		out = append(out, summary)
	}
	return out, nil
}
