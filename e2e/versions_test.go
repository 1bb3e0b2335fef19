package e2e_test

import (
	"regexp"
	"strings"
	"testing"
)

// The table of supported versions has those of the chart and of the cluster suite.
func TestSupportedVersions(t *testing.T) {
	_, table, _ := strings.Cut(read(t, "../deploy/VERSIONS.md"), "\n## Support\n")
	table, _, _ = strings.Cut(table, "\n## ")
	row := func(name string) string {
		line := regexp.MustCompile(`(?m)^\| ` + name + ` \|.*$`).FindString(table)
		if line == "" {
			t.Fatalf("no row %s", name)
		}
		return line
	}
	suite := read(t, "cluster/build/build.go")
	released := regexp.MustCompile(`"(1\.\d+)":`).FindAllStringSubmatch(suite, -1)
	if len(released) < 2 {
		t.Fatal("hardly any version of Kubernetes is tested")
	}
	for _, m := range released {
		if !strings.Contains(row("Kubernetes"), m[1]) {
			t.Errorf("Kubernetes %s is tested", m[1])
		}
	}
	minimum := regexp.MustCompile(`(?m)^kubeVersion: ">=(1\.\d+)\.`).FindStringSubmatch(read(t, "../deploy/chart/Chart.yaml"))
	if minimum == nil || !strings.Contains(row("Kubernetes"), "| "+minimum[1]+" or newer |") {
		t.Errorf("the chart needs %v", minimum)
	}
	driver := regexp.MustCompile(`driverVersion = "(v[\d.]+)"`).FindStringSubmatch(suite)
	if driver == nil || !strings.Contains(row("Secrets Store CSI driver"), "| "+driver[1]+" in a cluster") {
		t.Errorf("driver %v is tested", driver)
	}
	for _, older := range olderDrivers(t) {
		if !strings.Contains(row("Secrets Store CSI driver"), "v"+older) {
			t.Errorf("driver %s is tested", older)
		}
	}
	platforms := regexp.MustCompile(`(?m)^var platforms = (.*)$`).FindString(read(t, "tools/image/release/build.go"))
	for _, m := range regexp.MustCompile(`linux/(\w+)`).FindAllStringSubmatch(platforms, -1) {
		if !strings.Contains(row("Linux nodes"), m[1]) {
			t.Errorf("%s is built", m[1])
		}
	}
	if strings.Count(platforms, "linux/") < 2 {
		t.Errorf("platforms %q", platforms)
	}
}
