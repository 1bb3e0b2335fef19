package plugin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"akv-csi-provider/provider/fair"
	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/throttle"
)

// circuitLog logs which circuits open and close: metrics have no names, and mounts that succeed
// with a retry do not say that they had to wait. A pod can name any number of vaults, and own
// them, so the lines of a minute are bounded and divided between namespaces.
type circuitLog struct {
	log     *slog.Logger
	lines   *fair.Semaphore // of the last minute
	omitted atomic.Int64    // since the last line
}

const (
	// maxCircuitLines is how many lines there are in a minute. A namespace alone gets half of them.
	maxCircuitLines = 40
	// logAgain is how often the log says that a circuit opens again and again.
	logAgain = 10 * time.Minute
	// maxLoggedHost bounds a host. DNS names have less, but a custom cloud's file may contain any text.
	maxLoggedHost = 256
)

func newCircuitLog(log *slog.Logger) *circuitLog {
	return &circuitLog{log: log, lines: fair.New(maxCircuitLines, fair.Half)}
}

// observe sets the observers of a service's circuits. count is called with the time for which one
// opens.
func (c *circuitLog) observe(cfg *throttle.Config, service string, count func(time.Duration)) {
	cfg.OnOpen = func(e *throttle.Episode) {
		count(e.Pause)
		c.opened(service, e)
	}
	cfg.OnClose = func(e *throttle.Episode) { c.closed(service, e) }
}

// opened logs the first opening of an episode, and one of every ten minutes. Where the lines of
// this minute are used up, a later opening is logged.
func (c *circuitLog) opened(service string, e *throttle.Episode) {
	if now := time.Now(); e.Logged.IsZero() || now.Sub(e.Logged) >= logAgain {
		if c.write(slog.LevelWarn, "circuit breaker opened", service, e, slog.Float64("pauseSeconds", seconds(e.Pause))) {
			e.Logged = now
		}
	}
}

// closed logs the end of an episode, if the log has its beginning.
func (c *circuitLog) closed(service string, e *throttle.Episode) {
	if !e.Logged.IsZero() {
		c.write(slog.LevelInfo, "circuit breaker closed", service, e)
	}
}

// write reports whether there was a line left.
func (c *circuitLog) write(level slog.Level, message, service string, e *throttle.Episode, more ...slog.Attr) bool {
	release, ok := c.lines.TryAcquire(e.Tenant, 1)
	if !ok {
		c.omitted.Add(1)
		return false
	}
	time.AfterFunc(time.Minute, release)
	fields := []slog.Attr{slog.String("service", service), slog.String("host", e.Host[:min(len(e.Host), maxLoggedHost)])}
	for _, id := range []struct{ name, value string }{{"tenantID", e.TenantID}, {"clientID", e.ClientID}} {
		if id.value != "" {
			fields = append(fields, slog.String(id.name, id.value))
		}
	}
	fields = append(append(fields, cause(e)...), more...)
	fields = append(fields, slog.Int("openings", e.Openings), slog.Float64("openSeconds", seconds(e.Open)),
		slog.Float64("durationSeconds", seconds(e.Lasted)), slog.Int("waited", e.Waited), slog.Int("refused", e.Refused))
	if n := c.omitted.Swap(0); n > 0 {
		fields = append(fields, slog.Int64("omitted", n))
	}
	c.log.LogAttrs(context.Background(), level, message, fields...)
	return true
}

// cause is why a circuit opened: the reason, as mounts that fail have it, and the status or the
// error. Of an error that is not ours there is the type, since its text could be anything.
func cause(e *throttle.Episode) []slog.Attr {
	reason := fault.ServiceUnavailable
	known, ours := errors.AsType[*fault.Error](e.Err)
	switch {
	case e.Throttled:
		reason = fault.Throttled
	case ours:
		reason = cmp.Or(known.Reason, reason)
	case errors.Is(e.Err, context.DeadlineExceeded):
		reason = fault.Timeout
	}
	fields := []slog.Attr{slog.String("reason", string(reason))}
	switch {
	case ours:
		return append(fields, slog.String("error", known.Error()))
	case e.Err != nil:
		return append(fields, slog.String("errorType", fmt.Sprintf("%T", e.Err)))
	}
	return append(fields, slog.Int("status", e.Status))
}

// seconds is a duration, to the millisecond.
func seconds(d time.Duration) float64 { return d.Round(time.Millisecond).Seconds() }
