package main

import (
	_ "akv-csi-provider/provider/azuretest"

	_ "go.yaml.in/yaml/v3"
	_ "k8s.io/klog/v2"
	_ "sigs.k8s.io/secrets-store-csi-driver/apis/v1"
	_ "sigs.k8s.io/secrets-store-csi-driver/pkg/secrets-store"
)

func main() {}
