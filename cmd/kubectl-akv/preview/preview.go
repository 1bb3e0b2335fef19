// Package preview shows what a pod would get from a SecretProviderClass: it signs in as the pod
// would, or as the user, and makes the volume with the provider's own packages.
package preview

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/kubernetes"

	"akv-csi-provider/cmd/kubectl-akv/classes"
	"akv-csi-provider/cmd/kubectl-akv/cli"
)

// command is one call of the command.
type command struct {
	env    *cli.Env
	output *cli.Output
	azure  http.RoundTripper // nil for that of the provider

	files          []string
	serviceAccount string
	asMe           bool
	secretRef      string
	show           string
	force          bool
	timeout        time.Duration
	provider       providerFlags
}

// providerFlags are the flags of the provider on which the content of a volume depends, by
// the same names.
type providerFlags struct {
	tenantID, cloudName, tokenAudience string
	cloudFiles                         map[string]string
	strictObjects                      bool
	pemChain, separateFiles            bool
}

const long = `Show the files that a pod would get from a SecretProviderClass, without their content.

With --as-serviceaccount, it signs in as a pod with that ServiceAccount: it requests a token for
the account, which needs the right to create serviceaccounts/token, and exchanges it at Microsoft
Entra ID. With --as-me, it reads with your own rights: those of the environment, of the Azure CLI
or of what else the Azure SDK finds (DefaultAzureCredential).

Requests to Azure leave from this machine: a firewall or a private endpoint may let the nodes of
the cluster through, and not you. With "expand", names of files are keys of the value.

Flags named after flags of the provider must be set as for the provider of your cluster.`

const example = `  # What would a pod with ServiceAccount web get from class web-secrets of namespace shop?
  kubectl akv preview web-secrets -n shop --as-serviceaccount web
  # The same of a class that is not applied yet
  kubectl akv preview -f secretproviderclass.yaml --as-serviceaccount web
  # With your own rights, without a cluster
  kubectl akv preview -f secretproviderclass.yaml --as-me
  # Print one file
  kubectl akv preview web-secrets --as-me --show db/password`

// New returns the command.
func New(env *cli.Env) *cobra.Command { return newCommand(env, nil) }

func newCommand(env *cli.Env, azure http.RoundTripper) *cobra.Command {
	c := &command{env: env, azure: azure}
	cmd := &cobra.Command{
		Use:               "preview [CLASS]",
		Short:             "Show the files that a pod would get from a SecretProviderClass",
		Long:              long,
		Example:           example,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: c.completeClass,
	}
	f := cmd.Flags()
	f.StringSliceVarP(&c.files, "filename", "f", nil, "`file` or folder with the class, - for standard input, instead of the cluster")
	f.StringVar(&c.serviceAccount, "as-serviceaccount", "", "sign in as a pod with the ServiceAccount of this `name`")
	f.BoolVar(&c.asMe, "as-me", false, "sign in as yourself, with the default chain of the Azure SDK")
	f.StringVar(&c.secretRef, "node-publish-secret", "", "read the Secret of this `name`, as for a volume with nodePublishSecretRef")
	f.StringVar(&c.show, "show", "", "print the content of the file with this `path`, and nothing else")
	f.BoolVar(&c.force, "force", false, "with --show, print also where the output is not a terminal, or the content is binary")
	f.DurationVar(&c.timeout, "timeout", 50*time.Second, "how long the mount may take")
	f.StringVar(&c.provider.tenantID, "tenant-id", "", "`tenant` of classes that name none, as of the provider")
	f.StringVar(&c.provider.cloudName, "cloud-name", "AzurePublicCloud", "cloud of classes that name none, as of the provider")
	f.StringToStringVar(&c.provider.cloudFiles, "cloud-file", nil, "`NAME=PATH` of a cloud and its environment file on this machine; also AzureStackCloud=PATH")
	f.StringVar(&c.provider.tokenAudience, "token-audience", "", "`audience` of the pods' tokens, as of the provider")
	f.BoolVar(&c.provider.strictObjects, "strict-objects", false, "as of the provider")
	f.BoolVar(&c.provider.pemChain, "construct-pem-chain", true, "as of the provider")
	f.BoolVar(&c.provider.separateFiles, "write-cert-and-key-in-separate-files", false, "as of the provider")
	c.output = cli.AddOutputFlag(cmd, "table", "json", "yaml")
	env.AddClusterFlags(cmd)
	if err := errors.Join(cmd.RegisterFlagCompletionFunc("as-serviceaccount", c.completeAccount),
		cmd.RegisterFlagCompletionFunc("cloud-name", cobra.FixedCompletions(cloudNames(), cobra.ShellCompDirectiveNoFileComp))); err != nil {
		panic(err) // the flags are there
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		name := ""
		if len(args) > 0 {
			name = args[0]
		}
		if err := c.check(name); err != nil {
			return err
		}
		return c.run(cmd.Context(), name)
	}
	return cmd
}

