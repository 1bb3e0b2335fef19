package request_test

import (
	"strings"
	"testing"

	"akv-csi-provider/provider/request"
)

func TestParametersAccepted(t *testing.T) {
	base := newAttributes(t)
	type change = map[string]string
	for _, c := range []struct {
		name  string
		set   change
		check func(*request.Mount) (got, want any)
	}{
		{"vault in lower case", change{"keyvaultName": " Contoso-KV\n"}, func(m *request.Mount) (any, any) { return m.Vault, "contoso-kv" }},
		{"shortest vault", change{"keyvaultName": "kv1"}, func(m *request.Mount) (any, any) { return m.Vault, "kv1" }},
		{"longest vault", change{"keyvaultName": "a23456789012345678901234"}, func(m *request.Mount) (any, any) { return len(m.Vault), 24 }},
		{"old spelling of the tenant", change{"tenantID": " ", "tenantId": "old"}, func(m *request.Mount) (any, any) { return m.Identity.TenantID, "old" }},
		{"new spelling wins", change{"tenantID": "new", "tenantId": "not a tenant!"}, func(m *request.Mount) (any, any) { return m.Identity.TenantID, "new" }},
		{"Azure Stack Hub's tenant", change{"tenantID": "adfs"}, func(m *request.Mount) (any, any) { return m.Identity.TenantID, "adfs" }},
		{"no tenant", change{"tenantID": ""}, func(m *request.Mount) (any, any) { return m.Identity.TenantID, "" }},
		{"no client", change{"clientID": ""}, func(m *request.Mount) (any, any) { return m.Identity.ClientID, "" }},
		{"cloud as written", change{"cloudName": " AZUREPUBLICCLOUD "}, func(m *request.Mount) (any, any) { return m.Cloud.Name, "AZUREPUBLICCLOUD" }},
		{"cloud file as written", change{"cloudEnvFileName": "/cloudEnv/my.json"}, func(m *request.Mount) (any, any) { return m.Cloud.EnvFile, "/cloudEnv/my.json" }},
		{"unknown parameters", change{"resourceGroup": "rg", "": "", "keyvaultname": "!"}, func(m *request.Mount) (any, any) { return m.Vault, "contoso" }},
		{"boolean 1", change{"useVMManagedIdentity": "1"}, func(m *request.Mount) (any, any) { return m.Identity.UseVMManagedIdentity, true }},
		{"boolean t", change{"useAzureTokenProxy": " t "}, func(m *request.Mount) (any, any) { return m.Identity.UseAzureTokenProxy, true }},
		{"boolean TRUE", change{"useVMManagedIdentity": "TRUE"}, func(m *request.Mount) (any, any) { return m.Identity.UseVMManagedIdentity, true }},
		{"boolean False", change{"usePodIdentity": "False", "useVMManagedIdentity": "F", "useAzureTokenProxy": "0"}, func(m *request.Mount) (any, any) {
			return m.Identity.UseVMManagedIdentity || m.Identity.UseAzureTokenProxy, false
		}},
		// What a mode does not use, the replaced provider does not check.
		{"placeholders beside a managed identity", change{"useVMManagedIdentity": "true", "clientID": "<client>", "tenantID": "<tenant>"},
			func(m *request.Mount) (any, any) { return m.Identity.UseVMManagedIdentity, true }},
		{"resource ID without managed identity", change{"userAssignedIdentityID": "/subscriptions/1/x"},
			func(m *request.Mount) (any, any) { return m.Identity.UserAssignedIdentityID, "" }},
		{"an empty text as tokens", change{attrTokens: `""`}, func(m *request.Mount) (any, any) { return m.Identity.Tokens == nil, true }},
		{"tokens that are none", change{attrTokens: `{"a":{"token":""}}`}, func(m *request.Mount) (any, any) { return m.Identity.Tokens == nil, true }},
		{"token without expiry", change{attrTokens: `{"a":{"token":"x","expirationTimestamp":"soon"}}`},
			func(m *request.Mount) (any, any) { return string(m.Identity.Tokens["a"]), "x" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := base.with(c.set).parse(t)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := c.check(m); got != want {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

// Kubelet may put the tokens into the secrets; the attributes take precedence for each
// audience, if they have one.
func TestTokensInSecrets(t *testing.T) {
	base := newAttributes(t)
	inSecrets := toJSON(t, map[string]string{attrTokens: `{"aud":{"token":"from secrets"}}`, "other": "x"})
	for _, c := range []struct{ name, attribute, want string }{
		{"else the secrets", "", "from secrets"},
		{"the attributes first", `{"aud":{"token":"from attributes"}}`, "from attributes"},
		{"no token in the attributes", "{}", "from secrets"},
		{"null in the attributes", " null\n", "from secrets"},
		{"an empty text in the attributes", `""`, "from secrets"},
		{"a list in the attributes", "[]", "from secrets"},
		{"another audience in the attributes", `{"other":{"token":"x"}}`, "from secrets"},
		{"an empty token in the attributes", `{"aud":{"token":""}}`, "from secrets"},
		{"null as token in the attributes", `{"aud":null}`, "from secrets"},
		{"something else in the attributes", "x", "from secrets"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := parse(t, toJSON(t, base.with(map[string]string{attrTokens: c.attribute})), inSecrets, "420")
			if err != nil {
				t.Fatal(err)
			}
			if got := string(m.Identity.Tokens["aud"]); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestParametersRefused(t *testing.T) {
	base := newAttributes(t)
	type change = map[string]string
	const vault, boolean, guid, managed = "3-24 letters, digits, hyphens", `use "true" or "false"`, "GUID", "use a client ID or /subscriptions/…/userAssignedIdentities/NAME"
	for _, c := range []struct {
		name  string
		set   change
		field string
		says  []string
	}{
		{"no vault", change{"keyvaultName": ""}, "keyvaultName", []string{"empty", vault}},
		{"blank vault", change{"keyvaultName": " \n"}, "keyvaultName", []string{"empty", vault}},
		{"short vault", change{"keyvaultName": "kv"}, "keyvaultName", []string{`"kv"`, vault}},
		{"long vault", change{"keyvaultName": "a234567890123456789012345"}, "keyvaultName", []string{`"a234567890123456789012345"`, vault}},
		{"vault's URL", change{"keyvaultName": "https://kv.vault.azure.net"}, "keyvaultName", []string{`"https://kv.vault.azure.net"`, vault, "URL"}},
		{"vault's URL with its name", change{"keyvaultName": "https://kv-contoso.vault.azure.net/"}, "keyvaultName", []string{`; use "kv-contoso"`}},
		{"vault's host with its name", change{"failoverKeyvaultName": "kv-contoso.vault.usgovcloudapi.net:443/secrets/a"}, "failoverKeyvaultName", []string{`; use "kv-contoso"`}},
		{"another service's host", change{"keyvaultName": "kv-contoso.managedhsm.azure.net"}, "keyvaultName", []string{vault}},
		{"vault's host", change{"keyvaultName": "kv.vault.azure.net"}, "keyvaultName", []string{vault}},
		{"vault with a line end", change{"keyvaultName": "kv1\nkv2"}, "keyvaultName", []string{`"kv1\nkv2"`, vault}},
		{"tenant", change{"tenantID": "a/b"}, "tenantID", []string{`"a/b"`, "GUID or domain name"}},
		{"tenant in the old spelling", change{"tenantID": "", "tenantId": "a b"}, "tenantId", []string{`"a b"`, "GUID or domain name"}},
		{"client", change{"clientID": "<client>"}, "clientID", []string{`"<client>"`, guid}},
		{"long resource ID", change{"useVMManagedIdentity": "true", "userAssignedIdentityID": "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/" +
			strings.Repeat("g", 700) + "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id"}, "userAssignedIdentityID", []string{"is not valid", managed}},
		{"user-assigned identity", change{"useVMManagedIdentity": "true", "userAssignedIdentityID": "/subscriptions/1"}, "userAssignedIdentityID", []string{`"/subscriptions/1"`, managed}},
		{"boolean useVMManagedIdentity", change{"useVMManagedIdentity": "yes"}, "useVMManagedIdentity", []string{`"yes"`, boolean}},
		{"boolean usePodIdentity", change{"usePodIdentity": "on"}, "usePodIdentity", []string{`"on"`, boolean}},
		{"boolean useAzureTokenProxy", change{"useAzureTokenProxy": "2"}, "useAzureTokenProxy", []string{`"2"`, boolean}},
		{"pod identity", change{"usePodIdentity": "true"}, "usePodIdentity", []string{"retired", "workload identity"}},
		{"two modes", change{"useVMManagedIdentity": "true", "useAzureTokenProxy": "true"}, "useVMManagedIdentity", []string{"useAzureTokenProxy", "one of the two"}},
		{"no pod name", change{attrPodName: ""}, attrPodName, []string{"empty", "podInfoOnMount"}},
		{"no pod namespace", change{attrPodNamespace: " "}, attrPodNamespace, []string{"empty", "podInfoOnMount"}},
		{"tokens", change{attrTokens: canary}, attrTokens, []string{"kubelet", "tokenRequests"}},
		{"tokens of another shape", change{attrTokens: `{"aud":"` + canary + `"}`}, attrTokens, []string{"kubelet"}},
		{"no objects", change{"objects": ""}, "objects", []string{"empty", "objectName"}},
		{"cloud", change{"cloudName": "{{ .Values.cloud }}"}, "cloudName", []string{"Helm template"}},
		{"blank objects", change{"objects": " \n\t"}, "objects", []string{"empty", "objectName"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := base.with(c.set).parse(t)
			problems := refused(t, m, err)
			if len(problems) != 1 {
				t.Errorf("%d problems: %v", len(problems), err)
			}
			names(t, problems, err, c.field, c.says...)
		})
	}
}

// What only a broken driver sends is refused in words that show nothing of it.
func TestTextsRefused(t *testing.T) {
	good := toJSON(t, newAttributes(t))
	for _, c := range []struct {
		name, attributes, secrets, permission string
		field                                 string
	}{
		{"no attributes", "", "null", "420", "attributes"},
		{"attributes cut off", good[:len(good)-1], "null", "420", "attributes"},
		{"attributes of other types", `{"keyvaultName":["` + canary + `"]}`, "null", "420", "attributes"},
		{"attributes are a text", `"` + canary + `"`, "null", "420", "attributes"},
		{"secrets", good, `{"clientsecret":{"x":"` + canary + `"}}`, "420", "secrets"},
		{"secrets cut off", good, `{"clientsecret":"` + canary, "420", "secrets"},
		{"no permission", good, "null", "", "permission"},
		{"permission in quotes", good, "null", `"420"`, "permission"},
		{"negative permission", good, "null", "-1", "permission"},
		{"permission above 0777", good, "null", "512", "permission"},
		{"broken permission", good, "null", "420.5", "permission"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := parse(t, c.attributes, c.secrets, c.permission)
			names(t, refused(t, m, err), err, c.field, "CSI driver")
		})
	}
	for name, c := range map[string][2]string{
		"no secrets": {"", "420"}, "empty secrets": {"{}", "420"}, "no bits": {"null", "0"}, "all bits": {"null", "511"},
	} {
		if _, err := parse(t, good, c[0], c[1]); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
