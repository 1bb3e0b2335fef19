package main

import (
	"cmp"
	"maps"
)

// object is a Kubernetes object, as JSON.
type object map[string]any

func serviceAccount(name, client string) object {
	meta := object{"name": name}
	if client != "" {
		meta["annotations"] = object{"azure.workload.identity/client-id": client}
	}
	return object{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta}
}

// class is a SecretProviderClass of the quick start's secret, with what differs.
func (t *trial) class(name string, differs map[string]string, objects string) object {
	parameters := map[string]string{
		"keyvaultName": t.vault, "tenantID": t.tenant,
		"objects": cmp.Or(objects, "[{objectName: my-secret, objectType: secret}]"),
	}
	maps.Copy(parameters, differs)
	return object{
		"apiVersion": "secrets-store.csi.x-k8s.io/v1", "kind": "SecretProviderClass", "metadata": object{"name": name},
		"spec": object{"provider": "azure", "parameters": parameters},
	}
}

// pod mounts the class of its name at /mnt/secrets and runs one command.
func pod(name, account, command string) object {
	return object{
		"apiVersion": "v1", "kind": "Pod", "metadata": object{"name": name},
		"spec": object{
			"serviceAccountName": cmp.Or(account, accountSound), "restartPolicy": "Never",
			"containers": []object{{
				"name": "main", "image": "busybox:1.37", "command": []string{"sh", "-c", command},
				"volumeMounts": []object{{"name": "secrets", "mountPath": "/mnt/secrets", "readOnly": true}},
			}},
			"volumes": []object{{"name": "secrets", "csi": object{
				"driver": "secrets-store.csi.k8s.io", "readOnly": true, "volumeAttributes": object{"secretProviderClass": name},
			}}},
		},
	}
}
