package build

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	cyclonedx "github.com/CycloneDX/cyclonedx-go"
	"github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx/v2/common"
	spdx "github.com/spdx/tools-golang/spdx/v2/v2_3"
)

// cyclonedxOf is the bill of materials of a binary, without what would distinguish two equal
// ones: its time, its number, and the hash of the tool, which is built here.
func cyclonedxOf(ctx context.Context, file string) ([]byte, error) {
	raw := file + CycloneDX
	if err := run(exec.CommandContext(ctx, "go", "tool", "cyclonedx-gomod", "bin", "-json", "-std", "-noserial", "-notimestamp", "-output", raw, file)); err != nil {
		return nil, err
	}
	in, err := os.ReadFile(raw)
	if err != nil {
		return nil, err
	}
	var bom cyclonedx.BOM
	if err := cyclonedx.NewBOMDecoder(bytes.NewReader(in), cyclonedx.BOMFileFormatJSON).Decode(&bom); err != nil {
		return nil, fmt.Errorf("bill of materials: %w", err)
	}
	if bom.Metadata != nil {
		bom.Metadata.Tools = nil
	}
	var out bytes.Buffer
	if err := cyclonedx.NewBOMEncoder(&out, cyclonedx.BOMFileFormatJSON).SetPretty(true).Encode(&bom); err != nil {
		return nil, fmt.Errorf("bill of materials: %w", err)
	}
	return out.Bytes(), nil
}

// noAssertion is SPDX's word for what the document does not say.
const noAssertion = "NOASSERTION"

// spdxOf is the same bill in SPDX 2.3, with the licenses that were found.
func spdxOf(file, platform string, terms []License, source Source) ([]byte, error) {
	info, err := buildinfo.ReadFile(file)
	if err != nil {
		return nil, err
	}
	program, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	sum := fmt.Sprintf("%x", sha256.Sum256(program))
	name := Binary + "-" + filepath.Base(platform)
	plugin := spdxPackage(Binary, source.Version, "", licenseNames(terms, Binary))
	plugin.PackageChecksums = []common.Checksum{{Algorithm: common.SHA256, Value: sum}}
	plugin.PrimaryPackagePurpose = "APPLICATION"
	packages := []*spdx.Package{plugin,
		spdxPackage("stdlib", strings.TrimPrefix(info.GoVersion, "go"), "pkg:golang/stdlib@"+strings.TrimPrefix(info.GoVersion, "go"), licenseNames(terms, "go"))}
	for _, m := range modulesOf(info) {
		packages = append(packages, spdxPackage(m.Path, m.Version, "pkg:golang/"+m.Path+"@"+m.Version, licenseNames(terms, m.Path+"@"+m.Version)))
	}
	document := common.MakeDocElementID("", "DOCUMENT")
	relations := []*spdx.Relationship{{RefA: document, RefB: common.MakeDocElementID("", string(plugin.PackageSPDXIdentifier)), Relationship: common.TypeRelationshipDescribe}}
	for _, p := range packages[1:] {
		relations = append(relations, &spdx.Relationship{
			RefA: common.MakeDocElementID("", string(plugin.PackageSPDXIdentifier)), RefB: common.MakeDocElementID("", string(p.PackageSPDXIdentifier)),
			Relationship: common.TypeRelationshipContains,
		})
	}
	var out bytes.Buffer
	err = json.Write(&spdx.Document{
		SPDXVersion: spdx.Version, DataLicense: spdx.DataLicense, SPDXIdentifier: "DOCUMENT", DocumentName: name,
		DocumentNamespace: "https://spdx.org/spdxdocs/" + name + "-" + sum,
		CreationInfo:      &spdx.CreationInfo{Created: source.Time.Format(time.RFC3339), Creators: []common.Creator{{CreatorType: "Tool", Creator: Binary + "-make-image"}}},
		Packages:          packages, Relationships: relations,
	}, &out, json.Indent("  "))
	return out.Bytes(), err
}

// modulesOf are the modules that are linked, as they are and not as they are required.
func modulesOf(info *debug.BuildInfo) (modules []*debug.Module) {
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		modules = append(modules, m)
	}
	return modules
}

var notInIDs = regexp.MustCompile(`[^A-Za-z0-9.]+`)

func spdxPackage(name, version, url string, licenses []string) *spdx.Package {
	p := &spdx.Package{
		PackageName: name, PackageVersion: version, PackageDownloadLocation: noAssertion, PackageCopyrightText: noAssertion,
		PackageSPDXIdentifier:   common.ElementID("Package-" + notInIDs.ReplaceAllString(name, "-")),
		PackageLicenseConcluded: noAssertion, PackageLicenseDeclared: noAssertion,
	}
	if len(licenses) > 0 {
		p.PackageLicenseDeclared = strings.Join(licenses, " AND ")
	}
	if url != "" {
		p.PackageExternalReferences = []*spdx.PackageExternalReference{{Category: common.CategoryPackageManager, RefType: "purl", Locator: url}}
	}
	return p
}

// licenseNames are the licenses, by SPDX's names, of the files that came with a module.
func licenseNames(terms []License, module string) (names []string) {
	for _, l := range terms {
		if filepath.ToSlash(filepath.Dir(l.Name)) == "licenses/"+module {
			names = append(names, namesOf(l.Text)...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
