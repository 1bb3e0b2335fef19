package fault_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"testing"

	"akv-csi-provider/provider/fault"
)

// of makes the error of objects with a cause.
func of(reason fault.Reason, cause string, objects ...string) *fault.Error {
	return &fault.Error{Reason: reason, Cause: cause + " {objects}", Fix: "f", Objects: objects}
}

func TestJoin(t *testing.T) {
	denied, missing := of(fault.AccessDenied, "denied", "a"), of(fault.ObjectNotFound, "missing", "b")
	canceled := fmt.Errorf("read: %w", context.Canceled)
	signIn := &fault.Error{Reason: fault.SignInFailed, Cause: "refused", Fix: "f"}
	for name, c := range map[string]struct {
		errs []error
		want []string
	}{
		"none":                   {nil, nil},
		"nil":                    {[]error{nil, nil}, nil},
		"one":                    {[]error{nil, denied, nil}, []string{"denied a; f"}},
		"the order of objects":   {[]error{missing, nil, denied}, []string{"missing b; f", "denied a; f"}},
		"one cause":              {[]error{denied, missing, of(fault.AccessDenied, "denied", "c")}, []string{"denied a, c; f", "missing b; f"}},
		"several objects":        {[]error{of(fault.AccessDenied, "denied", "x", "y"), denied}, []string{"denied x, y, a; f"}},
		"equal names":            {[]error{denied, of(fault.AccessDenied, "denied", "c", "a"), denied}, []string{"denied a, c; f"}},
		"one name":               {[]error{denied, denied}, []string{"denied a; f"}},
		"another reason":         {[]error{denied, of(fault.VaultFirewall, "denied", "c")}, []string{"denied a; f", "denied c; f"}},
		"another cause":          {[]error{denied, of(fault.AccessDenied, "no", "c")}, []string{"denied a; f", "no c; f"}},
		"another fix":            {[]error{denied, &fault.Error{Reason: fault.AccessDenied, Cause: denied.Cause, Fix: "g", Objects: []string{"c"}}}, []string{"denied a; f", "denied c; g"}},
		"wrapped":                {[]error{fmt.Errorf("x: %w", denied), of(fault.AccessDenied, "denied", "c")}, []string{"denied a, c; f"}},
		"without objects":        {[]error{signIn, signIn}, []string{"refused; f", "refused; f"}},
		"bugs of one type":       {[]error{io.EOF, missing, io.ErrUnexpectedEOF}, []string{"EOF", "missing b; f"}},
		"bugs of two types":      {[]error{io.EOF, io.ErrClosedPipe, &strconv.NumError{Err: io.EOF}}, []string{"EOF", `strconv.: parsing "": EOF`}},
		"timeouts that differ":   {[]error{fmt.Errorf("x: %w", context.DeadlineExceeded), context.DeadlineExceeded, fmt.Errorf("y: %w", context.DeadlineExceeded)}, []string{"x: context deadline exceeded", "context deadline exceeded", "y: context deadline exceeded"}},
		"panics":                 {[]error{&fault.Panic{}, denied, fmt.Errorf("x: %w", &fault.Panic{})}, []string{"a bug in the provider", "denied a; f"}},
		"canceled":               {[]error{canceled, missing, context.Canceled, canceled}, []string{"read: context canceled", "missing b; f"}},
		"all canceled":           {[]error{canceled, context.Canceled}, []string{"read: context canceled"}},
		"joined before":          {[]error{fault.Join([]error{denied, missing}), of(fault.ObjectNotFound, "missing", "c")}, []string{"denied a; f", "missing b, c; f"}},
		"joined before, wrapped": {[]error{fmt.Errorf("x: %w", fault.Errors{denied, nil, io.EOF}), denied}, []string{"denied a; f", "EOF"}},
	} {
		t.Run(name, func(t *testing.T) {
			err := fault.Join(c.errs)
			var got []string
			several, ok := err.(fault.Errors)
			switch {
			case ok:
				for _, e := range several {
					got = append(got, e.Error())
				}
			case err != nil:
				got = []string{err.Error()}
			}
			if !slices.Equal(got, c.want) || ok && len(c.want) < 2 {
				t.Errorf("got %q (several %t), want %q", got, ok, c.want)
			}
		})
	}
	if got, want := fault.Join([]error{denied, io.EOF}).Error(), "denied a; f | EOF"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// A single error is returned as is, with what wraps it, however many objects it has.
func TestJoinLeavesALoneErrorAsItIs(t *testing.T) {
	for _, e := range []*fault.Error{of(fault.AccessDenied, "denied", "a"), of(fault.AccessDenied, "denied", "a", "b"), {Cause: "c"}} {
		for _, err := range []error{e, fmt.Errorf("read: %w", e)} {
			if got := fault.Join([]error{nil, err, nil}); got != err {
				t.Errorf("got %v, want %v", got, err)
			}
			if got := fault.Join([]error{err, io.EOF}).(fault.Errors); got[0] != err || got[1] != io.EOF {
				t.Errorf("got %v", got)
			}
		}
	}
}

// Other mounts may have the same errors.
func TestJoinChangesNothing(t *testing.T) {
	names := make([]string, 1, 10) // has capacity for others
	names[0] = "a"
	first := &fault.Error{Reason: fault.AccessDenied, Cause: "denied {objects}", Fix: "f", Objects: names, Err: io.EOF, AADSTS: 7}
	second := of(fault.AccessDenied, "denied", "b")
	errs := []error{first, second, first}
	joined, ok := errors.AsType[*fault.Error](fault.Join(errs))
	if !ok || joined == first || joined.Err != io.EOF || joined.AADSTS != 7 || !slices.Equal(joined.Objects, []string{"a", "b"}) {
		t.Errorf("got %+v", joined)
	}
	joined.Objects[0] = "changed"
	if first.Error() != "denied a; f" || second.Error() != "denied b; f" || names[:2][1] != "" || errs[0] != error(first) || len(errs) != 3 {
		t.Errorf("changed: %s, %s, %q", first, second, names[:2])
	}
}

// A command names the first object, whichever is joined to it; others are mentioned.
func TestNameInFix(t *testing.T) {
	for name, c := range map[string]struct {
		name    string
		objects []string
		want    string
	}{
		"one":       {"a", []string{"a"}, "denied a; run x/a now; or y"},
		"several":   {"a", []string{"a", "c", "b"}, "denied a, c, b; run x/a now; likewise for the others; or y"},
		"same name": {"a", []string{"a", "a"}, "denied a; run x/a now; or y"},
		"no name":   {"", []string{"a"}, "denied a; run x/{name} now{others}; or y"}, // such text is of someone else
	} {
		var errs []error
		for _, object := range c.objects {
			e := of(fault.AccessDenied, "denied", object)
			if e.Fix = "run x/{name} now{others}; or y"; c.name != "" {
				e.Name = object
			}
			errs = append(errs, e)
		}
		if got := fault.Join(errs).Error(); got != c.want {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
	}
}
