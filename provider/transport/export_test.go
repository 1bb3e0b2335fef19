package transport

// What tests check.
const (
	MaxAzureBody = maxAzureBody
	Attempt      = attemptTimeout
)

// NoFiles reports whether an error says that there is no file descriptor left.
func NoFiles(err error) bool { return noFiles(err) }
