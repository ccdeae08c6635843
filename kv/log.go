package kv

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// logger makes etcd log through log. etcd narrates every start in a hundred lines of level
// info, and warns of what is meant here; it calls the end of its listeners an error when it is
// closed. All that is for debugging.
func logger(log *slog.Logger, end *ending) func(*embed.Config) error {
	lg := zap.New(core{log, end}, zap.WithFatalHook(end), zap.WithPanicHook(end))
	return embed.NewZapLoggerBuilder(lg)
}

// A core hands zap's entries to slog.
type core struct {
	log *slog.Logger
	end *ending
}

// premature is what etcd complains of when it asks a new store for its version before the first
// entry is in it. It asks again.
var premature = []string{"Failed to detect schema version", "failed to update storage version"}

func (c core) level(e zapcore.Entry) slog.Level {
	phase := c.end.phase.Load()
	switch {
	case slices.Contains(premature, e.Message):
		return slog.LevelDebug
	case e.Level >= zapcore.ErrorLevel && phase != closing:
		return slog.LevelError
	case e.Level == zapcore.WarnLevel && phase == running:
		return slog.LevelInfo
	default:
		return slog.LevelDebug
	}
}

func (c core) Enabled(l zapcore.Level) bool {
	return c.log.Enabled(context.Background(), c.level(zapcore.Entry{Level: l}))
}

func (c core) With(fields []zapcore.Field) zapcore.Core {
	return core{slog.New(c.log.Handler().WithAttrs(attrs(fields))), c.end}
}

func (c core) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.log.Enabled(context.Background(), c.level(e)) {
		return ce.AddCore(e, c)
	}
	return ce
}

func (c core) Write(e zapcore.Entry, fields []zapcore.Field) error {
	c.log.LogAttrs(context.Background(), c.level(e), "etcd: "+e.Message, attrs(fields)...)
	return nil
}

func (c core) Sync() error { return nil }

func attrs(fields []zapcore.Field) []slog.Attr {
	if len(fields) == 0 {
		return nil
	}
	m := zapcore.NewMapObjectEncoder()
	out := make([]slog.Attr, 0, len(fields))
	for _, f := range fields {
		f.AddTo(m)
		if v, ok := m.Fields[f.Key]; ok {
			out = append(out, slog.Any(f.Key, v))
		}
	}
	return out
}

// sentence is an entry as the reason inside an error.
func sentence(e zapcore.Entry, fields []zapcore.Field) string {
	var b strings.Builder
	b.WriteString(e.Message)
	for _, a := range attrs(fields) {
		if a.Key == "error" {
			fmt.Fprintf(&b, ": %v", a.Value)
		}
	}
	return b.String()
}
