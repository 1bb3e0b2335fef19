package doctor

import "time"

// SetNow sets the clock.
func SetNow(t time.Time) { now = func() time.Time { return t } }
