package cli

import (
	"fmt"
	"sync"
	"time"
)

// Progress shows on a terminal what the command is waiting for, once that takes longer than a
// second. The function it returns ends this and removes the text; call it before printing, and
// as often as you like.
//
//	done := env.Progress("reading the events of pod %s", name)
//	defer done()
func (e *Env) Progress(format string, args ...any) (done func()) {
	if !e.TerminalErr {
		return func() {}
	}
	var mu sync.Mutex // guards shown and over
	var shown, over bool
	text := Printable(fmt.Sprintf(format, args...))
	timer := time.AfterFunc(time.Second, func() {
		mu.Lock()
		defer mu.Unlock()
		if !over {
			shown = true
			fmt.Fprintf(e.ErrOut, "%s ...", text)
		}
	})
	return func() {
		timer.Stop()
		mu.Lock()
		defer mu.Unlock()
		if shown && !over {
			fmt.Fprint(e.ErrOut, "\r\x1b[K")
		}
		over = true
	}
}
