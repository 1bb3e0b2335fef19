package cluster

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"akv-csi-provider/provider/fault"
)

// Failure is an event in which kubelet says why it could not mount a volume.
type Failure struct {
	Time  time.Time `json:"time"` // of the last one
	Count int32     `json:"count"`
	// Before are the words of kubelet and of the driver, Provider those of the provider with its
	// reasons in brackets: "" if the provider did not fail or was not called.
	Before   string   `json:"before"`
	Provider string   `json:"provider,omitempty"`
	Reasons  []string `json:"reasons,omitempty"`
}

// Failures returns the events of a pod about a volume, the last one first. With volume "" it
// returns those of all volumes.
func (r *Reader) Failures(ctx context.Context, pod *corev1.Pod, volume string) ([]Failure, error) {
	selector := fields.Set{"involvedObject.uid": string(pod.UID), "reason": "FailedMount"}.String()
	list, err := r.Kube.CoreV1().Events(pod.Namespace).List(ctx, metav1.ListOptions{FieldSelector: selector, Limit: pageSize})
	if err != nil {
		return nil, err
	}
	var found []Failure
	for _, e := range list.Items {
		// Others say only that volumes are not mounted yet, or are about other volumes.
		if !strings.Contains(e.Message, "SetUp failed for volume") || volume != "" && !strings.Contains(e.Message, `for volume "`+volume+`"`) {
			continue
		}
		found = append(found, NewFailure(e))
	}
	slices.SortStableFunc(found, func(a, b Failure) int { return b.Time.Compare(a.Time) })
	return found, nil
}

// NewFailure reads an event.
func NewFailure(e corev1.Event) Failure {
	f := Failure{Time: e.LastTimestamp.Time, Count: max(e.Count, 1)}
	if e.Series != nil {
		f.Time, f.Count = e.Series.LastObservedTime.Time, max(e.Series.Count, 1)
	}
	for _, t := range []time.Time{e.EventTime.Time, e.CreationTimestamp.Time} {
		if f.Time.IsZero() {
			f.Time = t
		}
	}
	f.Before, f.Provider, f.Reasons = Split(e.Message)
	return f
}

var bracketed = regexp.MustCompile(`\[([A-Za-z]+)\](?: \| |$)`)

// reasonsOf returns the provider's reasons at the end of an error, and at the end of each of its
// causes.
func reasonsOf(text string) []string {
	var reasons []string
	for _, m := range bracketed.FindAllStringSubmatch(text, -1) {
		known := slices.ContainsFunc(fault.Reasons, func(r struct {
			Reason  fault.Reason
			Meaning string
		}) bool {
			return string(r.Reason) == m[1]
		})
		if known && !slices.Contains(reasons, m[1]) {
			reasons = append(reasons, m[1])
		}
	}
	return reasons
}

// Split divides an event's text into the words of kubelet and the driver, and the provider's.
func Split(message string) (before, provider string, reasons []string) {
	message = strings.TrimSpace(message)
	reasons = reasonsOf(message)
	// The driver adds the gRPC status of the provider's error as text.
	const status = "err: rpc error: code = "
	at := strings.LastIndex(message, status)
	if at < 0 || len(reasons) == 0 {
		return message, "", nil
	}
	if _, text, ok := strings.Cut(message[at+len(status):], " desc = "); ok {
		provider = text
	}
	return strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(message[:at]), ",")), provider, reasons
}
