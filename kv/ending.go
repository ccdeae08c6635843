package kv

import (
	"context"
	"runtime"
	"sync/atomic"

	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc"
)

// An ending is how etcd comes to its end: by itself, because it logs that it must die, or by
// Close.
type ending struct {
	said   chan string // why it died while starting
	phase  atomic.Int32
	closed chan struct{}
}

const (
	starting int32 = iota
	running
	closing
)

func newEnding() *ending {
	return &ending{said: make(chan string, 1), closed: make(chan struct{})}
}

// begin ends the clients' watches, which would keep etcd waiting for seconds.
func (e *ending) begin() {
	e.phase.Store(closing)
	close(e.closed)
}

// streams is gRPC's interceptor: it gives every stream a context that Close ends.
func (e *ending) streams(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	ctx, cancel := context.WithCancel(s.Context())
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-e.closed:
			cancel()
		case <-ctx.Done():
		}
	}()
	defer func() { cancel(); <-watched }()
	return next(srv, stream{s, ctx})
}

type stream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s stream) Context() context.Context { return s.ctx }

// OnWrite ends only the goroutine that found the data unreadable, and tells start. Once etcd
// runs, the process ends as etcd wants it: its log on disk holds all that was acknowledged.
func (e *ending) OnWrite(entry *zapcore.CheckedEntry, fields []zapcore.Field) {
	if e.phase.Load() != starting {
		panic(sentence(entry.Entry, fields))
	}
	select {
	case e.said <- sentence(entry.Entry, fields):
	default: // the first to speak is the cause
	}
	runtime.Goexit()
}
