package main

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// slowWriter blocks each write until it is released.
type slowWriter struct {
	release chan struct{}
	text    strings.Builder
}

func (w *slowWriter) Write(p []byte) (int, error) {
	<-w.release
	return w.text.Write(p)
}

// A log that is not read blocks no mount, and says afterwards how many lines are missing.
func TestLogQueueDrops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &slowWriter{release: make(chan struct{})}
		log, queue := newLog(&config{logJSON: true}, out)
		text := strings.Repeat("x", 10_000)
		for i := range 200 { // 2 MB
			log.Info(text, "i", i)
			synctest.Wait() // so that the first write contains one line
		}
		dropped := queue.dropped.Load()
		if dropped < 100 || dropped > 190 {
			t.Errorf("dropped %d lines", dropped)
		}
		close(out.release)
		synctest.Wait()
		log.Info("last")
		queue.stop()
		written := strings.Split(strings.TrimSpace(out.text.String()), "\n")
		if n := uint64(len(written)); n != 200-dropped+2 {
			t.Errorf("%d lines", n)
		}
		reports := 0
		for _, line := range written {
			if !strings.HasPrefix(line, `{"time":`) || !strings.HasSuffix(line, "}") {
				t.Errorf("not a whole line: %.100s", line)
			}
			if strings.Contains(line, "were dropped") && strings.Contains(line, `"level":"WARN"`) {
				reports++
			}
		}
		if reports != 1 || !strings.Contains(written[len(written)-1], `"msg":"last"`) {
			t.Errorf("%d reports; the last line is %.100s", reports, written[len(written)-1])
		}
	})
}

// The end waits for the log, but for no more than a second.
func TestLogQueueStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &slowWriter{release: make(chan struct{})}
		log, queue := newLog(new(config), out)
		log.Info("lost")
		start := time.Now()
		queue.stop()
		if took := time.Since(start); took != time.Second {
			t.Errorf("stopped after %v", took)
		}
		close(out.release)
		<-queue.ended
	})
}
