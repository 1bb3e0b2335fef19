package chart_test

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// kubeVersion is for Helm 3, which takes 1.20 for granted unless its own build says otherwise.
const kubeVersion = "--kube-version=1.34.0"

// helm runs Helm on the chart and returns what it prints, and what it complains about
// if it fails.
func helm(t *testing.T, args ...string) (string, error) {
	t.Helper()
	return render(t, folder, args...)
}

// helmSetup returns the path of Helm and an environment without what the user has set up.
func helmSetup(t *testing.T) (program string, environ []string) {
	t.Helper()
	if program = os.Getenv("HELM"); program == "" {
		t.Skip("needs Helm: run make chart")
	}
	home := t.TempDir()
	return program, append(os.Environ(), "HELM_CACHE_HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home)
}

// render does the same with another chart.
func render(t *testing.T, chart string, args ...string) (string, error) {
	t.Helper()
	program, environ := helmSetup(t)
	args = append([]string{"template", "akv-csi-provider", chart, "--namespace=kube-system", kubeVersion}, args...)
	cmd := exec.Command(program, args...)
	cmd.Env = environ
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, stderr.String())
	}
	// Helm 4 has empty lines where Helm 3 has none.
	return regexp.MustCompile(`\n+---\n`).ReplaceAllString(string(out), "\n---\n"), err
}

// What a chart must refuse, and in which words.
func TestRefused(t *testing.T) {
	for _, test := range []struct{ set, want string }{
		{"constructPemChain=false", "constructPemChain"},
		{"linux.imagee.tag=v1", "imagee"},
		{"proxy.httpProxy=http://proxy.example", "httpProxy"},
		{"shareReads=nein", "shareReads"},
		{"mountTimeout=50", "mountTimeout"},
		{"linux.healthzPort=70000", "healthzPort"},
		{"linux.metricsAddr=0.0.0.0:8898", "metricsAddr"},
		{"metricsAddr=", "metricsAddr"},
		{"linux.healthzPort=http", "healthzPort"},
		{"linux.dnsPolicy=None", "dnsPolicy"},
		{"linux.livenessProbe.httpGet=x", "httpGet"},
		{"cloudName=AzureMoon", `cloudName: "AzureMoon" is not a cloud; use one of AzurePublicCloud, AzureUSGov`},
		{"cloudName=AzureGermanCloud", "is not a cloud"},
		{"serviceAccount.create=false", "set serviceAccount.name, or rbac.create=false"},
		{"prometheusRule.enabled=true,prometheusRule.alerts.AkvCsiNothing.enabled=false", "no alert has the name AkvCsiNothing"},
		{"prometheusRule.enabled=true,prometheusRule.alerts.AkvCsiAbsent.threshold=1", "the alert has no threshold"},
		{"prometheusRule.enabled=true,prometheusRule.alerts.AkvCsiAbsent.severity=page", "severity"},
		{"linux.bindAddress=localhost", "bindAddress"},
		{"hostNetwork=false,linux.bindAddress=127.0.0.1", "only with hostNetwork"},
		{"hostNetwork=false,linux.bindAddress=0::1", "only with hostNetwork"},
		{"global.imageRegistry=https://mirror.example", "imageRegistry"},
		{"global.imageRegistry=mirror.example:http", "imageRegistry"},
		{"linux.image.repository=https://registry.example/akv-csi-provider", "repository"},
		{"linux.image.repository=registry.example/akv-csi-provider:dev", "repository"},
		{"windows.image.repository=akv-csi-provider:dev", "repository"},
		{"identityModes={pod-identity}", "identityModes"},
		{"networkPolicy.enabled=true", "hostNetwork=false"},
		{"linux.image.repository=", "linux.image.repository: name the image"},
		{"linux.image.repository=mcr.microsoft.com/oss/v2/azure/secrets-store/provider-azure", "is the image of the Azure provider"},
		{"windows.enabled=true", "windows.image.repository: name the image"},
	} {
		t.Run(test.set, func(t *testing.T) {
			_, err := helm(t, append(operator, "--values=testdata/plain.yaml", "--set="+test.set)...)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v", err)
			}
		})
	}
}
