// Package initclass writes a first SecretProviderClass with what belongs to it.
package initclass

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"akv-csi-provider/cmd/kubectl-akv/cli"
)

const long = `Write the manifests that bring secrets of a vault into a pod: a ServiceAccount that names the
identity, a SecretProviderClass, and a Pod that mounts it, of which the volume and the volumeMounts go
into your workload. On a terminal, the command asks for what the flags leave out.

The identity must trust the ServiceAccount, and must be allowed to read the objects: 'kubectl akv
explain FederatedCredentialMissing' and 'kubectl akv explain AccessDenied' show the commands.`

const examples = `  # Answer questions
  kubectl akv init

  # Mount a secret and a certificate with its private key
  kubectl akv init --vault kv-contoso --object db-password --object web-tls --serviceaccount web -n shop \
    --client-id aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee --tenant-id 11111111-2222-3333-4444-555555555555

  # Mount a public key, and check the class
  kubectl akv init --vault kv-contoso --object key/signing --serviceaccount web \
    --client-id aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee --tenant-id 11111111-2222-3333-4444-555555555555 | kubectl akv validate -f -`

// answers are what the manifests are made of.
type answers struct {
	vault, serviceAccount, clientID, tenantID, namespace, name string
	objects                                                    []string
}

// New returns the command.
func New(env *cli.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:               "init",
		Short:             "Write a SecretProviderClass with its ServiceAccount and volume",
		Long:              long,
		Example:           examples,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	var a answers
	flags := cmd.Flags()
	flags.StringVar(&a.vault, "vault", "", "name of the key vault")
	flags.StringSliceVar(&a.objects, "object", nil, "object to mount: NAME of a secret or certificate, or TYPE/NAME with secret, key or cert; repeatable")
	flags.StringVar(&a.serviceAccount, "serviceaccount", "", "ServiceAccount of the pods")
	flags.StringVar(&a.clientID, "client-id", "", "client ID of the identity")
	flags.StringVar(&a.tenantID, "tenant-id", "", "Microsoft Entra tenant of the identity")
	flags.StringVarP(&a.namespace, "namespace", "n", "default", "namespace of the pods")
	flags.StringVar(&a.name, "name", "", "name of the SecretProviderClass; that of the ServiceAccount without it")
	cmd.RunE = func(*cobra.Command, []string) error {
		if err := a.complete(env, flags.Changed("namespace")); err != nil {
			return err
		}
		_, err := io.WriteString(env.Out, a.manifests())
		return err
	}
	return cmd
}

// complete checks the flags, and asks for what is missing.
func (a *answers) complete(env *cli.Env, namespaceSet bool) error {
	lines := bufio.NewReader(io.LimitReader(env.In, 64<<10))
	var missing []string
	for _, q := range a.questions() {
		if *q.value != "" && (q.flag != "namespace" || namespaceSet || !env.Interactive) {
			if wrong := q.check(*q.value); wrong != "" {
				return fmt.Errorf("--%s: %s", q.flag, wrong)
			}
			continue
		}
		if !env.Interactive {
			missing = append(missing, "--"+q.flag)
			continue
		}
		if err := q.ask(env, lines); err != nil {
			return err
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("set %s\nSee 'kubectl akv init --help'", strings.Join(missing, ", "))
	}
	if a.name == "" {
		a.name = a.serviceAccount
	}
	if wrong := dnsName(a.name); wrong != "" {
		return fmt.Errorf("--name: %s", wrong)
	}
	return nil
}

// question is a value of the manifests, and how to ask for it.
type question struct {
	flag, text string
	value      *string
	check      func(string) string // what is wrong with a value; "" for nothing
}

// ask asks until the answer is valid. The value before is the default.
func (q question) ask(env *cli.Env, lines *bufio.Reader) error {
	for {
		prompt := q.text
		if *q.value != "" {
			prompt += " [" + *q.value + "]"
		}
		fmt.Fprint(env.ErrOut, env.Style.Bold(prompt+":"), " ")
		line, err := lines.ReadString('\n')
		answer := strings.TrimSpace(line)
		if answer == "" {
			answer = *q.value
		}
		wrong := "an answer is needed"
		if answer != "" {
			wrong = q.check(answer)
		}
		if wrong == "" {
			*q.value = answer
			return nil
		}
		fmt.Fprintln(env.ErrOut, cli.Printable(wrong))
		if err != nil {
			fmt.Fprintln(env.ErrOut)
			return errors.New("the input ended before the last question")
		}
	}
}
