package watch

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"akv-csi-provider/provider/fault"
)

// platform are the reasons whose cause is most often one for all teams: the cluster, its network,
// Entra or Key Vault.
var platform = []fault.Reason{
	fault.TokenRequestMissing, fault.TokenExpired, fault.TokenInvalid, fault.IssuerUnreachable, fault.ManagedIdentityUnavailable,
	fault.ServiceAccountLookupForbidden, fault.VaultFirewall, fault.TokenRejected, fault.Throttled, fault.TLSUntrusted,
	fault.ProxyRefused, fault.Timeout, fault.ServiceUnavailable,
}

// eachReason lets a mount of each kind of cluster fail with each reason, all of them in one
// Prometheus, and compares what fires with what should.
func eachReason(t *testing.T, kinds map[string]func(reason string) []node, want func(kind string, reason fault.Reason) []string) {
	t.Helper()
	data := "load 1m\n"
	var all []string
	for kind, nodes := range kinds {
		for _, r := range fault.Reasons {
			cluster := strings.ReplaceAll(kind, " ", "-") + "-" + string(r.Reason)
			data += inCluster(cluster, nodes(string(r.Reason)))
			for _, alert := range want(kind, r.Reason) {
				name, labels, _ := strings.Cut(alert, " ")
				all = append(all, strings.TrimSpace(name+" "+cluster+" "+labels))
			}
		}
	}
	slices.Sort(all)
	got := firing(t, data)
	for _, alert := range got {
		if !slices.Contains(all, alert) {
			t.Errorf("fires: %s", alert)
		}
	}
	for _, alert := range all {
		if !slices.Contains(got, alert) {
			t.Errorf("does not fire: %s", alert)
		}
	}
}

// waits are the alerts about pods that wait, wherever they are.
func waits(reason fault.Reason) []string {
	if reason == fault.Canceled || reason == fault.Internal {
		return nil
	}
	return []string{"AkvCsiMountsRefused " + string(reason)}
}

// Pods of one team that wait are nothing critical, for whatever reason, though in a quiet cluster
// kubelet's retries are all the mounts that there are.
func TestOneTeamPagesNobody(t *testing.T) {
	t.Parallel()
	// stuck is a node with waiting pods. Their vault may be the one that does not respond.
	stuck := func(reason string, pods int) node {
		n := node{stuck: map[string]int{reason: pods}}
		if slices.Contains([]string{"Timeout", "ServiceUnavailable", "Throttled"}, reason) {
			n.requests, n.open = map[string]float64{"error": 2}, 8
		}
		return n
	}
	busy := func(reason string) node {
		n := stuck(reason, 1)
		n.starts, n.rotations, n.requests = healthy().starts, healthy().rotations, healthy().requests
		return n
	}
	eachReason(t, map[string]func(string) []node{
		"one pod":                  func(r string) []node { return []node{stuck(r, 1), {}, {}, {}} },
		"one pod in small cluster": func(r string) []node { return []node{stuck(r, 1)} },
		"three replicas":           func(r string) []node { return []node{stuck(r, 1), stuck(r, 1), stuck(r, 1), {}} },
		"busy cluster":             func(r string) []node { return []node{busy(r), busy(r), busy(r), busy(r)} },
	}, func(kind string, reason fault.Reason) []string {
		want := waits(reason)
		if reason == fault.Internal {
			for i := range map[string]int{"one pod": 1, "one pod in small cluster": 1, "three replicas": 3, "busy cluster": 4}[kind] {
				want = append(want, fmt.Sprintf("AkvCsiBug node-%d", i))
			}
		}
		return want
	})
}

// If most pods of a cluster fail to start, somebody is paged once, whatever the reason: a user's
// mistake in one class is the platform's in all, such as another issuer, a private DNS zone without
// its link, or a role assignment that was removed.
func TestManyPodsPage(t *testing.T) {
	t.Parallel()
	fails := func(reason string, each, ok float64) node {
		return node{starts: map[string]float64{reason: each, "ok": ok}}
	}
	eachReason(t, map[string]func(string) []node{
		"most": func(r string) []node { return slices.Repeat([]node{fails(r, 2, 0.1)}, 4) },
		"two":  func(r string) []node { return slices.Repeat([]node{fails(r, 2, 0.1)}, 2) },
		"only": func(r string) []node { return []node{fails(r, 3, 0.1)} },
		// On one node, or among others that start, only a platform's reason is a platform's fault.
		"node": func(r string) []node { return []node{fails(r, 25, 0.1), {}, {}, {}} },
		"some": func(r string) []node { return slices.Repeat([]node{fails(r, 1, 3)}, 4) },
	}, func(kind string, reason fault.Reason) []string {
		want := waits(reason)
		switch {
		case reason == fault.Canceled:
		case slices.Contains(platform, reason):
			want = append(want, "AkvCsiMountsFail "+string(reason))
		case kind != "node" && kind != "some":
			want = append(want, "AkvCsiMostMountsFail "+string(reason))
		}
		if reason == fault.Internal {
			for i := range map[string]int{"most": 4, "two": 2, "only": 1, "node": 1, "some": 4}[kind] {
				want = append(want, fmt.Sprintf("AkvCsiBug node-%d", i))
			}
		}
		return want
	})
}

// The circuit of a sign-in is that of Entra, whichever service the requests are sent to.
func TestSignInUnavailable(t *testing.T) {
	down := healthy()
	down.requests, down.open = map[string]float64{"error": 5}, 55
	samples := series(slices.Repeat([]node{down}, 4))
	for _, service := range []string{"entra", "imds", "token_proxy"} {
		data := strings.ReplaceAll(samples, `service="keyvault",operation`, fmt.Sprintf("service=%q,operation", service))
		data = strings.ReplaceAll(data, `service="keyvault"`, `service="entra"`)
		if got := firing(t, data); !slices.Equal(got, []string{"AkvCsiServiceUnavailable entra"}) {
			t.Errorf("%s: fires %q", service, got)
		}
	}
}

// What pages is critical, and the rest is not.
func TestSeverities(t *testing.T) {
	var critical []string
	for _, r := range alertRules(t) {
		if r.Labels["severity"] == "critical" {
			critical = append(critical, strings.TrimPrefix(r.Alert, "AkvCsi"))
		}
	}
	slices.Sort(critical)
	if want := []string{"Absent", "MostMountsFail", "MountsFail", "NodeDown", "NodesWithoutProvider", "ServiceUnavailable"}; !slices.Equal(critical, want) {
		t.Errorf("critical are %q, want %q", critical, want)
	}
}
