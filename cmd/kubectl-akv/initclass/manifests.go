package initclass

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"

	"akv-csi-provider/provider/request"
)

// questions are in the order in which they are asked.
func (a *answers) questions() []question {
	objects := strings.Join(a.objects, ",")
	parameter := func(name string) func(string) string {
		return func(value string) string { return a.wrong(name, value) }
	}
	return []question{
		{"vault", "Name of the key vault", &a.vault, parameter("keyvaultName")},
		{"object", "Objects to mount, separated by commas (a secret or certificate by its name; key/NAME for a public key)", &objects, a.setObjects},
		{"serviceaccount", "ServiceAccount of the pods", &a.serviceAccount, dnsName},
		{"client-id", "Client ID of the identity", &a.clientID, parameter("clientID")},
		{"tenant-id", "Microsoft Entra tenant", &a.tenantID, parameter("tenantID")},
		{"namespace", "Namespace of the pods", &a.namespace, func(value string) string { return joined(validation.IsDNS1123Label(value)) }},
	}
}

func dnsName(value string) string { return joined(validation.IsDNS1123Subdomain(value)) }

func joined(messages []string) string { return strings.Join(messages, "; ") }

// wrong is what the provider says about a parameter.
func (a *answers) wrong(parameter, value string) string {
	_, problems := new(request.Parser).ParseClass(map[string]string{parameter: value}, 0)
	for _, p := range problems {
		if p.Field == parameter {
			return p.Cause + "; " + p.Fix
		}
	}
	return ""
}

// setObjects takes the objects, unless one of them is wrong.
func (a *answers) setObjects(text string) string {
	var names []string
	for name := range strings.SplitSeq(text, ",") {
		if name = strings.TrimSpace(name); name != "" {
			names = append(names, name)
		}
	}
	a.objects = names
	_, problems := new(request.Parser).ParseClass(map[string]string{"keyvaultName": "vault", "objects": a.objectsText()}, 0)
	if len(problems) > 0 {
		return problems[0].Cause + "; " + problems[0].Fix
	}
	return ""
}

// objectsText is the parameter objects.
func (a *answers) objectsText() string {
	var b strings.Builder
	for _, o := range a.objects {
		kind, name, typed := strings.Cut(o, "/")
		if !typed || strings.ContainsAny(kind, ":.") { // a URL, which is not valid, and whose parts the provider names
			kind, name = "secret", o
		}
		fmt.Fprintf(&b, "- objectName: %s\n  objectType: %s\n", text(name), text(kind))
	}
	return b.String()
}

// text is a scalar of YAML that every version of it reads as text.
func text(value string) string {
	quoted, err := yaml.Marshal(value)
	if err != nil {
		panic(err) // a string always can be marshalled
	}
	return strings.TrimSpace(string(quoted))
}

// manifests have their values in braces. They are no text/template: because of that package the
// linker would keep every method of the program, a third of its size.
const manifests = `# Omit this if the ServiceAccount exists and has another client ID, which its application would lose.
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {account}
  namespace: {namespace}
  annotations:
    azure.workload.identity/client-id: {client}
---
apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata:
  name: {class}
  namespace: {namespace}
spec:
  provider: azure
  parameters:
    keyvaultName: {vault}
    tenantID: {tenant}
    objects: |
{objects}
---
# Take over serviceAccountName, volumeMounts and volumes into your workload.
apiVersion: v1
kind: Pod
metadata:
  name: {class}
  namespace: {namespace}
spec:
  serviceAccountName: {account}
  containers:
    - name: app
      image: busybox:1.37
      command: ["sleep", "infinity"]
      securityContext:
        runAsUser: 65534
        runAsNonRoot: true
        allowPrivilegeEscalation: false
        capabilities: {drop: [ALL]}
        seccompProfile: {type: RuntimeDefault}
      volumeMounts:
        - name: secrets
          mountPath: /mnt/secrets # each object is a file here
          readOnly: true
  volumes:
    - name: secrets
      csi:
        driver: secrets-store.csi.k8s.io
        readOnly: true
        volumeAttributes:
          secretProviderClass: {class}
`

func (a *answers) manifests() string {
	const indent = "      "
	objects := indent + strings.ReplaceAll(strings.TrimSuffix(a.objectsText(), "\n"), "\n", "\n"+indent)
	return strings.NewReplacer("{account}", text(a.serviceAccount), "{namespace}", text(a.namespace), "{client}", text(a.clientID),
		"{class}", text(a.name), "{vault}", text(a.vault), "{tenant}", text(a.tenantID), "{objects}", objects).Replace(manifests)
}
