package system

import (
	"testing"
	"time"

	"sampan.dev/sampan/engine"
	"sampan.dev/sampan/engine/docker/internal/api"
)

func TestFits(t *testing.T) {
	died := message(engine.Event{
		Time: time.Now(), Type: "container", Action: "die", ID: "abcdef", Name: "web", Image: "box:1",
		Labels: map[string]string{"a": "b"}, Exit: &engine.Exit{Code: 3},
	})
	if died.Actor.Attributes["exitCode"] != "3" || died.Scope != "local" {
		t.Errorf("%+v", died)
	}
	healthy := message(engine.Event{Type: "container", Action: "health_status: healthy", ID: "abcdef", Name: "web", Image: "box:1"})
	pulled := message(engine.Event{Type: "image", Action: "pull", ID: "box:1", Name: "box:1"})
	made := message(engine.Event{Type: "volume", Action: "create", ID: "v", Name: "v"})
	cases := []struct {
		filters                      string
		died, healthy, pulled, maked bool
	}{
		{``, true, true, true, true},
		{`{"type":["container"]}`, true, true, false, false},
		{`{"event":["die"]}`, true, false, false, false},
		{`{"event":["health_status"]}`, false, true, false, false},
		{`{"event":["health_status: unhealthy"]}`, false, false, false, false},
		{`{"container":["abc"]}`, true, true, false, false},
		{`{"container":["web"]}`, true, true, false, false},
		{`{"image":["box"]}`, true, true, true, false},
		{`{"image":["box:2"]}`, false, false, false, false},
		{`{"label":["a=b"]}`, true, false, false, false},
		{`{"volume":["v"]}`, false, false, false, true},
		{`{"scope":["swarm"]}`, false, false, false, false},
		{`{"daemon":["x"]}`, false, false, false, false},
	}
	for _, c := range cases {
		f, err := api.ParseFilters(c.filters)
		if err != nil {
			t.Fatal(err)
		}
		if fits(f, died) != c.died || fits(f, healthy) != c.healthy || fits(f, pulled) != c.pulled || fits(f, made) != c.maked {
			t.Errorf("%s: %v %v %v %v", c.filters, fits(f, died), fits(f, healthy), fits(f, pulled), fits(f, made))
		}
	}
}
