// Package config reads the environment variables of the cluster suite, which the tests and the
// command that builds for them share. See e2e/README.md.
package config

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"akv-csi-provider/e2e/cluster/build"
)

// Config is what the environment says.
type Config struct {
	Kubernetes string     // of the node: 1.37 or 1.34
	Tokens     string     // how the driver gets pods' tokens: secrets or context
	Cache      string     // folder of what is built, an absolute path
	Existing   string     // kubeconfig of a cluster to use, or "kind"; empty for our own node
	Install    bool       // packages that are missing
	Hold       bool       // keep the cluster when the tests are over, until interrupted
	BoxAddress netip.Addr // where the existing cluster's nodes reach this machine
	Helm       string     // the program
	Cosign     string     // the program
	Released   bool       // releases are built, since a test of them will run
	Image      string     // name and tag of the plugin's image
	Kind       string     // name of the kind cluster
}

// pluginImage is the name that the plugin's image has on our node.
const pluginImage = "docker.io/library/akv-csi-provider:e2e"

// Read reads the environment. Relative paths are relative to e2e/cluster, the current folder.
func Read() (Config, error) {
	get := func(name, otherwise string) string {
		if v := os.Getenv(name); v != "" {
			return v
		}
		return otherwise
	}
	c := Config{
		Kubernetes: get("E2E_KUBERNETES", "1.37"), Tokens: get("E2E_TOKENS", "secrets"),
		Existing: os.Getenv("E2E_CLUSTER"), Image: get("E2E_IMAGE", pluginImage),
		Install: os.Getenv("E2E_INSTALL") == "yes", Hold: os.Getenv("E2E_HOLD") == "yes", Kind: get("E2E_KIND_NAME", "kind"),
	}
	var err error
	if c.BoxAddress, err = netip.ParseAddr(get("E2E_BOX_ADDRESS", "127.0.0.1")); err != nil {
		return c, fmt.Errorf("E2E_BOX_ADDRESS: %w", err)
	}
	if c.Cache, err = filepath.Abs(get("E2E_CACHE", "../../bin/cluster")); err != nil {
		return c, err
	}
	if c.Helm, err = filepath.Abs(get("HELM", "../../bin/helm")); err != nil {
		return c, err
	}
	if c.Cosign, err = filepath.Abs(get("COSIGN", "../../bin/cosign")); err != nil {
		return c, err
	}
	tests := os.Getenv("E2E_RUN")
	c.Released = c.Existing == "" && (tests == "" && !c.Hold || strings.Contains(tests, "Release") || strings.HasPrefix(tests, "storm"))
	if !slices.Contains([]string{"secrets", "context"}, c.Tokens) {
		return c, fmt.Errorf("E2E_TOKENS=%q: secrets or context", c.Tokens)
	}
	if c.Existing == "" && c.Tokens == "secrets" && c.Kubernetes == "1.34" {
		return c, errors.New("E2E_TOKENS=secrets needs Kubernetes 1.35 or newer: set E2E_TOKENS=context")
	}
	if c.Existing != "" && c.Existing != "kind" && os.Getenv("E2E_IMAGE") == "" {
		return c, errors.New("E2E_CLUSTER needs E2E_IMAGE, an image of the plugin that the cluster can pull")
	}
	return c, nil
}

// ManagedIdentity reports whether the plugin on a node can reach the fake IMDS for the node's
// managed identities. It accepts only loopback and link-local addresses, as IMDS has.
func (c Config) ManagedIdentity() bool {
	return c.BoxAddress.IsLoopback() || c.BoxAddress.IsLinkLocalUnicast()
}

// Builder builds what these settings need.
func (c Config) Builder() *build.Builder {
	b := &build.Builder{Out: c.Cache, Source: ".", Kubernetes: c.Kubernetes, Node: c.Existing == "", Released: c.Released, Helm: c.Helm}
	if c.Existing == "" || c.Existing == "kind" {
		b.Plugin = c.Image
	}
	return b
}
