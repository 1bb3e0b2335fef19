package preview

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"slices"
	"time"

	azlog "github.com/Azure/azure-sdk-for-go/sdk/azcore/log"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"akv-csi-provider/cmd/kubectl-akv/classes"
	"akv-csi-provider/cmd/kubectl-akv/version"
	"akv-csi-provider/provider"
	"akv-csi-provider/provider/cloud"
	"akv-csi-provider/provider/entra"
	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/metrics"
	"akv-csi-provider/provider/plugin"
	"akv-csi-provider/provider/render"
	"akv-csi-provider/provider/request"
	"akv-csi-provider/provider/server"
	"akv-csi-provider/provider/stats"
	"akv-csi-provider/provider/throttle"
	"akv-csi-provider/provider/transport"
)

// The provider's defaults for flags that preview does not have.
const (
	concurrency = 80
	retries     = 3
	maxBytes    = 4 << 20
	fileMode    = 0o644 // that of the CSI driver
)

func cloudNames() []string { return cloud.Names() }

// mount is one mount of the class. It is the server's, which maps errors to the lines that users
// know, around the provider's Mounter.
type mount struct {
	class   *classes.Class
	account string
	server  *server.Server
	mounter *provider.Mounter
	me      func(ctx context.Context, req *request.Mount) (*me, error) // nil: as the pod
	in      *v1alpha1.MountRequest
	notes   []string

	// What the mount was, once it has run.
	user    *me
	as      string
	req     *request.Mount
	volume  *provider.Volume
	err     error
	origins map[string][]provider.Origin // by path
}

// newMount wires a mount of the class, and gets what kubelet and the driver would send.
func (c *command) newMount(ctx context.Context, class *classes.Class) (*mount, error) {
	// The SDK would print requests with their headers where AZURE_SDK_GO_LOGGING is set.
	azlog.SetListener(nil)
	if err := transport.CheckProxy(os.Getenv); err != nil {
		return nil, err
	}
	clouds, err := c.clouds()
	if err != nil {
		return nil, err
	}
	m := &mount{class: class, account: c.serviceAccount, origins: make(map[string][]provider.Origin)}
	var byAudience, secrets map[string]string
	var client kubernetes.Interface
	parsed, problems := request.NewParser().ParseClass(class.Parameters, fileMode)
	if !c.asMe && len(problems) == 0 {
		if err := nodeOnly(class, parsed); err != nil {
			return nil, err
		}
		if client, err = c.env.Client(); err != nil {
			return nil, err
		}
		if byAudience, secrets, err = c.credentials(ctx, client, m, parsed, clouds); err != nil {
			return nil, err
		}
	}
	if err := c.wire(m, clouds, client, byAudience); err != nil {
		return nil, err
	}
	m.in, err = mountRequest(class, cmp.Or(c.serviceAccount, "default"), byAudience, secrets)
	return m, err
}

// clouds is the provider's resolver, with files of this machine.
func (c *command) clouds() (*cloud.Resolver, error) {
	clouds := &cloud.Resolver{Default: c.provider.cloudName, EnvDirs: cloud.DefaultEnvDirs, Own: make(map[string]cloud.Cloud)}
	for name, path := range c.provider.cloudFiles {
		own, err := cloud.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("--cloud-file: cloud %s: %w", name, err)
		}
		clouds.Own[name] = own
	}
	if err := cloud.CheckName(c.provider.cloudName, slices.Sorted(maps.Keys(clouds.Own))...); err != nil {
		return nil, fmt.Errorf("--cloud-name: %w", err)
	}
	return clouds, nil
}

// nodeOnly refuses identities that only a node or a pod can sign in as.
func nodeOnly(class *classes.Class, m *request.Mount) error {
	identity, where := "", ""
	switch {
	case m.Identity.UseVMManagedIdentity:
		identity, where = "a managed identity of the node (useVMManagedIdentity)", "whose tokens only the nodes get"
	case m.Identity.UseAzureTokenProxy:
		identity, where = "AKS identity binding (useAzureTokenProxy)", "for which the cluster's token proxy can be reached only from within"
	default:
		return nil
	}
	return fmt.Errorf("class %s uses %s, %s; preview it with your own rights, --as-me, or start a pod and run kubectl akv doctor on it", class.ID(), identity, where)
}

// credentials are the pod's tokens by audience, and the data of the Secret that the user named.
func (c *command) credentials(ctx context.Context, client kubernetes.Interface, m *mount, parsed *request.Mount, clouds *cloud.Resolver) (byAudience, secrets map[string]string, err error) {
	namespace := m.class.Namespace
	defer c.env.Progress("requesting a token for ServiceAccount %s/%s", namespace, c.serviceAccount)()
	if c.secretRef != "" {
		if secrets, err = secret(ctx, client, namespace, c.secretRef); err != nil {
			return nil, nil, err
		}
	}
	usable := []string{entra.Audience}
	if env, err := clouds.Resolve(parsed.Cloud.Name, parsed.Cloud.EnvFile); err == nil {
		own := cmp.Or(c.provider.tokenAudience, env.TokenAudience, entra.Audience)
		usable = slices.Compact([]string{own, entra.Audience})
	}
	byAudience, m.notes, err = tokens(ctx, client, namespace, c.serviceAccount, usable)
	return byAudience, secrets, err
}

