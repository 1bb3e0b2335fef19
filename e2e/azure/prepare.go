package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// task is a part of the preparation.
type task struct {
	title string
	do    func(context.Context) error
}

// A role assignment may take 10 minutes to propagate.
const roleAttempts = 60

// preparation is what Azure needs beyond the quick start.
func (t *trial) preparation() []task {
	return []task{
		{"roles", t.roles},
		{"secrets, keys and certificates", t.content},
		{"other vaults", t.otherVaults},
		{"identities", t.identities},
		{"federated credentials", t.credentials},
	}
}

// calls runs az with each list of arguments.
func (t *trial) calls(ctx context.Context, all ...[]string) error {
	for _, args := range all {
		if _, err := t.az(ctx, append(args, "-o", "none")...); err != nil {
			return err
		}
	}
	return nil
}

// words are the arguments of a command without blanks in them, with $ for variables.
func (t *trial) words(command string) []string {
	args := strings.Fields(command)
	for i, arg := range args {
		for name, value := range t.values {
			arg = strings.ReplaceAll(arg, "$"+name+"$", value)
		}
		args[i] = arg
	}
	return args
}

// show sets a variable to what az prints.
func (t *trial) show(ctx context.Context, variable, command string) error {
	out, err := t.az(ctx, append(t.words(command), "-o", "tsv")...)
	if err == nil && out == "" {
		err = fmt.Errorf("az %s printed nothing", command)
	}
	t.values[variable] = out
	return err
}

func (t *trial) assign(role, principal, kind, scope string) []string {
	return []string{"role", "assignment", "create", "--role", role, "--scope", scope,
		"--assignee-object-id", principal, "--assignee-principal-type", kind}
}

// roles let the signed-in user fill the vault, the identity read what it has, and the node's
// identity read one secret.
func (t *trial) roles(ctx context.Context) error {
	me, kind := "ad signed-in-user show --query id", "User"
	if t.user.User.Type == "servicePrincipal" {
		me, kind = "ad sp show --id "+t.user.User.Name+" --query id", "ServicePrincipal"
	}
	if err := errors.Join(
		t.show(ctx, "USER_ID", me),
		t.show(ctx, "KUBELET_CLIENT_ID", "aks show -g $RESOURCE_GROUP$ -n $CLUSTER_NAME$ --query identityProfile.kubeletidentity.clientId"),
		t.show(ctx, "KUBELET_ID", "aks show -g $RESOURCE_GROUP$ -n $CLUSTER_NAME$ --query identityProfile.kubeletidentity.objectId"),
	); err != nil {
		return err
	}
	v := t.values
	return t.calls(ctx,
		t.assign("Key Vault Administrator", v["USER_ID"], kind, v["VAULT_ID"]),
		t.assign("Key Vault Secrets User", v["PRINCIPAL_ID"], "ServicePrincipal", v["VAULT_ID"]),
		t.assign("Key Vault Reader", v["PRINCIPAL_ID"], "ServicePrincipal", v["VAULT_ID"]),
		t.assign("Key Vault Secrets User", v["KUBELET_ID"], "ServicePrincipal", v["VAULT_ID"]+"/secrets/my-secret"),
	)
}

// policy is that of a certificate, as "az keyvault certificate create" reads it.
func policy(issuer, key, contentType string) string {
	return fmt.Sprintf(`{"issuerParameters":{"name":%q},"keyProperties":{"exportable":true,"reuseKey":false,%s},`+
		`"secretProperties":{"contentType":%q},"x509CertificateProperties":{"subject":"CN=web.contoso.example","validityInMonths":12}}`,
		issuer, key, contentType)
}

const (
	rsaKey = `"keyType":"RSA","keySize":2048`
	ecKey  = `"keyType":"EC","curve":"P-256"`
	pfx    = "application/x-pkcs12"
	pemPEM = "application/x-pem-file"
)

