package server_test

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
)

// story is what happens for one row of a table of the reference, provider/README.md:
// a mount over the real socket that returns files, or an error.
type story struct {
	row       string // "heading/first cell"; a row may have several stories
	name      string
	setup     setup
	objects   string            // "" for the one secret of one.yaml
	pod       map[string]string // other parameters that the pod overwrites
	secret    map[string]string // of the nodePublishSecretRef
	tokens    map[string]string // nil: the pod's own
	badTokens bool              // the tokens are not what kubelet writes
	audience  string            // of the pod's only token; "" for what the tokens say
	prepare   func(*testing.T, *world)

	files    map[string]string // by path; nil for an error
	modes    map[string]int32  // of some of the files
	ids      []string          // of the versions; nil are not checked
	warnings string            // their kinds

	code codes.Code
	says []string // in the error

	check func(*testing.T, *world, map[string]string) // checks more of the files, or all if files is nil
	then  *story                                      // the next rotation, of which prepare and the outcome count
}

var (
	tableRow = regexp.MustCompile(`(?m)^\| (.*?) \|`)
	heading  = regexp.MustCompile(`(?m)^##+ (.*)$`)
)

// referenceRows are the rows of the reference's tables, as "heading/first cell".
func referenceRows(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	under := ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if m := heading.FindStringSubmatch(line); m != nil {
			under = m[1]
		}
		if m := tableRow.FindStringSubmatch(line); m != nil {
			rows = append(rows, under+"/"+strings.ReplaceAll(m[1], "`", ""))
		}
	}
	// The first row of each table names its columns.
	columns := []string{"parameter", "field", "kind", "object", "identity", "cloud", "what happened", "what", "difference", "setting"}
	return slices.DeleteFunc(rows, func(row string) bool {
		_, cell, _ := strings.Cut(row, "/")
		return slices.Contains(columns, cell)
	})
}

// TestContract walks the reference row by row.
func TestContract(t *testing.T) {
	all := slices.Concat(parameterStories(), fieldStories(), warningStories(), contentStories(), identityStories(), cloudStories(), boundStories(), differenceStories(), newStories(), beyondStories())
	covered := make(map[string]bool)
	for _, s := range all {
		covered[s.row] = true
		t.Run(strings.Join([]string{s.row, s.name}, ": "), func(t *testing.T) { s.happens(t) })
	}
	rows := referenceRows(t)
	for _, row := range rows {
		// For errors see TestContractErrors; some bounds are too large to reach with a mount, and
		// the times of changes are the driver's.
		if !covered[row] && !strings.HasPrefix(row, "Errors/") && !strings.HasPrefix(row, "Bounds/") && !strings.HasPrefix(row, "Secret rotation/") {
			t.Errorf("the reference's row has no story: %s", row)
		}
	}
	for row := range covered {
		if !slices.Contains(rows, row) {
			t.Errorf("a story of no row: %s", row)
		}
	}
}

