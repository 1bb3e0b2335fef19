package cloud

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"akv-csi-provider/provider/fault"
)

// Resolver finds the cloud that a class names. Its fields are set once; it is safe
// for concurrent use.
type Resolver struct {
	Default string // name of the cloud of classes that name none; required
	// EnvDirs are the folders below which classes may name files; absolute paths.
	EnvDirs []string
	// Environment is the AzureStackCloud of classes that name no file; nil if there is
	// none.
	Environment *Cloud
	// Own are the operator's clouds, by their names in any case. They take precedence over the
	// clouds of this package.
	Own map[string]Cloud
}

// DefaultEnvDirs are the EnvDirs of the provider without its flag --cloud-env-dirs.
var DefaultEnvDirs = []string{"/cloudEnv", "/etc/kubernetes", "/etc/akv"}

// maxFile bounds an environment file; a whole one of Azure Stack Hub takes 2 KiB.
const maxFile = 64 << 10

// Resolve finds a cloud by its name in any case and the environment file that belongs to
// an AzureStackCloud. The file is read each time, so that two mounts do not see each
// other's settings. Its error is a *fault.Error that reveals nothing of the file, not even
// whether it exists: a pod can name any file.
func (r *Resolver) Resolve(name, file string) (Cloud, error) {
	if name == "" {
		name = r.Default
	}
	for own, c := range r.Own {
		if strings.EqualFold(name, own) {
			return c, nil
		}
	}
	switch {
	case !strings.EqualFold(name, stackCloud): // the file is ignored
		if c, known := lookup(name); known {
			return c, nil
		}
		return Cloud{}, fault.Invalid(unknown(name, slices.Sorted(maps.Keys(r.Own))))
	case file != "":
		return r.read(file)
	case r.Environment == nil:
		return Cloud{}, fault.Invalid(fault.Problem{Field: "cloudEnvFileName", Cause: "missing, and the provider has no default for AzureStackCloud",
			Fix: "set it to the environment file; or, cluster operator: set a default with AZURE_ENVIRONMENT_FILEPATH"})
	}
	return *r.Environment, nil
}

// read reads an environment file below one of the folders.
func (r *Resolver) read(file string) (Cloud, error) {
	clean := filepath.Clean(file)
	for _, dir := range r.EnvDirs {
		below, err := filepath.Rel(dir, clean)
		if err != nil || !filepath.IsAbs(clean) || !filepath.IsLocal(below) {
			continue
		}
		c, err := readBelow(dir, below)
		if err != nil {
			return Cloud{}, fault.Invalid(fault.Problem{Field: "cloudEnvFileName", Cause: fmt.Sprintf("%.256q is not a valid environment file", file),
				Fix: "use JSON with activeDirectoryEndpoint (an https URL), keyVaultDNSSuffix and, if it is not https://<suffix>, keyVaultEndpoint;" +
					" the provider must be able to read it, and symbolic links must stay in " + dir})
		}
		return c, nil
	}
	return Cloud{}, fault.Invalid(fault.Problem{Field: "cloudEnvFileName", Cause: fmt.Sprintf("%.256q is not below an allowed directory", file),
		Fix: "move it below one of " + strings.Join(r.EnvDirs, ", ") + "; or, cluster operator: add its directory to --cloud-env-dirs"})
}

// readBelow opens the file so that no symbolic link leads out of the folder.
func readBelow(dir, file string) (Cloud, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return Cloud{}, err
	}
	defer func() { _ = root.Close() }()
	info, err := root.Stat(file)
	if err != nil {
		return Cloud{}, err
	}
	if !info.Mode().IsRegular() { // opening a pipe would block forever
		return Cloud{}, errUnusable
	}
	f, err := root.Open(file)
	if err != nil {
		return Cloud{}, err
	}
	defer func() { _ = f.Close() }()
	return parse(f)
}

// ReadFile reads an environment file of the operator, which may be anywhere.
func ReadFile(path string) (Cloud, error) {
	f, err := os.Open(path)
	if err != nil {
		return Cloud{}, err
	}
	defer func() { _ = f.Close() }()
	c, err := parse(f)
	if err != nil {
		return Cloud{}, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

var (
	errUnusable = errors.New("not a file of JSON with activeDirectoryEndpoint, keyVaultDNSSuffix, and keyVaultEndpoint if any; endpoints are https URLs")

	dnsName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
)

// environment is the part of an Azure environment file that is used here. The format is
// that of go-autorest's azure.Environment.
type environment struct {
	Authority   string `json:"activeDirectoryEndpoint"`
	Resource    string `json:"keyVaultEndpoint"`
	VaultSuffix string `json:"keyVaultDNSSuffix"`
}

func parse(r io.Reader) (Cloud, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	var env environment
	if err != nil || len(text) > maxFile || json.Unmarshal(text, &env) != nil {
		return Cloud{}, errUnusable
	}
	c := Cloud{
		Name:        stackCloud,
		Authority:   strings.TrimRight(strings.TrimSpace(env.Authority), "/"),
		VaultSuffix: strings.ToLower(strings.TrimPrefix(strings.TrimSpace(env.VaultSuffix), ".")),
		Resource:    strings.TrimRight(strings.TrimSpace(env.Resource), "/"),
		APIVersion:  "7.1", // the newest that Azure Stack Hub has
		Custom:      true,
	}
	// With AD FS the endpoint is often written with the tenant, which is "adfs".
	c.Authority = strings.TrimSuffix(c.Authority, "/adfs")
	if c.Resource == "" { // as with the provider we replace; most vaults say in their challenge what it is
		c.Resource = "https://" + c.VaultSuffix
	}
	known, _ := published(c.Authority)
	c.TokenAudience = known.TokenAudience
	if !httpsURL(c.Authority) || !httpsURL(c.Resource) || len(c.VaultSuffix) > 200 || !dnsName.MatchString(c.VaultSuffix) {
		return Cloud{}, errUnusable
	}
	return c, nil
}

// httpsURL reports whether the text is a URL to which credentials may be sent.
func httpsURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Scheme == "https" && u.Hostname() != "" && u.User == nil && u.RawQuery == "" && u.Fragment == ""
}
