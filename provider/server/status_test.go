package server

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"akv-csi-provider/provider/fault"

	"google.golang.org/grpc/codes"
)

// Every reason has a code, and no code is one after which kubelet leaves the volume's
// directory. The reference says the same.
func TestStatusCodes(t *testing.T) {
	if len(statusCodes) != len(fault.Reasons) {
		t.Errorf("%d codes for %d reasons", len(statusCodes), len(fault.Reasons))
	}
	unsure := []codes.Code{codes.OK, codes.Canceled, codes.DeadlineExceeded, codes.Unavailable, codes.ResourceExhausted, codes.Aborted}
	for _, r := range fault.Reasons {
		if code := statusCodes[r.Reason]; slices.Contains(unsure, code) {
			t.Errorf("%s has the code %s", r.Reason, code)
		}
	}
	reference, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile("(?m)^\\|.*\\| ([A-Z][A-Za-z]+) \\| `([A-Z][A-Za-z]+)` \\|").FindAllStringSubmatch(string(reference), -1)
	if len(rows) < len(fault.Reasons) {
		t.Errorf("%d rows for %d reasons", len(rows), len(fault.Reasons))
	}
	for _, row := range rows {
		if code := statusCodes[fault.Reason(row[2])]; code.String() != row[1] {
			t.Errorf("the reference has %s for %s, want %s", row[1], row[2], code)
		}
	}
}

// An error that is not in the list of reasons is a bug, and shows nothing.
func TestUnknownReason(t *testing.T) {
	for _, err := range []error{errors.New("CANARY"), &fault.Error{Cause: "CANARY"}, &fault.Error{Reason: "Odd", Cause: "CANARY"}} {
		if got := statusOf(err); got.Code() != codes.Internal || got.reason != fault.Internal || strings.Contains(got.Message(), "CANARY") {
			t.Errorf("%v: got %v", err, got.Status)
		}
	}
}

// Of several failures the first decides on the code; there is a bound on their number and on
// the length of the message.
func TestStatusOfSeveral(t *testing.T) {
	several := fault.Errors{&fault.Error{Reason: fault.AccessDenied, Cause: "no role", Fix: "add it", AADSTS: 7},
		fmt.Errorf("wrapped: %w", &fault.Error{Reason: fault.ObjectNotFound, Cause: "gone", Fix: "set it"})}
	got := statusOf(several)
	if got.Code() != codes.PermissionDenied || got.reason != fault.AccessDenied || len(got.fields) != 0 || fmt.Sprint(got.ids) != "[aadsts=7]" ||
		got.Message() != "no role; add it [AccessDenied] | gone; set it [ObjectNotFound]" {
		t.Errorf("got %v, %v, %v", got.Status, got.fields, got.ids)
	}
	for len(several) < 100 {
		several = append(several, several[0])
	}
	for _, id := range several {
		if e, ok := id.(*fault.Error); ok {
			e.IDs = fault.RequestIDs{Request: "r", Trace: "t", Correlation: "c"}
		}
	}
	if ids := fmt.Sprint(statusOf(several).ids); ids != "[aadsts=7 requestIDs=[r r r r r r r r] traceIDs=[t t t t t t t t] correlationIDs=[c c c c c c c c]]" {
		t.Errorf("got %s", ids)
	}
	if text := statusOf(several).Message(); !strings.HasSuffix(text, " | and 50 more failures") {
		t.Errorf("got %s", text)
	}
	long := statusOf(&fault.Error{Reason: fault.TooLarge, Cause: strings.Repeat("é", maxMessage)}).Message()
	if len(long) > maxMessage+32 || !strings.HasSuffix(long, "… [TooLarge]") {
		t.Errorf("%d bytes, ends with %s", len(long), long[len(long)-32:])
	}
}
