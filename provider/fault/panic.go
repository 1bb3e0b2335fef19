package fault

import "runtime/debug"

// Panic is a panic of one mount as that mount's error: one that is not recovered would end
// the process, and with it every mount of the node.
type Panic struct {
	Value any
	Stack []byte
}

// Error implements error. It reveals nothing of the panic, whose value could be anything.
// Log Stack instead.
func (*Panic) Error() string { return "a bug in the provider" }

// Recover, deferred, turns a panic into a *Panic.
func Recover(err *error) {
	if v := recover(); v != nil {
		*err = &Panic{Value: v, Stack: debug.Stack()}
	}
}
