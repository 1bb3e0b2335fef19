package drivers_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/status"
)

// pod makes a pod of that name, whose volume has the class of the same name.
func (n *node) pod(name, objects string) *volume {
	n.class(name, objects)
	n.pods++
	v := &volume{node: n, name: name, uid: fmt.Sprintf("0d9d6f4e-0000-4000-8000-%012d", n.pods)}
	v.target = filepath.Join(n.dir, "pods", v.uid, "volumes", "kubernetes.io~csi", "secrets", "mount")
	n.api.set("pods", object{
		"metadata": object{"namespace": namespace, "name": name, "uid": v.uid},
		"spec": object{"nodeName": nodeName, "serviceAccountName": "reader", "containers": []object{{"name": "main"}},
			"volumes": []object{{"name": "secrets", "csi": object{"driver": driverName, "readOnly": true,
				"volumeAttributes": object{"secretProviderClass": name}}}}},
		"status": object{"phase": "Running"},
	})
	return v
}

// class creates or updates a SecretProviderClass.
func (n *node) class(name, objects string) {
	n.api.set("secretproviderclasses", object{
		"metadata": object{"namespace": namespace, "name": name},
		"spec": object{"provider": "azure", "parameters": object{
			"keyvaultName": "contoso", "tenantID": tenantID, "clientID": clientID, "objects": objects}},
	})
}

// volume is the volume of a pod.
type volume struct {
	*node
	name, uid, target string
}

// publish starts the pod, and returns the message of its event. Kubelet repeats a call that fails:
// the driver reads classes from a cache, which may not have a new one yet.
func (v *volume) publish() (message string) {
	v.t.Helper()
	v.eventually("the driver knows the class", func() bool {
		message = v.call()
		return !strings.Contains(message, "failed to get secretproviderclass")
	})
	return message
}

// call is kubelet's call for a volume.
func (v *volume) call() string {
	v.t.Helper()
	token, err := v.token(namespace, "reader", object{"spec": object{"boundObjectRef": object{"name": v.name, "uid": v.uid}}})
	if err != nil {
		v.t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(v.target), 0o750); err != nil {
		v.t.Fatal(err)
	}
	_, err = v.kubelet.NodePublishVolume(v.t.Context(), &csi.NodePublishVolumeRequest{
		VolumeId: "csi-" + v.uid, TargetPath: v.target, Readonly: true,
		VolumeCapability: &csi.VolumeCapability{
			AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{}},
			AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
		},
		VolumeContext: map[string]string{
			"secretProviderClass":                      v.name,
			"csi.storage.k8s.io/ephemeral":             "true",
			"csi.storage.k8s.io/pod.name":              v.name,
			"csi.storage.k8s.io/pod.namespace":         namespace,
			"csi.storage.k8s.io/pod.uid":               v.uid,
			"csi.storage.k8s.io/serviceAccount.name":   "reader",
			"csi.storage.k8s.io/serviceAccount.tokens": v.cluster.Projected(map[string]string{audience: token}),
		},
	})
	return status.Convert(err).Message()
}

// unpublish is kubelet's call when the pod ends.
func (v *volume) unpublish() {
	v.t.Helper()
	if _, err := v.kubelet.NodeUnpublishVolume(v.t.Context(), &csi.NodeUnpublishVolumeRequest{VolumeId: "csi-" + v.uid, TargetPath: v.target}); err != nil {
		v.t.Error(err)
	}
}

// files returns path, mode and content of each file as the pod sees them.
func (v *volume) files() string {
	var found []string
	entries, err := os.ReadDir(v.target)
	if err != nil {
		return err.Error()
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), "..") {
			continue // the driver's, to which the others are links
		}
		root, err := filepath.EvalSymlinks(filepath.Join(v.target, entry.Name()))
		if err != nil {
			return err.Error()
		}
		if err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err == nil {
				found = append(found, fmt.Sprintf("%s%s %v %s", entry.Name(), strings.TrimPrefix(path, root), info.Mode(), content))
			}
			return err
		}); err != nil {
			return err.Error()
		}
	}
	return strings.Join(found, ", ")
}

// written identifies the last write of the files: the driver makes a folder for each.
func (v *volume) written() string {
	folder, err := os.Readlink(filepath.Join(v.target, "..data"))
	if err != nil {
		v.t.Error(err)
	}
	return folder
}

// versions returns the versions that the driver has recorded of the volume.
func (v *volume) versions() (found []string) {
	o := v.api.get("secretproviderclasspodstatuses", namespace, v.name+"-"+namespace+"-"+v.name)
	state, _ := o["status"].(object)
	objects, _ := state["objects"].([]any)
	for _, entry := range objects {
		found = append(found, text(entry.(object)["id"])+"@"+text(entry.(object)["version"]))
	}
	slices.Sort(found)
	return found
}
