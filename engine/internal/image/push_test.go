package image_test

import (
	"bytes"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"sampan.dev/sampan/engine/internal/image"
	"sampan.dev/sampan/internal/fault"
)

// said collects what a call reports, without the counts.
type said []string

func (s *said) hear(p image.Progress) {
	if p.Status != "" {
		*s = append(*s, p.Status)
	}
}

func (s said) has(status string) bool {
	return slices.ContainsFunc(s, func(one string) bool { return strings.HasPrefix(one, status) })
}

func serve(t *testing.T, r *registry) (host string) {
	t.Helper()
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

func box(t *testing.T, s *image.Store, name string, files map[string]string) image.Image {
	t.Helper()
	i, err := s.Assemble(t.Context(), name, "", []image.Layer{layer("", tarOf(files))}, image.Config{Command: []string{"/x"}})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func TestWhatIsPushedCanBePulledAgain(t *testing.T) {
	r := newRegistry()
	host := serve(t, r)
	s, _ := open(t, t.TempDir())
	made := box(t, s, host+"/team/app:1", map[string]string{"x": "1"})
	steps := []struct {
		sentence, ref, says string
	}{
		{"the first push sends the layer", host + "/team/app:1", "Pushed"},
		{"the second one has nothing to send", host + "/team/app:1", "1: digest: " + made.Digest},
		{"another repository mounts it", host + "/team/other:1", "Mounted from team/app"},
	}
	if err := s.Tag(t.Context(), host+"/team/app:1", host+"/team/other:1"); err != nil {
		t.Fatal(err)
	}
	for _, step := range steps {
		var heard said
		if err := s.Push(t.Context(), step.ref, image.PushOptions{}, heard.hear); err != nil {
			t.Fatalf("%s: %v", step.sentence, err)
		}
		if !heard.has(step.says) {
			t.Errorf("%s: %q", step.sentence, heard)
		}
	}
	other, _ := open(t, t.TempDir())
	got, err := other.Pull(t.Context(), host+"/team/other:1", image.PullOptions{}, nil)
	if err != nil || got.ID != made.ID || got.Digest != made.Digest {
		t.Errorf("%v %v, %v", got.ID, got.Digest, err)
	}
	if err := s.Push(t.Context(), host+"/team/app:2", image.PushOptions{}, nil); !fault.Is(err, fault.KindNotFound) {
		t.Errorf("a tag that is not here: %v", err)
	}
}

func TestRegistriesThatAskWhoItIs(t *testing.T) {
	ann, bob := &image.Auth{Username: "ann", Password: "secret"}, &image.Auth{Username: "bob", Password: "x"}
	for _, token := range []string{"", "t0k3n"} {
		r := newRegistry()
		r.user, r.password, r.token = "ann", "secret", token
		r.hold("team/app", "1", newRemote("amd64", map[string]string{"x": "1"}))
		host := serve(t, r)
		s, _ := open(t, t.TempDir())
		signIn := func(a image.Auth) error {
			a.ServerAddress = host
			return s.SignIn(t.Context(), a)
		}
		if err := signIn(*ann); err != nil {
			t.Errorf("%q: ann may sign in: %v", token, err)
		}
		if err := signIn(*bob); !fault.Is(err, fault.KindSignIn) {
			t.Errorf("%q: bob signs in: %v", token, err)
		}
		_, err := s.Pull(t.Context(), host+"/team/app:1", image.PullOptions{}, nil)
		if err == nil || token == "" && err.Error() != "pull access denied for "+host+"/team/app, repository does not exist or may require 'docker login'" {
			t.Errorf("%q: nobody pulls: %v", token, err)
		}
		if _, err := s.Pull(t.Context(), host+"/team/app:1", image.PullOptions{Auth: ann}, nil); err != nil {
			t.Errorf("%q: ann pulls: %v", token, err)
		}
		if err := s.Tag(t.Context(), host+"/team/app:1", host+"/team/app:2"); err != nil {
			t.Fatal(err)
		}
		if err := s.Push(t.Context(), host+"/team/app:2", image.PushOptions{Auth: bob}, nil); err == nil {
			t.Errorf("%q: bob pushes", token)
		}
		if err := s.Push(t.Context(), host+"/team/app:2", image.PushOptions{Auth: ann}, nil); err != nil {
			t.Errorf("%q: ann pushes: %v", token, err)
		}
		if _, _, err := s.Remote(t.Context(), host+"/team/app:2", ann); err != nil {
			t.Errorf("%q: ann asks: %v", token, err)
		}
	}
}

func TestAnImageForSeveralPlatforms(t *testing.T) {
	ctx := t.Context()
	r := newRegistry()
	r.holdIndex("team/app", "1", newRemote("amd64", map[string]string{"x": "amd"}), newRemote("arm64", map[string]string{"x": "arm"}))
	ref := serve(t, r) + "/team/app:1"
	s, _ := open(t, t.TempDir())
	arm, err := s.Pull(ctx, ref, image.PullOptions{Platform: "linux/arm64"}, nil)
	if err != nil || arm.Platform.Architecture != "arm64" {
		t.Fatalf("%+v, %v", arm.Platform, err)
	}
	if found, err := s.Image(ctx, ref); err != nil || found.ID != arm.ID {
		t.Errorf("what is here is taken: %v, %v", found.ID, err)
	}
	if _, err := s.ImageFor(ctx, ref, "linux/amd64"); !fault.Is(err, fault.KindNotFound) {
		t.Errorf("amd64 is not here yet: %v", err)
	}
	amd, err := s.Pull(ctx, ref, image.PullOptions{Platform: "linux/amd64"}, nil)
	if err != nil || amd.Digest != arm.Digest || amd.ID == arm.ID {
		t.Fatalf("%+v, %v", amd, err)
	}
	variants, err := s.Variants(ctx, amd)
	if err != nil || len(variants) != 2 || !variants[0].Here || !variants[1].Here {
		t.Errorf("%+v, %v", variants, err)
	}
	_, err = s.Pull(ctx, ref, image.PullOptions{Platform: "linux/s390x"}, nil)
	if err == nil || err.Error() != "no matching manifest for linux/s390x in the manifest list entries" {
		t.Errorf("%v", err)
	}
	_, all, err := s.Remote(ctx, ref, nil)
	if err != nil || len(all) != 2 {
		t.Errorf("%v, %v", all, err)
	}
}

func TestAllTags(t *testing.T) {
	r := newRegistry()
	for _, tag := range []string{"1", "2"} {
		r.hold("team/app", tag, newRemote("amd64", map[string]string{"x": tag}))
	}
	host := serve(t, r)
	s, _ := open(t, t.TempDir())
	if _, err := s.Pull(t.Context(), host+"/team/app", image.PullOptions{All: true}, nil); err != nil {
		t.Fatal(err)
	}
	all, err := s.Images(t.Context())
	if err != nil || len(all) != 2 {
		t.Errorf("%d images, %v", len(all), err)
	}
	if err := s.Push(t.Context(), host+"/team/app", image.PushOptions{All: true}, nil); err != nil {
		t.Error(err)
	}
}

func TestARegistryThatLies(t *testing.T) {
	honest := newRemote("amd64", map[string]string{"x": "1"})
	for _, c := range []struct {
		sentence string
		spoil    func([]byte) []byte
	}{
		{"a layer with another content", func(raw []byte) []byte { raw[len(raw)-1] ^= 1; return raw }},
		{"a layer that is cut short", func(raw []byte) []byte { return raw[:len(raw)-3] }},
	} {
		r := newRegistry()
		r.hold("team/app", "1", honest)
		for name, raw := range r.blobs {
			if bytes.HasPrefix(raw, []byte{0x1f, 0x8b}) {
				r.blobs[name] = c.spoil(bytes.Clone(raw))
			}
		}
		s, _ := open(t, t.TempDir())
		host := serve(t, r)
		_, err := s.Pull(t.Context(), host+"/team/app:1", image.PullOptions{}, nil)
		if _, ok := fault.Of(err); !ok {
			t.Errorf("%s: %v", c.sentence, err)
		}
		if all, err := s.Images(t.Context()); err != nil || len(all) != 0 {
			t.Errorf("%s: it is listed", c.sentence)
		}
	}
}

func TestSaveAndLoad(t *testing.T) {
	ctx := t.Context()
	s, _ := open(t, t.TempDir())
	one := box(t, s, "app:1", map[string]string{"x": "1"})
	two := box(t, s, "app:2", map[string]string{"x": "2"})
	var file bytes.Buffer
	if _, err := s.Save(ctx, []string{"nothing"}, "", &file); !fault.Is(err, fault.KindNotFound) || file.Len() > 0 {
		t.Errorf("%v, %d bytes", err, file.Len())
	}
	if _, err := s.Save(ctx, []string{"app", one.ID[7:19]}, "", &file); err != nil {
		t.Fatal(err)
	}
	other, _ := open(t, t.TempDir())
	loaded, err := other.Load(ctx, &file, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]string{}
	for _, l := range loaded {
		names[l.Name] = l.ID
	}
	if names["app:1"] != one.ID || names["app:2"] != two.ID || names[""] != one.ID {
		t.Errorf("%v", names)
	}
}

func TestARootFileSystemBecomesAnImage(t *testing.T) {
	s, _ := open(t, t.TempDir())
	flat := image.Flat{Name: "flat:1", Message: "by hand", Changes: []string{`CMD ["/bin/x"]`, "ENV A=1", "WORKDIR $A"}}
	made, err := s.ImportTar(t.Context(), bytes.NewReader(tarOf(map[string]string{"bin/x": "#!"})), flat)
	if err != nil || made.Comment != "by hand" || made.Config.WorkDir != "/1" || time.Since(made.Created) > time.Minute {
		t.Fatalf("%+v, %v", made, err)
	}
	_, steps, err := s.History(t.Context(), "flat:1", "")
	if err != nil || len(steps) != 1 || steps[0].Comment != "by hand" || steps[0].Size == 0 {
		t.Errorf("%+v, %v", steps, err)
	}
	unnamed, err := s.ImportTar(t.Context(), bytes.NewReader(tarOf(map[string]string{"y": "1"})), image.Flat{})
	if err != nil || !unnamed.Dangling() || len(unnamed.Digests) != 0 {
		t.Errorf("%+v, %v", unnamed, err)
	}
	if _, err := s.ImportTar(t.Context(), strings.NewReader("no tar file at all"), image.Flat{}); !fault.Is(err, fault.KindInvalid) {
		t.Errorf("%v", err)
	}
}

func TestUsageIsWhatIsOnTheDisk(t *testing.T) {
	ctx := t.Context()
	s, raw := open(t, t.TempDir())
	below := box(t, s, "below", map[string]string{"x": strings.Repeat("1", 100_000)})
	above, err := s.Assemble(ctx, "above", "below", []image.Layer{layer("", tarOf(map[string]string{"y": strings.Repeat("2", 50_000)}))}, image.Config{})
	if err != nil {
		t.Fatal(err)
	}
	usages, total, err := s.Usages(ctx, []image.Image{below, above})
	if err != nil {
		t.Fatal(err)
	}
	if u := usages[0]; u.Shared < 200_000 || u.Unpacked < 100_000 || u.Content < 100_000 || u.Total() < u.Shared {
		t.Errorf("below: %+v", u)
	}
	if total >= usages[0].Total()+usages[1].Total() || usages[1].Shared != usages[0].Shared {
		t.Errorf("%d of %+v", total, usages)
	}
	debris, err := s.Debris(ctx, []image.Image{above})
	if err != nil {
		t.Fatal(err)
	}
	remove(t, s, "above")
	if err := raw.Collect(ctx); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Reclaimed(ctx, debris); err != nil || got != usages[1].Total()-usages[1].Shared {
		t.Errorf("%d bytes, not %d, %v", got, usages[1].Total()-usages[1].Shared, err)
	}
}

func TestAForcedRemovalLeavesTheImageDangling(t *testing.T) {
	ctx := t.Context()
	s, _ := open(t, t.TempDir())
	made := box(t, s, "app", map[string]string{"x": "1"})
	r, err := s.Removal(ctx, "app")
	if err != nil || !r.Last || !r.ByName {
		t.Fatalf("%+v, %v", r, err)
	}
	if err := s.Remove(ctx, r, true); err != nil {
		t.Fatal(err)
	}
	left, err := s.Image(ctx, made.ID)
	if err != nil || !left.Dangling() || len(left.Digests) != 0 {
		t.Errorf("%+v, %v", left, err)
	}
	if err := s.Tag(ctx, made.ID, "again"); err != nil {
		t.Fatal(err)
	}
	if r, err = s.Removal(ctx, "again"); err != nil || !r.Last || len(r.Names) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestApplyChanges(t *testing.T) {
	cases := []struct {
		sentence string
		changes  []string
		want     func(image.Config) bool
		ok       bool
	}{
		{"a command line goes to the shell", []string{"CMD echo hi"}, func(c image.Config) bool {
			return slices.Equal(c.Command, []string{"/bin/sh", "-c", "echo hi"})
		}, true},
		{"a list does not", []string{`ENTRYPOINT ["a","b"]`}, func(c image.Config) bool { return slices.Equal(c.Entrypoint, []string{"a", "b"}) }, true},
		{"variables are known", []string{"ENV A=1 B=2", "LABEL x=$A"}, func(c image.Config) bool { return c.Labels["x"] == "1" && len(c.Env) == 3 }, true},
		{"ports and ranges", []string{"EXPOSE 80 90-91/udp"}, func(c image.Config) bool {
			return slices.Equal(c.Ports, []string{"80/tcp", "90/udp", "91/udp"})
		}, true},
		{"a health check", []string{"HEALTHCHECK --interval=5s CMD true"}, func(c image.Config) bool {
			return c.Health.Interval == 5*time.Second && c.Health.Command[0] == "CMD-SHELL"
		}, true},
		{"a directory below another", []string{"WORKDIR /a", "WORKDIR b"}, func(c image.Config) bool { return c.WorkDir == "/a/b" }, true},
		{"the rest", []string{"USER u:g", "STOPSIGNAL 9", "VOLUME /d", "ONBUILD RUN x"}, func(c image.Config) bool {
			return c.User == "u:g" && c.StopSignal == "9" && c.Volumes[0] == "/d" && c.OnBuild[0] == "RUN x"
		}, true},
		{"what needs a build", []string{"RUN x"}, nil, false},
		{"no port", []string{"EXPOSE x"}, nil, false},
		{"no instruction", []string{"HELLO x"}, nil, false},
		{"nothing", nil, func(image.Config) bool { return true }, true},
	}
	for _, c := range cases {
		cfg := image.Config{Env: []string{"PATH=/bin"}}
		err := image.ApplyChanges(&cfg, c.changes)
		if (err == nil) != c.ok || c.ok && !c.want(cfg) {
			t.Errorf("%s: %+v, %v", c.sentence, cfg, err)
		}
		if err != nil && !fault.Is(err, fault.KindInvalid) {
			t.Errorf("%s: the error is %v", c.sentence, err)
		}
	}
}
