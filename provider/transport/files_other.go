//go:build !unix

package transport

func maxFiles() uint64 { return 0 }
