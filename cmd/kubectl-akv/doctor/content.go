package doctor

import (
	"fmt"
	"strings"

	"akv-csi-provider/cmd/kubectl-akv/cluster"
)

func (e *examination) readMounted() {
	if all, err := e.reader.Statuses(e.ctx, e.pod.Namespace); err == nil {
		e.mounted = cluster.Mounted(all, e.pod, e.volume.Class)
	}
}

// content checks that the volume has files. A bug of the driver (1.6.0) lets a pod start with an
// empty one: it then reports no objects of the volume, as it never wrote any.
func (e *examination) content() *Check {
	const name = "volume"
	_, err := e.reader.Statuses(e.ctx, e.pod.Namespace)
	switch {
	case err != nil:
		return unread(name, "SecretProviderClassPodStatuses", err)
	case e.started() && (e.mounted == nil || len(e.mounted.Objects) == 0):
		return problem(name, "the pod runs, but its volume is empty: the driver never wrote it (a known bug of driver 1.6.0)",
			"delete the pod: its containers do not see what is mounted later", fmt.Sprintf("kubectl -n %s delete pod %s", e.pod.Namespace, e.pod.Name))
	case e.mounted == nil:
		return notReached(name, "it is not mounted yet")
	}
	return fine(name, "it has files")
}

// versions says what the volume has, and since when.
func (e *examination) versions() *Check {
	const name, most = "versions", 3
	if e.mounted == nil {
		return notReached(name, "the driver reports no objects of the volume")
	}
	var texts []string
	for _, o := range e.mounted.Objects[:min(most, len(e.mounted.Objects))] {
		texts = append(texts, strings.TrimSuffix(o.ID+" "+o.Version, " "))
	}
	text := fmt.Sprintf("last changed %s: %s", e.ago(e.mounted.Since), strings.Join(texts, ", "))
	if rest := len(e.mounted.Objects) - most; rest > 0 {
		text += fmt.Sprintf(", and %d more", rest)
	}
	check := fine(name, text)
	check.Objects = e.mounted.Objects
	return check
}
