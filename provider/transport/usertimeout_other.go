//go:build !linux

package transport

import "syscall"

func setUserTimeout(syscall.RawConn) {}
