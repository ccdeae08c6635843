package platform

import (
	"strings"

	"github.com/distribution/reference"

	"sampan.dev/sampan/internal/fault"
)

// builtHere is the repository below which the pipeline names the images that it builds.
const builtHere = "docker.io/sampan/"

// CheckImage refuses what an app may not run: the images that other apps were built to are
// theirs alone.
func CheckImage(app, image string) error {
	ref, err := reference.ParseDockerRef(image)
	if err != nil {
		return fault.Invalid("%.200q is not the name of an image", image).
			Try("write it as registry.example.com/owner/name:tag").On("image")
	}
	if of, built := strings.CutPrefix(ref.Name(), builtHere); built && of != app {
		return fault.Invalid("image %s not found", image).Try("is its name right, and may this server read it?")
	}
	return nil
}