func (s story) happens(t *testing.T) {
	w := newWorld(t, s.setup)
	if s.prepare != nil {
		s.prepare(t, w)
	}
	pod := w.pod
	pod.VolumeAttributes, pod.NodePublishSecret = maps.Clone(s.pod), s.secret
	if s.objects != "" {
		if pod.VolumeAttributes == nil {
			pod.VolumeAttributes = map[string]string{}
		}
		pod.VolumeAttributes["objects"] = s.objects
	}
	tokens := s.tokens
	if s.pod["useAzureTokenProxy"] == "true" {
		tokens = w.bindingToken(t, pod)
	}
	if s.audience != "" {
		token, err := w.cluster.Token(pod, s.audience, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		tokens = map[string]string{s.audience: token}
	}
	req := w.requestFor(t, "one.yaml", pod, tokens)
	if s.badTokens {
		req.Attributes = overwrite(t, req.GetAttributes(), map[string]string{"csi.storage.k8s.io/serviceAccount.tokens": "none"})
	}
	resp, err := w.mount(t, req)
	s.ends(t, w, resp, err)
	if s.then != nil {
		if s.then.prepare != nil {
			s.then.prepare(t, w)
		}
		resp, err = w.mount(t, req)
		s.then.ends(t, w, resp, err)
	}
}

// ends compares how a mount of the story ended.
func (s story) ends(t *testing.T, w *world, resp *v1alpha1.MountResponse, err error) {
	t.Helper()
	if s.files == nil && s.check == nil {
		s.fails(t, resp, err)
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	got := files(resp)
	if s.check != nil {
		s.check(t, w, got)
	}
	if s.files != nil && !maps.Equal(got, s.files) {
		t.Errorf("files\n%q, want\n%q", got, s.files)
	}
	for _, f := range resp.GetFiles() {
		if want, ok := s.modes[f.GetPath()]; ok && f.GetMode() != want {
			t.Errorf("%s has mode %o, want %o", f.GetPath(), f.GetMode(), want)
		}
	}
	var ids []string
	for _, v := range resp.GetObjectVersion() {
		ids = append(ids, v.GetId())
	}
	if s.ids != nil && !slices.Equal(ids, s.ids) {
		t.Errorf("versions of %v, want %v", ids, s.ids)
	}
	if _, warnings := w.seen.observed(); warnings != s.warnings {
		t.Errorf("warnings %q, want %q", warnings, s.warnings)
	}
}

// fails compares the error. The value of my-secret is never in it.
func (s story) fails(t *testing.T, resp *v1alpha1.MountResponse, err error) {
	t.Helper()
	got := status.Convert(err)
	if err == nil || got.Code() != s.code || resp != nil {
		t.Fatalf("got %v, want %s", err, s.code)
	}
	for _, text := range s.says {
		if !strings.Contains(got.Message(), text) {
			t.Errorf("does not say %q: %s", text, got.Message())
		}
	}
	if strings.Contains(got.Message(), "Hello!") {
		t.Errorf("says the value: %s", got.Message())
	}
}

// errorRows says which failures stand for which row of the reference's errors.
var errorRows = map[string][]string{
	"bad parameter or object field": {"parameter/object type", "parameter/vault missing", "identity/odd annotation"},
	"no identity configured":        {"identity/none", "identity/binding without client", "identity/no token and no client", "identity/not in a cluster"},
	"identity mode disabled":        {"identity/mode refused", "identity/namespace refused"},
	"no token for the audience":     {"identity/no tokens", "identity/other audience", "identity/binding without token"},
	"AADSTS70021, 700211, 700212, 700213, 7002137, 7002138, 70025": {"entra/AADSTS70021", "entra/AADSTS700211", "entra/AADSTS700212", "entra/AADSTS700213",
		"entra/AADSTS7002137", "entra/AADSTS7002138", "entra/AADSTS70025", "binding/not bound"},
	"AADSTS700016, 7000229, 7000112, 70001, 700011":          {"entra/AADSTS700016", "entra/AADSTS7000229", "entra/AADSTS7000112", "entra/AADSTS70001", "entra/AADSTS700011", "password/unknown client", "password/disabled"},
	"AADSTS90002, 900023":                                    {"entra/AADSTS90002", "entra/AADSTS900023"},
	"AADSTS7000215, 70002":                                   {"password/wrong", "password/wrong credentials"},
	"AADSTS7000222":                                          {"password/expired"},
	"AADSTS700024":                                           {"entra/AADSTS700024"},
	"AADSTS50013, 700027, 7000272":                           {"entra/AADSTS50013", "entra/AADSTS700027", "entra/AADSTS7000272"},
	"AADSTS90061, 50166, 501661, 900612":                     {"entra/AADSTS90061", "entra/AADSTS50166", "entra/AADSTS501661", "entra/AADSTS900612"},
	"AADSTS500011, 53003, any other":                         {"entra/AADSTS500011", "entra/AADSTS53003", "entra/AADSTS7002", "binding/no cluster of AKS"},
	"429 of Entra, AADSTS90033, 90055, 50196":                {"entra/429", "entra/AADSTS90033", "entra/AADSTS90055", "entra/AADSTS50196", "node/429"},
	"the node's metadata service refuses":                    {"node/no system-assigned identity", "node/not assigned", "node/several"},
	"the provider is not allowed to read the ServiceAccount": {"identity/account may not be read", "identity/account gone"},
	"403 ForbiddenByRbac, AccessDenied, ForbiddenByPolicy":   {"vault/no role", "vault/no role for several", "vault/no access policy", "vault/no role for keys", "vault/no role for certificates", "vault/may not list", "node/no role"},
	"403 of the firewall or the network security perimeter, or without public access": {"vault/firewall", "vault/no public access", "vault/outside the perimeter"},
	"401 AKV10032":                                                    {"vault/other tenant", "node/other tenant"},
	"any other 401 but AKV10046":                                      {"vault/token rejected"},
	"404 of an object":                                                {"vault/missing secrets", "vault/under another type", "vault/no version"},
	"403 of a disabled secret":                                        {"vault/disabled", "vault/secret of a certificate that may not be read"},
	"the vault's host name does not exist":                            {"network/no such vault"},
	"any other 400 of the vault":                                      {"vault/400"},
	"400 for every API version":                                       {"vault/no API version", "vault/no API version named"},
	"405, 409, 501 or another status with Key Vault's JSON":           {"vault/405", "vault/409", "vault/501"},
	"403 of a subscription that is disabled or not registered":        {"vault/subscription disabled", "vault/subscription not registered"},
	"429 of the vault":                                                {"vault/429"},
	"a volume above --max-response-bytes":                             {"vault/too large"},
	"a certificate that is not trusted":                               {"network/TLS not trusted"},
	"a proxy that refuses":                                            {"network/proxy unavailable"},
	"no response in time":                                             {"bug/untyped deadline"},
	"connection refused, 408, 5xx or 401 AKV10046 after all attempts": {"network/refused", "vault/408", "vault/503", "vault/signing key not known", "entra/502", "node/500"},
	"content that cannot be decoded":                                  {"vault/content not decodable", "vault/no PKCS#12", "vault/unknown content type", "vault/key of another type"},
	"a certificate that is not issued, or its secret":                 {"vault/certificate not issued", "vault/secret of a certificate not issued"},
	"the caller canceled the mount":                                   nil, // TestCanceled
	"a bug":                                                           {"bug/panic in a mount", "bug/untyped error"},
}

// TestContractErrors compares the rows of the reference's errors with failures that a test
// causes: each has the code and the reason of its row.
func TestContractErrors(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Errors\n")
	section, _, _ = strings.Cut(section, "\n## ")
	byName := make(map[string]failure)
	for _, f := range failures() {
		byName[f.name] = f
	}
	number := regexp.MustCompile(`\b[0-9]{5,7}\b`)
	rows := 0
	for _, m := range regexp.MustCompile("(?m)^\\| ([^|]*) \\| ([A-Z][A-Za-z]*) \\| `([A-Za-z]+)` \\|").FindAllStringSubmatch(section, -1) {
		rows++
		row := strings.ReplaceAll(m[1], "`", "")
		names, ok := errorRows[row]
		if !ok {
			t.Errorf("no failure stands for the row %q", row)
		}
		for _, name := range names {
			if f, ok := byName[name]; !ok || f.wantCode.String() != m[2] || f.wantReason != m[3] {
				t.Errorf("row %q: %s is %s [%s], the reference says %s [%s]", row, name, f.wantCode, f.wantReason, m[2], m[3])
			}
		}
		if strings.Contains(row, "AADSTS") {
			for _, n := range number.FindAllString(row, -1) {
				if !slices.ContainsFunc(names, func(name string) bool { return strings.HasSuffix(name, "AADSTS"+n) }) && n != "7000215" && n != "7000222" && n != "70002" { // those are of passwords
					t.Errorf("row %q: no failure with number %s", row, n)
				}
			}
		}
	}
	if rows != len(errorRows) {
		t.Errorf("%d rows, %d of them have failures", rows, len(errorRows))
	}
}
