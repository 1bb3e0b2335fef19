package main

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"akv-csi-provider/provider/fault"
)

// The ServiceAccounts of the cases.
const (
	accountSound         = "sound"          // its identity may read the vault
	accountNoRole        = "no-role"        // its identity may not
	accountWrongIssuer   = "wrong-issuer"   // the federated credential has another issuer
	accountWrongAudience = "wrong-audience" // or audience
	accountWrongSubject  = "wrong-subject"  // or subject
	accountBare          = "bare"           // the identity has no federated credential
	accountNone          = "none"           // names no identity
)

// accounts are the variables with the client IDs that the ServiceAccounts name.
var accounts = map[string]string{
	accountSound: "CLIENT_ID", accountBare: "BARE_ID", accountNone: "", accountNoRole: "STRANGER_ID",
	accountWrongIssuer: "STRANGER_ID", accountWrongAudience: "STRANGER_ID", accountWrongSubject: "STRANGER_ID",
}

// nobody is a GUID that no tenant and no application has.
const nobody = "00000000-1111-4222-8333-444444444444"

// refusal is a mistake, and the reason in the event of its pod.
type refusal struct {
	name       string
	want       fault.Reason
	account    string            // accountSound if empty
	parameters map[string]string // besides keyvaultName and tenantID, or in their place
	objects    string            // those of a sound class if empty
}

// refusals are the mistakes that cost nothing to make in a real subscription.
func (s settings) refusals() []refusal {
	return []refusal{
		{name: "unknown-object-type", want: fault.InvalidParameter, objects: "[{objectName: my-secret, objectType: password}]"},
		{name: "no-identity", want: fault.NoIdentity, account: accountNone},
		{name: "no-federated-credential", want: fault.FederatedCredentialMissing, account: accountBare},
		{name: "wrong-subject", want: fault.FederatedCredentialMissing, account: accountWrongSubject},
		{name: "wrong-issuer", want: fault.FederatedCredentialMissing, account: accountWrongIssuer},
		{name: "wrong-audience", want: fault.FederatedCredentialMissing, account: accountWrongAudience},
		{name: "unknown-client", want: fault.ApplicationNotFound, parameters: map[string]string{"clientID": nobody}},
		{name: "unknown-tenant", want: fault.TenantNotFound, parameters: map[string]string{"tenantID": nobody}},
		{name: "unknown-managed-identity", want: fault.ManagedIdentityUnavailable, account: accountNone,
			parameters: map[string]string{"useVMManagedIdentity": "true", "userAssignedIdentityID": nobody}},
		{name: "no-role", want: fault.AccessDenied, account: accountNoRole},
		{name: "no-access-policy", want: fault.AccessDenied, account: accountNoRole, parameters: map[string]string{"keyvaultName": s.otherVault()}},
		{name: "vault-firewall", want: fault.VaultFirewall, parameters: map[string]string{"keyvaultName": s.closedVault()}},
		{name: "vault-without-public-access", want: fault.VaultFirewall, parameters: map[string]string{"keyvaultName": s.privateVault()}},
		{name: "unknown-vault", want: fault.VaultNotFound, parameters: map[string]string{"keyvaultName": s.missingVault()}},
		{name: "unknown-secret", want: fault.ObjectNotFound, objects: "[{objectName: no-such-secret, objectType: secret}]"},
		{name: "unknown-version", want: fault.ObjectNotFound,
			objects: "[{objectName: my-secret, objectType: secret, objectVersion: 00000000000000000000000000000000}]"},
		{name: "secret-as-key", want: fault.ObjectNotFound, objects: "[{objectName: my-secret, objectType: key}]"},
		{name: "disabled-secret", want: fault.ObjectDisabled, objects: "[{objectName: disabled, objectType: secret}]"},
		{name: "key-of-another-type", want: fault.ContentInvalid, objects: "[{objectName: ec-256k, objectType: key}]"},
		{name: "pending-certificate", want: fault.ContentInvalid, objects: "[{objectName: pending, objectType: secret}]"},
		{name: "not-hexadecimal", want: fault.ContentInvalid, objects: "[{objectName: my-secret, objectType: secret, objectEncoding: hex}]"},
	}
}

// mount is a class that works, and what its pod prints of the files. No pod prints a private key.
type mount struct{ name, objects, command, prints string }

const (
	labels  = "grep -h -o -e '-----BEGIN [A-Z ]*' /mnt/secrets/file"
	private = "-----BEGIN PRIVATE KEY\n-----BEGIN CERTIFICATE"
)

