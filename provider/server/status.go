package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"akv-csi-provider/provider/fault"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// final is the code of failures that may be transient: Azure is unavailable, throttles or
// takes too long. gRPC has codes for these, Unavailable, ResourceExhausted and
// DeadlineExceeded, but we must never send them, nor Canceled and Aborted. After those,
// kubelet assumes that the mount may still be in progress and leaves the volume's directory
// (pkg/volume/csi/csi_client.go, isFinalError). With rotation on, the driver assumes that a
// directory which is younger than its poll interval is a mounted volume that needs no
// rotation yet, and answers kubelet's next call with success, without calling us (v1.6.0,
// nodeserver.go, NodePublishVolume). The pod then starts with an empty volume. kubelet
// retries after any code.
const final = codes.FailedPrecondition

// statusCodes are the gRPC codes of all reasons. Nothing else knows of both.
var statusCodes = map[fault.Reason]codes.Code{
	fault.InvalidParameter: codes.InvalidArgument,

	fault.NoIdentity:          codes.InvalidArgument,
	fault.IdentityModeRefused: codes.PermissionDenied,
	fault.TokenRequestMissing: codes.FailedPrecondition,

	fault.FederatedCredentialMissing:    codes.Unauthenticated,
	fault.ApplicationNotFound:           codes.Unauthenticated,
	fault.TenantNotFound:                codes.Unauthenticated,
	fault.ClientSecretInvalid:           codes.Unauthenticated,
	fault.ClientSecretExpired:           codes.Unauthenticated,
	fault.TokenExpired:                  codes.Unauthenticated,
	fault.TokenInvalid:                  codes.Unauthenticated,
	fault.IssuerUnreachable:             codes.Unauthenticated,
	fault.SignInFailed:                  codes.Unauthenticated,
	fault.ManagedIdentityUnavailable:    codes.Unauthenticated,
	fault.ServiceAccountLookupForbidden: codes.FailedPrecondition,

	fault.AccessDenied:   codes.PermissionDenied,
	fault.VaultFirewall:  codes.PermissionDenied,
	fault.WrongTenant:    codes.PermissionDenied,
	fault.TokenRejected:  codes.Unauthenticated,
	fault.ObjectNotFound: codes.NotFound,
	fault.ObjectDisabled: codes.FailedPrecondition,
	fault.VaultNotFound:  codes.NotFound,
	fault.VaultRefused:   codes.InvalidArgument,
	fault.ContentInvalid: codes.FailedPrecondition,
	fault.TooLarge:       final,

	fault.Throttled:          final,
	fault.TLSUntrusted:       final,
	fault.ProxyRefused:       final,
	fault.Timeout:            final,
	fault.ServiceUnavailable: final,

	fault.Canceled: final,
	fault.Internal: codes.Internal,
}

// failure is a failed mount as the driver and the log see it.
type failure struct {
	*status.Status
	reason fault.Reason
	fields []slog.Attr // for the log only
	ids    []slog.Attr // of Azure's responses, for both logs
}

// Bounds of a message: the number of failures of one mount that it describes, and its
// bytes. A status is sent in HTTP/2 trailers: one above the client's limit would end the
// driver's connection, and with it the mounts of other pods.
const (
	maxFailures = 50
	maxMessage  = 16 << 10
	// maxToReason is how far into a message its first reason may end. kubelet cuts an event at 1024
	// bytes. Up to 293 of these are kubelet's and the driver's words before our message, with 110
	// for the names of the volume, the namespace and the pod, and 124 are left for longer names.
	maxToReason = 607
)

// statusOf returns the status of an error. Its message is one line: the cause, the fix, and
// the reason in brackets, which also stands first where the line is long. Of several failures, the first decides on the code.
func statusOf(err error) failure {
	all, several := errors.AsType[fault.Errors](err)
	if !several {
		all = fault.Errors{err}
	}
	var out failure
	var texts []string
	var failed []*fault.Error
	for _, err := range all[:min(len(all), maxFailures)] {
		text, reason, fields := describe(err)
		texts = append(texts, fmt.Sprintf("%s [%s]", text, reason))
		out.fields = append(out.fields, fields...)
		if e, ok := errors.AsType[*fault.Error](err); ok {
			failed = append(failed, e)
		}
		if out.reason == "" {
			out.reason = reason
		}
	}
	if rest := len(all) - len(texts); rest > 0 {
		texts = append(texts, fmt.Sprintf("and %d more failures", rest))
	}
	out.ids = idFields(failed)
	message := strings.Join(texts, " | ")
	if len(texts[0]) > maxToReason { // the reason ends it too, but an event would not show that
		message = fmt.Sprintf("[%s] %s", out.reason, message)
	}
	if len(message) > maxMessage {
		message = fmt.Sprintf("%s… [%s]", strings.ToValidUTF8(message[:maxMessage], ""), out.reason)
	}
	out.Status = status.New(statusCodes[out.reason], message)
	return out
}

// describe returns the text and the reason of one failure, and what else the log may
// contain.
func describe(err error) (text string, reason fault.Reason, fields []slog.Attr) {
	if p, ok := errors.AsType[*fault.Panic](err); ok {
		return "a bug in the provider; report it with the stack trace in the provider's log", fault.Internal,
			[]slog.Attr{slog.String("panic", panicText(p.Value)), slog.String("stack", string(p.Stack))}
	}
	if e, ok := errors.AsType[*fault.Error](err); ok {
		if _, known := statusCodes[e.Reason]; known {
			return e.Error(), e.Reason, nil
		}
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "the mount timed out; kubelet retries; if it persists, cluster operator: raise the provider's --mount-timeout", fault.Timeout, nil
	case errors.Is(err, context.Canceled):
		return "the driver canceled the mount; kubelet retries", fault.Canceled, nil
	}
	return "a bug in the provider; report it with the provider's log", fault.Internal, []slog.Attr{slog.String("type", fmt.Sprintf("%T", err))}
}

// idFields are Azure's names of the responses that the failures are about, and the number of Entra's
// refusal: a mount signs in once.
func idFields(all []*fault.Error) (fields []slog.Attr) {
	if i := slices.IndexFunc(all, func(e *fault.Error) bool { return e.AADSTS != 0 }); i >= 0 {
		fields = append(fields, slog.Int("aadsts", all[i].AADSTS))
	}
	for _, list := range []struct {
		name string
		of   func(fault.RequestIDs) string
	}{
		{"requestIDs", func(ids fault.RequestIDs) string { return ids.Request }},
		{"traceIDs", func(ids fault.RequestIDs) string { return ids.Trace }},
		{"correlationIDs", func(ids fault.RequestIDs) string { return ids.Correlation }},
	} {
		var found []string
		for _, e := range all {
			if id := list.of(e.IDs); id != "" && len(found) < maxLogged {
				found = append(found, id)
			}
		}
		if len(found) > 0 {
			fields = append(fields, slog.Any(list.name, found))
		}
	}
	return fields
}
