package migrate

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"akv-csi-provider/cmd/kubectl-akv/classes"
	"akv-csi-provider/provider/cloud"
	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/request"
)

// Level is how much a difference matters.
type Level string

// The levels, the most urgent first.
const (
	Refused Level = "refused" // pods with the class do not start
	Changes Level = "changes" // files or Secrets are others
	Warning Level = "warning" // accepted, unless the provider runs with --strict-objects
)

// Difference is something that changes for a class, or that a stricter provider would refuse.
type Difference struct {
	Namespace string `json:"namespace,omitempty"`
	Class     string `json:"class"`
	Level     Level  `json:"level"`
	What      string `json:"what"`
	Do        string `json:"do"`
}

// settings are those of the provider on which its answer to a class depends.
type settings struct {
	cloudName string
	clouds    []string // the operator's own
	envDirs   []string
	strict    bool
}

// judge returns what changes for the pods of a class when this provider replaces the
// other one.
func judge(c *classes.Class, s settings) []Difference {
	j := judgment{class: c}
	m, problems := new(request.Parser).ParseClass(c.Parameters, 0o644)
	for _, p := range problems {
		j.add(Refused, p.Field+": "+p.Cause, p.Fix)
	}
	for _, p := range c.Problems { // of a file: what it says is not what was applied
		j.add(Refused, strings.TrimPrefix(p.Field+": "+p.Cause, ": "), p.Fix)
	}
	if !slices.ContainsFunc(problems, func(p fault.Problem) bool { return p.Field == "cloudName" }) {
		j.cloud(m.Cloud, s)
	}
	j.fields(m)
	for i := range m.Objects {
		j.history(&m.Objects[i])
	}
	level := Warning
	if s.strict {
		level = Refused
	}
	for _, w := range m.Warnings {
		do := "fix it before you set --strict-objects"
		if s.strict {
			do = "fix it, or run the provider without --strict-objects"
		}
		j.add(level, fmt.Sprintf("%s: %s (%s)", w.Field, w.Cause, w.Kind), do)
	}
	return j.found
}

type judgment struct {
	class *classes.Class
	found []Difference
}

func (j *judgment) add(level Level, what, do string) {
	j.found = append(j.found, Difference{j.class.Namespace, j.class.Name, level, what, do})
}

// cloud finds clouds that are refused, and environment files that may not be read. Whether a file
// is there, only the provider's container shows.
func (j *judgment) cloud(c request.Cloud, s settings) {
	name := c.Name
	if name == "" {
		name = s.cloudName
	}
	if e, ok := errors.AsType[*fault.Error](cloud.CheckName(name, s.clouds...)); ok {
		j.add(Refused, "cloudName: "+e.Cause, e.Fix)
		return
	}
	below := func(dir string) bool {
		return path.IsAbs(c.EnvFile) && strings.HasPrefix(path.Clean(c.EnvFile), strings.TrimSuffix(dir, "/")+"/")
	}
	// With every other cloud the file is ignored.
	if strings.EqualFold(name, "AzureStackCloud") && c.EnvFile != "" && !slices.ContainsFunc(s.envDirs, below) {
		j.add(Refused, fmt.Sprintf("cloudEnvFileName: %.256q is not below a folder for such files", c.EnvFile),
			"put the file below one of "+strings.Join(s.envDirs, ", ")+", or start the provider with --cloud-env-dirs")
	}
}

// fields finds fields that the other provider ignores and that have a meaning here. An entry
// without objectName was never one of its classes.
func (j *judgment) fields(m *request.Mount) {
	const leftover = "check that this is meant; remove a field that was left over"
	classFailover := strings.TrimSpace(j.class.Parameters["failoverKeyvaultName"]) != ""
	if classFailover {
		j.add(Changes, "failoverKeyvaultName is ignored there; here that vault is read when the first is unavailable", leftover)
	}
	for i := range m.Objects {
		o := &m.Objects[i]
		if o.Name == "" {
			continue
		}
		ignored := func(field, here string) {
			j.add(Changes, fmt.Sprintf("%s: %s is ignored there; here %s", o, field, here), leftover)
		}
		if o.Vault != "" && o.Vault != m.Vault {
			ignored("keyvaultName", "the object is read from vault "+o.Vault)
		}
		if o.Failover != "" && !(classFailover && o.Vault == "") {
			ignored("failoverKeyvaultName", "vault "+o.Failover+" is read when the first is unavailable")
		}
		if o.Optional {
			ignored("optional", "there is no error if the object does not exist")
		}
		if p := o.Pieces; p != nil {
			switch {
			case p.Paths != nil:
				ignored("jmesPath", "pieces of the value are separate files")
			case p.Parts != nil:
				ignored("files", "parts of the certificate are separate files")
			case o.Bundle != "":
				ignored("bundle", "the keys of the value are written as "+string(o.Bundle))
			default:
				ignored("expand", "every key of the value is a file")
			}
		}
	}
}

// history finds the file that objectVersionHistory made too many.
func (j *judgment) history(o *request.Object) {
	if o.History < 2 || o.Name == "" {
		return
	}
	last := o.Nth(o.History, "").Path
	what := fmt.Sprintf("%s: objectVersionHistory %d makes %d files there, and %d here: there is no %s", o, o.History, o.History+1, o.History, last)
	do := "set objectVersionHistory to " + strconv.Itoa(o.History+1)
	var secrets []string
	for _, s := range j.class.SecretObjects() {
		for _, d := range s.Data {
			if d.ObjectName == last {
				secrets = append(secrets, fmt.Sprintf("%s (key %s)", s.SecretName, d.Key))
			}
		}
	}
	if secrets == nil {
		do = "if an application opens that file, " + do
	} else {
		what += ", of which secretObjects make Secret " + strings.Join(secrets, ", ")
	}
	j.add(Changes, what, do)
}