// wire makes the server and the mounter, as the plugin does.
func (c *command) wire(m *mount, clouds *cloud.Resolver, client kubernetes.Interface, byAudience map[string]string) error {
	counters := metrics.New(version.Version())
	cfg := plugin.Config{
		Version: version.Version(), CustomUserAgent: "kubectl-akv", Azure: c.azure,
		Mounter: provider.Mounter{
			Clouds: clouds, DefaultTenant: c.provider.tenantID, TokenAudience: c.provider.tokenAudience, StrictObjects: c.provider.strictObjects,
			Render:         render.Options{StoredOrder: !c.provider.pemChain, SeparateFiles: c.provider.separateFiles},
			MaxConcurrency: concurrency, MaxBytes: maxBytes, OnFiles: m.made,
		},
		Reads:    keyvault.Config{Timeout: c.timeout},
		Throttle: throttle.Config{Max: concurrency, Retries: retries},
		Cluster:  plugin.Cluster{Token: func() string { return issued(byAudience) }},
	}
	if client != nil {
		cfg.Mounter.Accounts = accounts{client}
	}
	if c.asMe {
		cfg.Mounter.SignIn = asMe{m}
		m.me = func(ctx context.Context, req *request.Mount) (*me, error) {
			return c.signIn(ctx, m.mounter, clouds, req)
		}
	}
	var err error
	if m.mounter, err = plugin.NewMounter(cfg, counters); err != nil {
		return err
	}
	m.server, err = server.New(server.Config{
		Socket: "none", Version: version.Version(), Mounter: m, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Observe: counters,
		MountTimeout: c.timeout, ShutdownGrace: plugin.ShutdownGrace, MaxResponseBytes: maxBytes, SocketCheck: plugin.SocketCheck,
	})
	return err
}

// issued is a token that the cluster has issued, "" if none was requested.
func issued(byAudience map[string]string) string {
	for _, token := range byAudience {
		if token != notRequested {
			return token
		}
	}
	return ""
}

// signIn signs the user in, for the cloud and tenant of the class.
func (c *command) signIn(ctx context.Context, mounter *provider.Mounter, clouds *cloud.Resolver, req *request.Mount) (*me, error) {
	env, err := clouds.Resolve(req.Cloud.Name, req.Cloud.EnvFile)
	if err != nil {
		return nil, err
	}
	resource := env.Resource
	if env.Custom {
		if resource, err = mounter.Vaults.Resource(ctx, env.VaultHost(cmp.Or(req.Objects[0].Vault, req.Vault)), resource); err != nil {
			return nil, err
		}
	}
	var client policy.Transporter
	if c.azure != nil {
		client = &http.Client{Transport: c.azure}
	}
	return signInAsMe(ctx, env, cmp.Or(req.Identity.TenantID, c.provider.tenantID), cloud.Scope(resource), client)
}

// mountRequest is what the CSI driver would send for a volume with the class.
func mountRequest(class *classes.Class, account string, byAudience, secrets map[string]string) (*v1alpha1.MountRequest, error) {
	attributes := map[string]string{}
	maps.Copy(attributes, class.Parameters)
	maps.Copy(attributes, map[string]string{
		"csi.storage.k8s.io/pod.name": "preview", "csi.storage.k8s.io/pod.namespace": class.Namespace,
		"csi.storage.k8s.io/serviceAccount.name": account, "secretProviderClass": class.Name,
	})
	delete(attributes, attrTokens)
	if len(byAudience) > 0 {
		type token struct {
			Token string `json:"token"`
		}
		all := make(map[string]token, len(byAudience))
		for audience, text := range byAudience {
			all[audience] = token{text}
		}
		text, err := json.Marshal(all)
		if err != nil {
			return nil, err
		}
		attributes[attrTokens] = string(text)
	}
	a, errAttributes := json.Marshal(attributes)
	s, errSecrets := json.Marshal(secrets)
	return &v1alpha1.MountRequest{Attributes: string(a), Secrets: string(s), Permission: fmt.Sprint(fileMode), TargetPath: "preview"}, errors.Join(errAttributes, errSecrets)
}

const attrTokens = "csi.storage.k8s.io/serviceAccount.tokens"

// made implements provider.Mounter.OnFiles. Of files with one path, the last one counts.
func (m *mount) made(files []render.File, of []provider.Origin) {
	for _, f := range files {
		m.origins[f.Path] = of
	}
}

// Mount implements server.Mounter: it signs the user in with --as-me, and records what
// the driver's message does not have.
func (m *mount) Mount(ctx context.Context, req *request.Mount, lastEnd time.Time) (*provider.Volume, error) {
	if m.me != nil {
		user, err := m.me(ctx, req)
		if err != nil {
			m.err = err
			return nil, err
		}
		asUser := *req
		asUser.Identity = user.identity()
		m.user, req = user, &asUser
	}
	m.req = req
	m.volume, m.err = m.mounter.Mount(ctx, req, lastEnd)
	if m.user != nil {
		m.as = m.user.String()
	} else if id := stats.FromContext(ctx).Identity.Load(); id != nil {
		m.as = entra.Identity{Mode: entra.Mode(id.Mode), ClientID: id.ClientID, TenantID: id.TenantID}.String()
	}
	return m.volume, m.err
}

// asMe signs in as the user whom the mount has found out before it reads.
type asMe struct{ m *mount }

// Token implements provider.SignIn.
func (a asMe) Token(ctx context.Context, _ entra.Identity, scope string) (entra.Token, error) {
	return a.m.user.token(ctx, scope)
}

// Forget implements provider.SignIn: a second attempt would get the same token.
func (asMe) Forget(entra.Identity, string, entra.Token) {}
