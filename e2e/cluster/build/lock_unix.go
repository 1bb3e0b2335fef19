//go:build unix

package build

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// flock locks the file until it is closed, and reports false if other processes have it.
func flock(file *os.File, alone bool) (bool, error) {
	how := unix.LOCK_SH
	if alone {
		how = unix.LOCK_EX
	}
	err := unix.Flock(int(file.Fd()), how|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}
