//go:build unix

package transport

import "syscall"

// maxFiles is how many files the process may open; 0 if that is not known. Go has raised the
// soft limit to the hard one.
func maxFiles() uint64 {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return 0
	}
	return uint64(limit.Cur)
}
