// Package mounter makes volumes with the plugin's own code in the process of a test, without a
// driver and a socket.
package mounter

import (
	"context"
	"path/filepath"
	"time"

	"akv-csi-provider/provider"
	"akv-csi-provider/provider/azuretest"
	"akv-csi-provider/provider/cloud"
	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/metrics"
	"akv-csi-provider/provider/plugin"
	"akv-csi-provider/provider/request"
	"akv-csi-provider/provider/throttle"

	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
)

// Mounter makes volumes of a fake Azure, on a node of a fake cluster.
type Mounter struct{ mounter *provider.Mounter }

// New makes a Mounter, whose credentials for the API server are in dir.
func New(box *azuretest.Box, api *azuretest.APIServer, dir string) (*Mounter, error) {
	if err := api.WriteCredentials(dir); err != nil {
		return nil, err
	}
	mounter, err := plugin.NewMounter(plugin.Config{
		Version: "1.2.3", Azure: box.Transport(), IMDS: box.Transport(), Throttle: throttle.Config{Max: 8},
		Cluster: plugin.Cluster{APIServer: "https://" + api.Addr(), TokenFile: filepath.Join(dir, "token"), CAFile: filepath.Join(dir, "ca.crt")},
		Mounter: provider.Mounter{Clouds: &cloud.Resolver{Default: "AzurePublicCloud"}, MaxConcurrency: 8, MaxBytes: 4 << 20},
		Reads:   keyvault.Config{Timeout: 50 * time.Second},
	}, metrics.New("1.2.3"))
	if err != nil {
		return nil, err
	}
	return &Mounter{mounter}, nil
}

// Mount makes the volume of a call of the driver. It returns what the provider read in the call too.
func (m *Mounter) Mount(ctx context.Context, in *v1alpha1.MountRequest) (*request.Mount, *provider.Volume, error) {
	req, err := new(request.Parser).Parse(in.GetAttributes(), in.GetSecrets(), in.GetPermission())
	if err != nil {
		return nil, nil, err
	}
	volume, err := m.mounter.Mount(ctx, req, time.Time{})
	return req, volume, err
}
