package etcd

import (
	"context"
	"log/slog"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// logCore hands what etcd logs to a slog.Logger.
type logCore struct {
	zap.AtomicLevel
	log *slog.Logger
}

// ordinary are messages that etcd logs as errors in the course of things: a new
// member has no storage version yet, and a host that was forgotten still asks.
var ordinary = map[string]bool{
	"failed to update storage version":        true,
	"cannot find a user for permission check": true,
}

// With implements zapcore.Core.
func (c *logCore) With([]zapcore.Field) zapcore.Core { return c }

// Check implements zapcore.Core.
func (c *logCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.log == nil || !c.Enabled(e.Level) || ordinary[e.Message] {
		return ce
	}
	return ce.AddCore(e, c)
}

// Write implements zapcore.Core.
func (c *logCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(enc)
	}
	args := make([]any, 0, 2*len(enc.Fields))
	for k, v := range enc.Fields {
		args = append(args, slog.Any(k, v))
	}
	c.log.Log(context.Background(), slog.LevelError, "etcd: "+e.Message, args...)
	return nil
}

// Sync implements zapcore.Core.
func (c *logCore) Sync() error { return nil }