var mounts = []mount{
	{"pfx-rsa", "[{objectName: web, objectType: secret, objectAlias: file}]", labels, private},
	{"pfx-ec", "[{objectName: ec, objectType: secret, objectAlias: file}]", labels, private},
	{"pem-certificate", "[{objectName: pem, objectType: secret, objectAlias: file}]", labels, private},
	{"certificate", "[{objectName: web, objectType: cert, objectAlias: file}]", labels, "-----BEGIN CERTIFICATE"},
	{"key-rsa", "[{objectName: rsa, objectType: key, objectAlias: file}]", labels, "-----BEGIN PUBLIC KEY"},
	{"key-ec", "[{objectName: ec-256, objectType: key, objectAlias: file}]", labels, "-----BEGIN PUBLIC KEY"},
	{"expired-secret", "[{objectName: expired, objectType: secret, objectAlias: file}]", "cat /mnt/secrets/file", "old"},
	{"secret-not-valid-yet", "[{objectName: early, objectType: secret, objectAlias: file}]", "cat /mnt/secrets/file", "new"},
	{"access-policy", "", "cat /mnt/secrets/my-secret", "Hello!"},
}

func (t *trial) parametersOf(m mount) map[string]string {
	if m.name == "access-policy" {
		return map[string]string{"keyvaultName": t.otherVault()}
	}
	return nil
}

const refusalAttempts = 60 // of 10 s

// applyCases creates the pods of all refusals and mounts, so that they wait at the same time.
func (t *trial) applyCases(ctx context.Context) error {
	var items []any
	for account, client := range accounts {
		items = append(items, serviceAccount(account, t.values[client]))
	}
	for _, r := range t.refusals() {
		items = append(items, t.class(r.name, r.parameters, r.objects), pod(r.name, r.account, "true"))
	}
	for _, m := range mounts {
		items = append(items, t.class(m.name, t.parametersOf(m), m.objects), pod(m.name, "", m.command))
	}
	list, err := json.Marshal(object{"apiVersion": "v1", "kind": "List", "items": items})
	if err != nil {
		return err
	}
	_, err = t.kubectl(ctx, string(list), "apply", "-f", "-")
	return err
}

// refused waits until each pod's event has the reason that its row wants, and adds the rows.
func (t *trial) refused(ctx context.Context) {
	t.say("errors: waiting for the events of %d pods ...", len(t.refusals()))
	begun := time.Now()
	seen := make(map[string]time.Duration)
	var messages map[string]string
	err := t.eventually(ctx, refusalAttempts, func(ctx context.Context) (err error) {
		if messages, err = t.failedMounts(ctx); err != nil {
			return err
		}
		for _, r := range t.refusals() {
			if reasonOf(messages[r.name]) == string(r.want) && seen[r.name] == 0 {
				seen[r.name] = time.Since(begun)
			}
		}
		if len(seen) < len(t.refusals()) {
			return fmt.Errorf("%d of %d events", len(seen), len(t.refusals()))
		}
		return nil
	})
	for _, r := range t.refusals() {
		row := result{name: "error " + r.name, want: string(r.want), got: string(r.want), took: seen[r.name]}
		if row.took == 0 {
			row.took, row.got = time.Since(begun), reasonOf(messages[r.name])
			if messages == nil {
				row.got = err.Error()
			}
		}
		t.add(row)
	}
}

func (t *trial) mounted(ctx context.Context) {
	for _, m := range mounts {
		if ctx.Err() != nil {
			return
		}
		begun := time.Now()
		got := t.printed(ctx, m.name, m.prints, []string{"logs", m.name}, true)
		t.add(result{name: "file " + m.name, want: quoted(m.prints), got: got, took: time.Since(begun)})
	}
}

// failedMounts returns the latest FailedMount message of each pod.
func (t *trial) failedMounts(ctx context.Context) (map[string]string, error) {
	out, err := t.kubectl(ctx, "", "get", "events", "--field-selector", "reason=FailedMount", "--sort-by=.lastTimestamp", "-o", "json")
	if err != nil {
		return nil, err
	}
	var events struct {
		Items []struct {
			InvolvedObject struct{ Name string }
			Message        string
		}
	}
	if err := json.Unmarshal([]byte(out), &events); err != nil {
		return nil, fmt.Errorf("kubectl get events: %w", err)
	}
	messages := make(map[string]string)
	for _, e := range events.Items {
		messages[e.InvolvedObject.Name] = e.Message
	}
	return messages, nil
}

var bracketed = regexp.MustCompile(`\[([A-Z][A-Za-z]+)\]`)

// reasonOf is the last reason of the reference in a message.
func reasonOf(message string) string {
	all := bracketed.FindAllStringSubmatch(message, -1)
	for _, m := range slices.Backward(all) {
		for _, known := range fault.Reasons {
			if string(known.Reason) == m[1] {
				return m[1]
			}
		}
	}
	if message = strings.TrimSpace(message); message != "" {
		return fmt.Sprintf("no reason: %.100q", message)
	}
	return "no event"
}
