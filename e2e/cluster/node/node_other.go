//go:build !linux

package node

import "context"

// Missing returns [ErrUnsupported].
func Missing() ([]string, error) { return nil, ErrUnsupported }

// Enter returns f's exit code: there is nothing to enter.
func Enter(_ func() error, f func() int) int { return f() }

// Dir is empty.
func Dir() string { return "" }

// Running is a node that runs.
type Running struct{}

// Start returns [ErrUnsupported].
func (*Node) Start(context.Context) (*Running, error) { return nil, ErrUnsupported }

// Stop returns [ErrUnsupported].
func (*Running) Stop() error { return ErrUnsupported }

// Kill returns [ErrUnsupported].
func (*Running) Kill(string) (int, error) { return 0, ErrUnsupported }
