package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"
)

// Output is the value of a command's --output.
type Output string

// AddOutputFlag adds --output, of which the first format is the default. Other formats than
// these are refused with the command line.
func AddOutputFlag(cmd *cobra.Command, formats ...string) *Output {
	flag := &outputFlag{format: Output(formats[0]), formats: formats}
	cmd.Flags().VarP(flag, "output", "o", "output format: "+flag.list())
	complete := cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp)
	if err := cmd.RegisterFlagCompletionFunc("output", complete); err != nil {
		panic(err) // the flag is there
	}
	return &flag.format
}

type outputFlag struct {
	format  Output
	formats []string
}

func (f *outputFlag) String() string { return string(f.format) }
func (f *outputFlag) Type() string   { return "format" }
func (f *outputFlag) list() string {
	last := len(f.formats) - 1
	return strings.Join(f.formats[:last], ", ") + " or " + f.formats[last]
}

func (f *outputFlag) Set(value string) error {
	if !slices.Contains(f.formats, value) {
		return fmt.Errorf("must be %s", f.list())
	}
	f.format = Output(value)
	return nil
}

// Encode writes value as JSON or YAML, by the json tags of its fields.
func Encode(w io.Writer, format Output, value any) error {
	if format == "yaml" {
		text, err := yaml.Marshal(value)
		if err != nil {
			return err
		}
		_, err = w.Write(text)
		return err
	}
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}
