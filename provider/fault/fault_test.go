package fault_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"akv-csi-provider/provider/fault"
)

func TestText(t *testing.T) {
	names := make([]string, 53)
	for i := range names {
		names[i] = fmt.Sprintf("secret %q", fmt.Sprint("s", i))
	}
	for name, c := range map[string]struct {
		err  fault.Error
		want string
	}{
		"cause and fix": {fault.Error{Reason: fault.VaultNotFound, Cause: "no vault x", Fix: "check keyvaultName"}, "no vault x; check keyvaultName"},
		"one object":    {fault.Error{Cause: "is not allowed to get {objects}", Fix: "f", Objects: names[:1]}, `is not allowed to get secret "s0"; f`},
		"objects":       {fault.Error{Cause: "is not allowed to get {objects} from v", Fix: "f", Objects: names[:3]}, `is not allowed to get secret "s0", secret "s1", secret "s2" from v; f`},
		"as many as are named": {fault.Error{Cause: "{objects}", Fix: "f", Objects: names[:50]},
			strings.Join(names[:50], ", ") + "; f"},
		"more":              {fault.Error{Cause: "{objects}", Fix: "f", Objects: names}, strings.Join(names[:50], ", ") + ", and 3 more; f"},
		"an object's name":  {fault.Error{Cause: "{objects}", Fix: "f", Objects: []string{"{objects}"}}, "{objects}; f"},
		"what is behind it": {fault.Error{Cause: "c", Fix: "f", Err: io.EOF, AADSTS: 70021}, "c; f"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := c.err.Error(); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
	e := &fault.Error{Cause: "c", Fix: "f", Err: io.ErrUnexpectedEOF}
	if !errors.Is(fmt.Errorf("read: %w", e), io.ErrUnexpectedEOF) {
		t.Error("what is behind the error is lost")
	}
}

// Eight problems are described, the fields of 50 more are named.
func TestProblems(t *testing.T) {
	problem := func(i int) fault.Problem {
		return fault.Problem{Field: fmt.Sprint("field", i), Cause: "wrong", Fix: "right"}
	}
	for _, n := range []int{1, 2, 8, 9, 58, 61} {
		var problems []fault.Problem
		var want []string
		var rest []string
		for i := range n {
			problems = append(problems, problem(i))
			if i < 8 {
				want = append(want, fmt.Sprintf("field%d: wrong; right", i))
			} else if i < 58 {
				rest = append(rest, fmt.Sprint("field", i))
			}
		}
		if n > 8 {
			want = append(want, "also wrong: "+strings.Join(rest, ", "))
		}
		text := strings.Join(want, " | ")
		if n > 58 {
			text += fmt.Sprintf(", and %d more", n-58)
		}
		e := fault.Invalid(problems...)
		if e.Reason != fault.InvalidParameter || len(e.Problems) != n {
			t.Errorf("%d: got %s with %d problems", n, e.Reason, len(e.Problems))
		}
		if got := e.Error(); got != text {
			t.Errorf("%d: got  %s\nwant %s", n, got, text)
		}
	}
}

func TestIs(t *testing.T) {
	throttled := &fault.Error{Reason: fault.Throttled}
	timeout := &fault.Error{Reason: fault.Timeout, Err: context.DeadlineExceeded}
	for name, c := range map[string]struct {
		err     error
		reasons []fault.Reason
		want    bool
	}{
		"nil":                 {nil, []fault.Reason{fault.Throttled}, false},
		"another type":        {io.EOF, []fault.Reason{fault.Throttled, ""}, false},
		"no reasons":          {throttled, nil, false},
		"the reason":          {throttled, []fault.Reason{fault.Throttled}, true},
		"one of several":      {throttled, []fault.Reason{fault.Timeout, fault.Throttled}, true},
		"another reason":      {throttled, []fault.Reason{fault.Timeout}, false},
		"wrapped":             {fmt.Errorf("mount: %w", throttled), []fault.Reason{fault.Throttled}, true},
		"the outermost":       {&fault.Error{Reason: fault.SignInFailed, Err: throttled}, []fault.Reason{fault.SignInFailed}, true},
		"not what is behind":  {&fault.Error{Reason: fault.SignInFailed, Err: throttled}, []fault.Reason{fault.Throttled}, false},
		"one of many errors":  {fault.Errors{io.EOF, throttled, timeout}, []fault.Reason{fault.Timeout}, true},
		"none of many errors": {fault.Errors{io.EOF, throttled}, []fault.Reason{fault.Timeout}, false},
		"wrapped many errors": {fmt.Errorf("mount: %w", fault.Errors{throttled, fmt.Errorf("x: %w", timeout)}), []fault.Reason{fault.Timeout}, true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := fault.Is(c.err, c.reasons...); got != c.want {
				t.Errorf("got %t", got)
			}
		})
	}
	if err := error(fault.Errors{throttled, timeout}); !errors.Is(err, context.DeadlineExceeded) {
		t.Error("errors.Is does not check each error")
	}
}

// A panic is an error that reveals nothing of it; where there is none, the error stays.
func TestRecover(t *testing.T) {
	work := func(value any, result error) (err error) {
		defer fault.Recover(&err)
		if value != nil {
			panic(value)
		}
		return result
	}
	for _, result := range []error{nil, io.EOF} {
		if err := work(nil, result); err != result {
			t.Errorf("got %v, want %v", err, result)
		}
	}
	p, ok := errors.AsType[*fault.Panic](work("CANARY", io.EOF))
	if !ok || p.Value != "CANARY" || !strings.Contains(string(p.Stack), "TestRecover") {
		t.Fatalf("got %v", p)
	}
	if p.Error() != "a bug in the provider" {
		t.Errorf("got %s", p)
	}
}