// check refuses command lines that do not say what to do.
func (c *command) check(class string) error {
	switch {
	case class == "" && len(c.files) == 0:
		return errors.New("name a SecretProviderClass of the cluster, or a file with -f")
	case c.asMe && c.serviceAccount != "":
		return errors.New("--as-me and --as-serviceaccount exclude each other")
	case !c.asMe && c.serviceAccount == "":
		return errors.New("choose an identity: --as-serviceaccount NAME, the ServiceAccount of the pod, or --as-me")
	case c.asMe && c.secretRef != "":
		return errors.New("--node-publish-secret is only valid with --as-serviceaccount; --as-me uses your own rights")
	case c.show != "" && *c.output != "table":
		return errors.New("--show prints the content of one file; leave out -o")
	case c.show != "" && !c.env.Terminal && !c.force:
		return errors.New("--show prints a secret, and the output is not a terminal; add --force if it may go there")
	case c.timeout <= 0:
		return errors.New("--timeout must be more than 0")
	}
	return nil
}

func (c *command) run(ctx context.Context, name string) error {
	class, err := c.class(ctx, name)
	if err != nil {
		return err
	}
	m, err := c.newMount(ctx, class)
	if err != nil {
		return err
	}
	done := c.env.Progress("reading %s", class.ID())
	result := m.run(ctx)
	done()
	if c.show != "" && result.Error == "" {
		return c.showFile(m, result)
	}
	return c.print(result)
}

// class finds the class, with the namespace that its pods are in.
func (c *command) class(ctx context.Context, name string) (*classes.Class, error) {
	namespace, err := c.env.Namespace()
	if err != nil {
		return nil, err
	}
	if len(c.files) == 0 {
		client, err := c.env.Client()
		if err != nil {
			return nil, err
		}
		defer c.env.Progress("reading the class")()
		return classes.Get(ctx, client, namespace, name)
	}
	found, err := c.fromFiles(name)
	if err == nil && (found.Namespace == "" || c.env.Kube.Namespace != nil && *c.env.Kube.Namespace != "") {
		found.Namespace = namespace
	}
	return found, err
}

// fromFiles finds the class of that name, or the only one.
func (c *command) fromFiles(name string) (*classes.Class, error) {
	all, err := classes.Read(c.files, c.env.In)
	if err != nil {
		return nil, err
	}
	var found []*classes.Class
	var ids []string
	for _, class := range all.Classes {
		if name == "" || class.Name == name {
			found, ids = append(found, class), append(ids, class.ID())
		}
	}
	problems := all.Problems
	switch len(found) {
	case 1:
		problems = found[0].Problems
	case 0:
		if len(problems) == 0 {
			return nil, fmt.Errorf("there is no SecretProviderClass %s of provider azure in %s", name, strings.Join(c.files, ", "))
		}
	default:
		return nil, fmt.Errorf("there are several SecretProviderClasses: name one of %s", strings.Join(ids, ", "))
	}
	if len(problems) > 0 { // which keep it from being applied
		p := problems[0]
		return nil, fmt.Errorf("%s:%d:%d: %s; run kubectl akv validate -f on it", p.File, p.Line, p.Column, strings.TrimPrefix(p.Field+": "+p.Cause, ": "))
	}
	return found[0], nil
}

// completionTime bounds what a completion may take.
const completionTime = 3 * time.Second

func (c *command) complete(list func(ctx context.Context, client kubernetes.Interface, namespace string) []string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(context.Background(), completionTime)
	defer cancel()
	client, err := c.env.Client()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	namespace, err := c.env.Namespace()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return list(ctx, client, namespace), cobra.ShellCompDirectiveNoFileComp
}

func (c *command) completeClass(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return c.complete(func(ctx context.Context, client kubernetes.Interface, namespace string) (names []string) {
		all, _ := classes.List(ctx, client, namespace) // none to complete then
		for _, class := range all {
			names = append(names, class.Name)
		}
		return names
	})
}

func (c *command) completeAccount(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return c.complete(listAccounts)
}
