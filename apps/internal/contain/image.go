package contain

import (
	"context"
	"slices"

	"github.com/distribution/reference"

	"sampan.dev/sampan/engine"
	"sampan.dev/sampan/internal/fault"
)

// named finds an image that is here under the name that somebody gives it. The engine knows
// images by the beginning of their ID as well, and by their digest under any name; but the
// images of all apps lie side by side, and who runs one must know what it is called.
func (r *Runner) named(ctx context.Context, image string) (engine.Image, error) {
	ref, err := reference.ParseDockerRef(image)
	if err != nil {
		return engine.Image{}, fault.Invalid("%.200q is not the name of an image", image).
			Try("write it as registry.example.com/owner/name:tag").On("image")
	}
	found, err := r.engine.Image(ctx, ref.String())
	if err != nil {
		return engine.Image{}, err
	}
	if !slices.ContainsFunc(found.Names, func(name string) bool { return sameRepository(name, ref) }) {
		return engine.Image{}, fault.NotFound("there is no image %s here", image)
	}
	return found, nil
}

func sameRepository(name string, as reference.Named) bool {
	named, err := reference.ParseDockerRef(name)
	return err == nil && named.Name() == as.Name()
}
