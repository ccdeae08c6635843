package settings_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"sampan.dev/sampan/cmd/internal/settings"
	"sampan.dev/sampan/internal/fault"
)

func TestWhereASettingComesFrom(t *testing.T) {
	cases := []struct {
		about string
		file  string
		env   map[string]string
		args  []string
		http  string
		wrong string // a part of the error
	}{
		{about: "nothing is set", http: ":3000"},
		{about: "the file says it", file: `http = ":1"`, http: ":1"},
		{about: "the environment goes before the file", file: `http = ":1"`, env: map[string]string{"SAMPAN_HTTP": ":2"}, http: ":2"},
		{about: "a flag goes before all", file: `http = ":1"`, env: map[string]string{"SAMPAN_HTTP": ":2"}, args: []string{"--http", ":3"}, http: ":3"},
		{about: "an unknown key is named", file: `htp = ":1"`, wrong: `there is no setting "htp"`},
		{about: "an unknown key of a table is named", file: "[kv]\nclent = \":1\"", wrong: `there is no setting "kv.clent"`},
		{about: "a number is no string", file: `http = 3000`, wrong: "key http: 3000 is not a string"},
		{about: "broken TOML names the file", file: `http = `, wrong: "sampan.toml"},
		{about: "a wrong address names its variable", env: map[string]string{"SAMPAN_SSH": "22"}, wrong: `SAMPAN_SSH: "22" is not an address`},
		{about: "a wrong runner names its flag", args: []string{"--runner", "vm"}, wrong: `--runner: "vm" is none of auto, containers, processes`},
		{about: "a domain is no URL", args: []string{"--domain", "http://x"}, wrong: "is not a domain name"},
	}
	for _, c := range cases {
		t.Run(c.about, func(t *testing.T) {
			dir := t.TempDir()
			if c.file != "" {
				if err := os.WriteFile(filepath.Join(dir, "sampan.toml"), []byte(c.file), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
			settings.Flags(flags)
			if err := flags.Parse(append([]string{"--data", dir}, c.args...)); err != nil {
				t.Fatal(err)
			}
			config, err := settings.Read(flags, func(name string) (string, bool) { v, ok := c.env[name]; return v, ok })
			if c.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), c.wrong) || !fault.Is(err, fault.KindInvalid) {
					t.Fatalf("got %v, want a fault with %q", err, c.wrong)
				}
				return
			}
			if err != nil || config.HTTP != c.http {
				t.Fatalf("http is %q (%v), want %q", config.HTTP, err, c.http)
			}
		})
	}
}
