package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"akv-csi-provider/provider"
	"akv-csi-provider/provider/entra"
	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/render"
	"akv-csi-provider/provider/request"
	"akv-csi-provider/provider/transport"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// The reasons that only the edge gives.
const (
	reasonTimeout  = transport.ReasonTimeout
	reasonCanceled = "Canceled"
	reasonInternal = "Internal"
)

// final is the code of what may pass by itself: an Azure that is away, throttles or takes
// too long. gRPC has words for these, Unavailable, ResourceExhausted and DeadlineExceeded,
// which we must never send, nor Canceled and Aborted. kubelet takes them for "the mount may
// still be under way" and leaves the volume's folder (pkg/volume/csi/csi_client.go,
// isFinalError). With rotation on, the driver takes a folder that is younger than its poll
// interval for a mounted volume that needs no rotation yet, and answers kubelet's next call
// with success, without asking us (v1.6.0, nodeserver.go, NodePublishVolume). The pod then
// starts with an empty volume. kubelet tries again after any code.
const final = codes.FailedPrecondition

// statusCodes gives each reason its gRPC code. It is the one place where errors
// meet gRPC.
var statusCodes = map[string]codes.Code{
	request.ReasonInvalidParameter: codes.InvalidArgument,

	provider.ReasonNoIdentity:          codes.InvalidArgument,
	provider.ReasonIdentityModeRefused: codes.PermissionDenied,
	provider.ReasonTokenRequestMissing: codes.FailedPrecondition,

	entra.ReasonFederatedCredentialMissing: codes.Unauthenticated,
	entra.ReasonApplicationNotFound:        codes.Unauthenticated,
	entra.ReasonTenantNotFound:             codes.Unauthenticated,
	entra.ReasonTokenExpired:               codes.Unauthenticated,
	entra.ReasonTokenInvalid:               codes.Unauthenticated,
	entra.ReasonIssuerUnreachable:          codes.Unauthenticated,
	entra.ReasonSignInFailed:               codes.Unauthenticated,
	entra.ReasonClientSecretInvalid:        codes.Unauthenticated,
	entra.ReasonClientSecretExpired:        codes.Unauthenticated,
	entra.ReasonManagedIdentityUnavailable: codes.Unauthenticated,

	entra.ReasonServiceAccountLookupForbidden: codes.FailedPrecondition,

	keyvault.ReasonVaultNotFound:  codes.NotFound,
	keyvault.ReasonAccessDenied:   codes.PermissionDenied,
	keyvault.ReasonVaultFirewall:  codes.PermissionDenied,
	keyvault.ReasonWrongTenant:    codes.PermissionDenied,
	keyvault.ReasonTokenRejected:  codes.Unauthenticated,
	keyvault.ReasonObjectNotFound: codes.NotFound,
	keyvault.ReasonObjectDisabled: codes.FailedPrecondition,
	keyvault.ReasonVaultRefused:   codes.InvalidArgument,
	keyvault.ReasonThrottled:      final, // and Entra's

	transport.ReasonTLSUntrusted:       final,
	transport.ReasonProxyRefused:       final,
	transport.ReasonTimeout:            final,
	transport.ReasonServiceUnavailable: final, // and Entra's and Key Vault's

	render.ReasonContentInvalid: codes.FailedPrecondition,
	provider.ReasonTooLarge:     final,
	reasonCanceled:              final,
	reasonInternal:              codes.Internal,
}

// outcome is a failed mount as the driver and the log see it.
type outcome struct {
	*status.Status
	reason string
	fields []slog.Attr // for the log only
}

// Bounds of a message: how many different failures of one mount are told, and its
// bytes. A status travels in HTTP/2 trailers: one above the client's limit would
// end the driver's connection, and with it the mounts of other pods.
const (
	maxFailures = 50
	maxMessage  = 16 << 10
)

// statusOf maps an error to its status: one line, the cause first, then the fix,
// then the reason in brackets. Of several failures the first gives the code.
func statusOf(err error) outcome {
	failures := []error{err}
	var several provider.Failures
	if errors.As(err, &several) {
		failures = several
	}
	var out outcome
	var texts []string
	for _, f := range failures[:min(len(failures), maxFailures)] {
		text, reason, fields := describe(f)
		texts = append(texts, fmt.Sprintf("%s [%s]", text, reason))
		out.fields = append(out.fields, fields...)
		if out.reason == "" {
			out.reason = reason
		}
	}
	if rest := len(failures) - len(texts); rest > 0 {
		texts = append(texts, fmt.Sprintf("and %d more failures", rest))
	}
	message := strings.Join(texts, " | ")
	if len(message) > maxMessage {
		message = fmt.Sprintf("%s… [%s]", strings.ToValidUTF8(message[:maxMessage], ""), out.reason)
	}
	out.Status = status.New(statusCodes[out.reason], message)
	return out
}

// describe finds the words and the reason of one failure, and what the log may
// know beyond them.
func describe(err error) (text, reason string, fields []slog.Attr) {
	var (
		typed interface {
			error
			Reason() string
		}
		panicked *provider.PanicError
		sign     *entra.Error
	)
	switch {
	case errors.As(err, &panicked):
		return "a bug in the provider; please report it with the stack from its log", reasonInternal,
			[]slog.Attr{slog.String("panic", panicText(panicked.Value)), slog.String("stack", string(panicked.Stack))}
	case errors.As(err, &typed):
		if errors.As(err, &sign) && sign.Code != 0 {
			fields = append(fields, slog.Int("aadsts", sign.Code))
		}
		if _, known := statusCodes[typed.Reason()]; known {
			return typed.Error(), typed.Reason(), fields
		}
	case errors.Is(err, context.DeadlineExceeded):
		return "the mount took longer than it may; see --mount-timeout of the provider", reasonTimeout, nil
	case errors.Is(err, context.Canceled):
		return "the caller gave up; kubelet calls again", reasonCanceled, nil
	}
	return "a bug in the provider; please report it with its log", reasonInternal, []slog.Attr{slog.String("type", fmt.Sprintf("%T", err))}
}