// content fills the vault. The first call waits for the role of the signed-in user.
func (t *trial) content(ctx context.Context) error {
	certificate := func(name, policy string) []string {
		return []string{"keyvault", "certificate", "create", "--vault-name", t.vault, "--name", name, "--policy", policy}
	}
	if err := t.eventually(ctx, roleAttempts, func(ctx context.Context) error {
		return t.calls(ctx, certificate("web", policy("Self", rsaKey, pfx)))
	}); err != nil {
		return err
	}
	secret := func(name, value string, more ...string) []string {
		return append([]string{"keyvault", "secret", "set", "--vault-name", t.vault, "--name", name, "--value", value}, more...)
	}
	key := func(name string, more ...string) []string {
		return append([]string{"keyvault", "key", "create", "--vault-name", t.vault, "--name", name}, more...)
	}
	return t.calls(ctx,
		certificate("ec", policy("Self", ecKey, pfx)),
		certificate("pem", policy("Self", rsaKey, pemPEM)),
		certificate("pending", policy("Unknown", rsaKey, pfx)), // somebody would have to sign the request
		secret("my-secret", "Hello!"),                          // a second version
		secret("db", `{"username": "app", "password": "s3cret"}`),
		secret("appsettings", `{"logLevel": "info", "queue": "orders"}`),
		secret("feature-search", "on"), secret("keystore-password", "changeit"), secret("worker-queue", "orders"),
		secret("payments-user", "pay"), secret("payments-password", "s3cret"),
		secret("disabled", "off", "--disabled", "true"),
		secret("expired", "old", "--expires", "2020-01-01T00:00:00Z"),
		secret("early", "new", "--not-before", "2099-01-01T00:00:00Z"),
		key("rsa", "--kty", "RSA", "--size", "2048"),
		key("ec-256", "--kty", "EC", "--curve", "P-256"),
		key("ec-256k", "--kty", "EC", "--curve", "P-256K"),
	)
}

// otherVaults are one with access policies, and two whose network admits nobody.
func (t *trial) otherVaults(ctx context.Context) error {
	create := func(name string, more ...string) []string {
		return append([]string{"keyvault", "create", "--name", name, "--resource-group", t.group, "--location", t.location}, more...)
	}
	secret := func(name, value string) []string {
		return []string{"keyvault", "secret", "set", "--vault-name", t.otherVault(), "--name", name, "--value", value}
	}
	t.values["OTHER_KEYVAULT_NAME"], t.values["CERTIFICATE_NAME"], t.values["HOST_NAME"] = t.otherVault(), "web", "web.contoso.example"
	return t.calls(ctx,
		create(t.otherVault(), "--enable-rbac-authorization", "false"),
		[]string{"keyvault", "set-policy", "--name", t.otherVault(), "--object-id", t.values["USER_ID"], "--secret-permissions", "get", "set", "list"},
		[]string{"keyvault", "set-policy", "--name", t.otherVault(), "--object-id", t.values["PRINCIPAL_ID"], "--secret-permissions", "get"},
		secret("my-secret", "Hello!"), secret("shared-secret", "of all"),
		create(t.closedVault(), "--enable-rbac-authorization", "true", "--default-action", "Deny", "--bypass", "None"),
		create(t.privateVault(), "--enable-rbac-authorization", "true", "--public-network-access", "Disabled"),
	)
}

// identities that may read nothing: one is trusted by federated credentials, one is not.
func (t *trial) identities(ctx context.Context) error {
	for variable, identity := range map[string]string{"STRANGER_ID": "e2e-stranger", "BARE_ID": "e2e-bare"} {
		if err := t.calls(ctx, []string{"identity", "create", "--name", identity, "--resource-group", t.group, "--location", t.location}); err != nil {
			return err
		}
		if err := t.show(ctx, variable, "identity show -g $RESOURCE_GROUP$ -n "+identity+" --query clientId"); err != nil {
			return err
		}
	}
	return nil
}

// credentials of the ServiceAccounts. Azure refuses to write two of one identity at once.
func (t *trial) credentials(ctx context.Context) error {
	create := func(identity, account, issuer, audience string) []string {
		return []string{"identity", "federated-credential", "create", "--name", account, "--identity-name", identity, "--resource-group", t.group,
			"--issuer", issuer, "--subject", "system:serviceaccount:" + t.values["NAMESPACE"] + ":" + account, "--audiences", audience}
	}
	const audience = "api://AzureADTokenExchange"
	issuer, sound, stranger := t.values["ISSUER"], t.values["IDENTITY_NAME"], "e2e-stranger"
	all := [][]string{
		create(sound, accountSound, issuer, audience), create(stranger, accountNoRole, issuer, audience),
		create(stranger, accountWrongIssuer, "https://issuer.contoso.example/", audience),
		create(stranger, accountWrongAudience, issuer, "api://AnotherAudience"),
	}
	for _, e := range examples {
		if e.federated {
			all = append(all, create(sound, e.folder, issuer, audience))
		}
	}
	return t.calls(ctx, all...)
}
