package server

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"akv-csi-provider/provider/fair"
	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/request"

	"google.golang.org/grpc/stats"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
)

// Bounds of running calls, from which the memory limit of the manifests follows (see
// deploy/README.md). What does not fit waits, and namespaces are served in turn.
const (
	// maxCalls bounds the calls of one connection, the driver's. Calls beyond it wait in the
	// driver, where they take no memory of this process.
	maxCalls = 192
	// maxRequest bounds one request: the 512 KiB that the objects of a class may have (see
	// package request), as JSON, and what is beside them. gRPC itself refuses a larger one, with
	// ResourceExhausted, which kubelet misreads (see final): the harm is to the pod that sends
	// it, where a process without memory harms all pods of the node.
	maxRequest = 640 << 10
	// requestMemory bounds what the requests of running mounts take, at requestFactor times
	// their size: JSON is decoded, and credentials are copied into forms and headers. A mount
	// counts for its part of maxMounts at least.
	requestMemory = 48 << 20
	requestFactor = 4
	maxMounts     = 96
	// Only maxLongMounts at a time have the whole MountTimeout, at most half of them in one
	// namespace: volumes whose vault does not answer cannot block all others for that long, since
	// the places of the others are soon free again.
	maxLongMounts = 48
	shortTimeout  = 5 * time.Second
	// largeRequest is from what size on requests are parsed one after the other: the YAML of
	// half a megabyte takes 84 MiB while it is parsed, and a third of a second.
	largeRequest = 64 << 10
)

// admission decides when a mount runs, and for how long at most.
type admission struct {
	requests *fair.Semaphore // in bytes
	long     *fair.Semaphore // in mounts
	parsing  *fair.Semaphore // in large requests
	timeout  time.Duration
	stopping context.Context // ends shortly before the server stops; it is that of no call
}

func newAdmission(timeout time.Duration, stopping context.Context) admission {
	return admission{
		requests: fair.New(requestMemory, fair.ThreeQuarters), long: fair.New(maxLongMounts, fair.Half), parsing: fair.New(1, fair.ThreeQuarters),
		timeout: timeout, stopping: stopping,
	}
}

// enter waits until the mount may run. The context ends when the mount's time is over: that of
// the plugin or, if the caller's deadline is earlier, a little before that, since kubelet
// reports its own deadline with a bare DeadlineExceeded. Call leave when the mount has ended;
// what the request uses is released when its response was sent.
func (a *admission) enter(ctx context.Context, in *v1alpha1.MountRequest) (_ context.Context, leave context.CancelFunc, err error) {
	tenant := attributeOf(in.GetAttributes(), "pod.namespace")
	timeout, cause := a.timeout, error(nil)
	giveBack, ok := a.long.TryAcquire(tenant, 1)
	if !ok {
		giveBack = func() {}
		if timeout > shortTimeout {
			timeout, cause = shortTimeout, errCrowded
		}
	}
	if deadline, ok := ctx.Deadline(); ok {
		left := time.Until(deadline)
		if left -= min(left/10, time.Second); left < timeout {
			timeout, cause = left, nil
		}
	}
	sent := callOf(ctx)
	ctx, cancel := context.WithTimeoutCause(fair.WithTenant(ctx, tenant), timeout, cause)
	unwatch := context.AfterFunc(a.stopping, cancel)
	leave = func() { unwatch(); cancel(); giveBack() }
	weight := max(requestMemory/maxMounts, requestFactor*(len(in.GetAttributes())+len(in.GetSecrets())))
	done, err := a.requests.Acquire(ctx, tenant, int64(weight))
	if err == nil {
		sent.after(done)
	}
	return ctx, leave, err
}

// enterParsing waits until a request may be parsed.
func (a *admission) enterParsing(ctx context.Context, in *v1alpha1.MountRequest) (leave func(), err error) {
	if len(in.GetAttributes())+len(in.GetSecrets()) < largeRequest {
		return func() {}, nil
	}
	return a.parsing.Acquire(ctx, fair.Tenant(ctx), 1)
}

// errCrowded is why a mount ends that had only shortTimeout.
var errCrowded = &fault.Error{Reason: fault.Timeout, Cause: "too many slow mounts run on this node", Fix: "kubelet retries"}

// explain says why a mount whose context has ended did not run, or did not end, if it is because
// the server stops or had no place for it. What timed out by name is a better explanation.
func (a *admission) explain(ctx context.Context, err error) error {
	switch {
	case a.stopping.Err() != nil:
		return &fault.Error{Reason: fault.Canceled, Err: err,
			Cause: "the provider is shutting down", Fix: "kubelet retries with the new provider pod"}
	case context.Cause(ctx) != errCrowded:
		return err
	}
	all, several := errors.AsType[fault.Errors](err)
	if !several {
		all = fault.Errors{err}
	}
	explained := slices.Clone(all)
	for i, err := range all {
		if err == context.DeadlineExceeded {
			explained[i] = errCrowded
		}
	}
	return fault.Join(explained)
}

// podOf finds the pod in the attributes of a request that is not parsed.
func podOf(attributes string) request.Pod {
	return request.Pod{Namespace: attributeOf(attributes, "pod.namespace"), Name: attributeOf(attributes, "pod.name"),
		UID: attributeOf(attributes, "pod.uid"), ServiceAccount: attributeOf(attributes, "serviceAccount.name")}
}

// maxName bounds an attribute of kubelet's. Kubernetes' names have at most 253 bytes.
const maxName = 253

// attributeOf finds an attribute of kubelet's without decoding all of them, as they may be large; it
// serves fairness and the log only. kubelet writes it over anything that a user sets, and quotes
// within a JSON string follow a backslash.
func attributeOf(attributes, name string) string {
	key := `"csi.storage.k8s.io/` + name + `":"`
	for rest := attributes; ; {
		before, after, found := strings.Cut(rest, key)
		if !found {
			return ""
		}
		if !strings.HasSuffix(before, `\`) {
			value, _, _ := strings.Cut(after, `"`)
			return strings.Clone(value[:min(len(value), maxName)]) // a part would keep all attributes in memory
		}
		rest = after
	}
}

// call is what must happen when the response of a call was sent.
type call struct {
	mu   sync.Mutex // guards what follows
	then []func()
}

func (c *call) after(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.then = append(c.then, f)
}

type callKey struct{}

func callOf(ctx context.Context) *call {
	if c, ok := ctx.Value(callKey{}).(*call); ok {
		return c
	}
	return new(call)
}

// ends is a stats.Handler that runs what was registered for the end of a call.
type ends struct{}

// TagRPC implements stats.Handler.
func (ends) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context {
	return context.WithValue(ctx, callKey{}, new(call))
}

// HandleRPC implements stats.Handler.
func (ends) HandleRPC(ctx context.Context, s stats.RPCStats) {
	if _, ended := s.(*stats.End); !ended {
		return
	}
	c := callOf(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range c.then {
		f()
	}
	c.then = nil
}

// TagConn implements stats.Handler.
func (ends) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler.
func (ends) HandleConn(context.Context, stats.ConnStats) {}
