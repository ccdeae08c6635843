package image

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"

	"sampan.dev/sampan/internal/fault"
)

// ApplyChanges does to cfg what instructions of a Dockerfile say, those that need no build.
func ApplyChanges(cfg *Config, changes []string) error {
	if len(changes) == 0 {
		return nil
	}
	file, err := parser.Parse(strings.NewReader(strings.Join(changes, "\n")))
	if err != nil {
		if strings.Contains(err.Error(), "file with no instructions") {
			return nil
		}
		return fault.Invalid("the changes are no instructions of a Dockerfile: %w", err)
	}
	for _, node := range file.AST.Children {
		if !slices.Contains(allowed(), strings.ToLower(node.Value)) {
			return fault.Invalid("%s is not a valid change command", strings.ToLower(node.Value))
		}
	}
	for _, node := range file.AST.Children {
		if err := change(cfg, node); err != nil {
			return err
		}
	}
	return nil
}

func allowed() []string {
	return []string{"cmd", "entrypoint", "env", "expose", "healthcheck", "label", "onbuild", "stopsignal", "user", "volume", "workdir"}
}

func change(cfg *Config, node *parser.Node) error {
	parsed, err := instructions.ParseInstruction(node)
	if err == nil {
		err = expand(cfg, parsed)
	}
	if err == nil {
		err = instruct(cfg, parsed)
	}
	if err != nil {
		return fault.Invalid("the change %q cannot be made: %w", node.Original, err)
	}
	return nil
}

// expand puts the values of variables in their places.
func expand(cfg *Config, instruction any) error {
	e, ok := instruction.(instructions.SupportsSingleWordExpansion)
	if !ok {
		return nil
	}
	lex, env := shell.NewLex('\\'), shell.EnvsFromSlice(cfg.Env)
	return e.Expand(func(word string) (string, error) {
		out, _, err := lex.ProcessWord(word, env)
		return out, err
	})
}

func instruct(cfg *Config, instruction any) error {
	switch i := instruction.(type) {
	case *instructions.CmdCommand:
		cfg.Command = commandLine(cfg, i.ShellDependantCmdLine)
	case *instructions.EntrypointCommand:
		cfg.Entrypoint = commandLine(cfg, i.ShellDependantCmdLine)
	case *instructions.EnvCommand:
		for _, pair := range i.Env {
			cfg.Env = MergeEnv(cfg.Env, []string{pair.Key + "=" + pair.Value})
		}
	case *instructions.ExposeCommand:
		return expose(cfg, i.Ports)
	case *instructions.HealthCheckCommand:
		cfg.Health = healthOf(i.Health)
	case *instructions.LabelCommand:
		label(cfg, i.Labels)
	case *instructions.OnbuildCommand:
		cfg.OnBuild = append(slices.Clone(cfg.OnBuild), i.Expression)
	case *instructions.StopSignalCommand:
		cfg.StopSignal = i.Signal
	case *instructions.UserCommand:
		cfg.User = i.User
	case *instructions.VolumeCommand:
		cfg.Volumes = union(cfg.Volumes, i.Volumes)
	case *instructions.WorkdirCommand:
		return workdir(cfg, i.Path)
	default:
		return errors.New("it needs a build")
	}
	return nil
}

func commandLine(cfg *Config, line instructions.ShellDependantCmdLine) []string {
	if !line.PrependShell {
		return line.CmdLine
	}
	sh := cfg.Shell
	if len(sh) == 0 {
		sh = []string{"/bin/sh", "-c"}
	}
	return append(slices.Clone(sh), line.CmdLine...)
}

func label(cfg *Config, pairs instructions.KeyValuePairs) {
	labels := map[string]string{}
	for key, value := range cfg.Labels {
		labels[key] = value
	}
	for _, pair := range pairs {
		labels[pair.Key] = pair.Value
	}
	cfg.Labels = labels
}

// expose takes "80", "80/udp" and "8000-8010/tcp".
func expose(cfg *Config, ports []string) error {
	lex := shell.NewLex('\\')
	for _, word := range ports {
		port, _, err := lex.ProcessWord(word, shell.EnvsFromSlice(cfg.Env))
		if err != nil {
			return err
		}
		numbers, protocol, ok := strings.Cut(port, "/")
		if !ok {
			protocol = "tcp"
		}
		first, last, err := portRange(numbers)
		if err != nil || !slices.Contains([]string{"tcp", "udp", "sctp"}, strings.ToLower(protocol)) {
			return fmt.Errorf("%q is no port", port)
		}
		for n := first; n <= last; n++ {
			cfg.Ports = union(cfg.Ports, []string{fmt.Sprintf("%d/%s", n, strings.ToLower(protocol))})
		}
	}
	return nil
}

func portRange(text string) (first, last int, err error) {
	low, high, ranged := strings.Cut(text, "-")
	if !ranged {
		high = low
	}
	if first, err = portNumber(low); err == nil {
		last, err = portNumber(high)
	}
	if err == nil && first > last {
		err = errors.New("the range is empty")
	}
	return first, last, err
}

func portNumber(text string) (int, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	return int(n), err
}

func workdir(cfg *Config, to string) error {
	if to == "" {
		return errors.New("a directory is missing")
	}
	if !path.IsAbs(to) {
		to = path.Join("/", cfg.WorkDir, to)
	}
	cfg.WorkDir = path.Clean(to)
	return nil
}
