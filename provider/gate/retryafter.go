package gate

import (
	"errors"
	"net/http"
	"strconv"
	"time"
)

// RetryAfter reads for how long a server wants to be left alone (RFC 9110, section
// 10.2.3), at most an hour; 0 if it does not say.
func RetryAfter(h http.Header) time.Duration {
	const most = time.Hour
	text := h.Get("Retry-After")
	seconds, err := strconv.ParseUint(text, 10, 32)
	if err == nil || errors.Is(err, strconv.ErrRange) { // which makes it the largest number
		return min(time.Duration(seconds)*time.Second, most)
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	return max(0, min(time.Until(at), most))
}
