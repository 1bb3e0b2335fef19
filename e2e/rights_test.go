package e2e_test

import (
	"encoding/json"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Who may assign what: a role on one object. The Secrets Officer is the author of the secret.
var (
	assigned  = regexp.MustCompile(`az role assignment create (?:[^\n]|\\\n)*`)
	roleName  = regexp.MustCompile(`--role "([^"]+)"`)
	oneObject = regexp.MustCompile(`--scope "(?:\$VAULT_ID|\$\{VAULT_ID:\?[a-z ]*\}|\$\(az keyvault show -n [-\w]+ --query id -o tsv\))/(secrets|keys|certificates)/(?:[-a-z]+|\$CERTIFICATE_NAME)"`)
	folded    = regexp.MustCompile(`\n {8,}`) // a line of a recorded terminal
	tooMuch   = regexp.MustCompile(`Key Vault (?:Crypto User|Certificate User|Administrator|Crypto Officer)`)
)

// fewest are the roles to read one object, by the part of its ID.
var fewest = map[string][]string{
	"secrets":      {"Key Vault Secrets User", "akv-csi-provider secret reader"},
	"keys":         {"Key Vault Reader", "akv-csi-provider key reader"},
	"certificates": {"Key Vault Reader", "akv-csi-provider certificate reader"},
}

// What the documents and Terraform assign allows reading one object and nothing else.
func TestFewestRights(t *testing.T) {
	commands := 0
	for where, text := range documents(t) {
		for _, command := range assigned.FindAllString(folded.ReplaceAllString(text, " "), -1) {
			role := roleName.FindStringSubmatch(command)
			if role != nil && role[1] == "Key Vault Secrets Officer" {
				continue
			}
			commands++
			scope := oneObject.FindStringSubmatch(command)
			if role == nil || scope == nil || !strings.Contains(strings.Join(fewest[scope[1]], "\n")+"\n", role[1]+"\n") {
				t.Errorf("%s: allows more than one object: %s", where, command)
			}
		}
		for line := range strings.Lines(text) {
			if tooMuch.MatchString(line) && where != "../deploy/README.md" { // which says why not
				t.Errorf("%s: %s", where, line)
			}
		}
	}
	if commands < 3 {
		t.Errorf("%d role assignments", commands)
	}
	terraform := read(t, "../deploy/terraform/main.tf")
	_, reader, _ := strings.Cut(terraform, `resource "azurerm_role_assignment" "reader" {`)
	reader, _, _ = strings.Cut(reader, "\n}")
	if !strings.Contains(reader, "azurerm_key_vault_secret.my_secret.resource_versionless_id") || tooMuch.MatchString(terraform) {
		t.Errorf("Terraform: %s", reader)
	}
}

// Each custom role has one data action, and the documents link to it and assign one.
func TestRoles(t *testing.T) {
	files, err := filepath.Glob("../deploy/roles/*.json")
	if err != nil || len(files) != 3 {
		t.Fatalf("%q, %v", files, err)
	}
	page := read(t, "../deploy/README.md")
	for _, file := range files {
		var role struct {
			Name, Description                                                  string
			IsCustom                                                           bool
			Actions, NotActions, DataActions, NotDataActions, AssignableScopes []string
		}
		decoder := json.NewDecoder(strings.NewReader(read(t, file)))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&role); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		kind := strings.TrimSuffix(filepath.Base(file), ".json")
		if len(role.Actions) > 0 || len(role.DataActions) != 1 || !strings.HasPrefix(role.DataActions[0], "Microsoft.KeyVault/vaults/"+kind+"/") ||
			strings.Contains(role.DataActions[0], "*") || !role.IsCustom || role.AssignableScopes[0] != "/subscriptions/$SUBSCRIPTION_ID" {
			t.Errorf("%s: %+v", file, role)
		}
		if fewest[kind][1] != role.Name || !strings.Contains(page, "roles/"+kind+".json") {
			t.Errorf("%s: %q is not the name, or not linked", file, role.Name)
		}
	}
}
