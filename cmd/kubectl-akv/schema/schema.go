// Package schema has JSON schemas for editors, of what SecretProviderClasses contain.
package schema

import (
	_ "embed"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"akv-csi-provider/cmd/kubectl-akv/cli"
)

// The schemas, of draft 7, which editors know. They accept what the provider accepts, also with a
// warning; the provider refuses more, which a schema cannot describe.
var (
	//go:embed parameters.json
	parameters []byte
	//go:embed objects.json
	objects []byte
)

const long = `Print a JSON schema (draft 7) for editors: of a whole SecretProviderClass, of its parameters, or of
what the parameter objects contains, which is YAML in a string. Editors use it to report errors of
form and to complete names; 'kubectl akv validate' finds everything.`

const examples = `  # Write the schema of a class
  kubectl akv schema > secretproviderclass.schema.json

  # Write the schema of objects, for a list in a separate file
  kubectl akv schema objects > objects.schema.json`

// New returns the command.
func New(env *cli.Env) *cobra.Command {
	names := []string{"class", "parameters", "objects"}
	cmd := &cobra.Command{
		Use:       "schema [class|parameters|objects]",
		Short:     "Print a JSON schema for editors",
		Long:      long,
		Example:   examples,
		Args:      cobra.MatchAll(cobra.MaximumNArgs(1), cobra.OnlyValidArgs),
		ValidArgs: names,
	}
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		name := names[0]
		if len(args) > 0 {
			name = args[0]
		}
		text, err := Text(name)
		if err != nil {
			return err
		}
		_, err = env.Out.Write(text)
		return err
	}
	return cmd
}

// Text returns the schema of class, parameters or objects.
func Text(name string) ([]byte, error) {
	switch name {
	case "parameters":
		return parameters, nil
	case "objects":
		return objects, nil
	case "class":
		return class()
	}
	return nil, fmt.Errorf("no schema is named %q", name)
}

type mapping = map[string]any

// class is the schema of a manifest of this provider; those of others are valid.
func class() ([]byte, error) {
	var inner mapping
	if err := json.Unmarshal(parameters, &inner); err != nil {
		return nil, err
	}
	draft := inner["$schema"]
	delete(inner, "$schema")
	text := mapping{"type": "string"}
	schema := mapping{
		"$schema": draft, "title": "SecretProviderClass for akv-csi-provider", "type": "object",
		"required": []string{"apiVersion", "kind", "metadata", "spec"},
		"properties": mapping{
			"apiVersion": mapping{"enum": []string{"secrets-store.csi.x-k8s.io/v1", "secrets-store.csi.x-k8s.io/v1alpha1"}},
			"kind":       mapping{"const": "SecretProviderClass"},
			"metadata":   mapping{"type": "object", "required": []string{"name"}, "properties": mapping{"name": text, "namespace": text}},
			"spec": mapping{
				"type": "object", "required": []string{"provider"}, "additionalProperties": false,
				"properties": mapping{
					"provider":      mapping{"type": "string", "description": "azure"},
					"parameters":    mapping{"type": "object"},
					"secretObjects": mapping{"type": "array", "items": mapping{"type": "object"}},
				},
				"if":   mapping{"properties": mapping{"provider": mapping{"const": "azure"}}},
				"then": mapping{"required": []string{"parameters"}, "properties": mapping{"parameters": inner}},
			},
		},
	}
	encoded, err := json.MarshalIndent(schema, "", "  ")
	return append(encoded, '\n'), err
}
