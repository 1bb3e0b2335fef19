package provider_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"akv-csi-provider/provider"
	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/render"
	"akv-csi-provider/provider/request"
)

const history = "- {objectName: h, objectType: secret, objectAlias: d/h, objectVersionHistory: 3, filePermission: 0400}\n"

func TestHistory(t *testing.T) {
	v := &vaults{values: map[string]string{"h": "H", "a": "A"}, lists: map[string][]string{"h": {"9", "5", "7", "1"}}}
	volume, err := newMounter(&signIn{}, v).Mount(t.Context(), parse(t, history+secrets("a"), nil), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	want := &provider.Volume{
		Files: []render.File{
			{Path: "d/h/0", Mode: 0o400, Content: []byte("H")}, {Path: "d/h/1", Mode: 0o400, Content: []byte("H")},
			{Path: "d/h/2", Mode: 0o400, Content: []byte("H")}, {Path: "a", Mode: 0o644, Content: []byte("A")},
		},
		Versions: []provider.Version{{ID: "secret/h/0", Version: "9"}, {ID: "secret/h/1", Version: "5"}, {ID: "secret/h/2", Version: "7"}, {ID: "secret/a", Version: "v-a"}},
	}
	if !reflect.DeepEqual(volume, want) {
		t.Errorf("got  %+v\nwant %+v", volume, want)
	}
}

// A history without any version makes no file, which worked with the replaced
// provider as long as another object made one.
func TestEmptyHistory(t *testing.T) {
	class := history + secrets("a")
	v := &vaults{values: map[string]string{"a": "A"}}
	volume, err := newMounter(&signIn{}, v).Mount(t.Context(), parse(t, class, nil), time.Time{})
	if err != nil || len(volume.Files) != 1 || volume.Files[0].Path != "a" {
		t.Fatalf("got %+v, %v", volume, err)
	}
	if len(volume.ClassWarnings) != 1 || volume.ClassWarnings[0].Kind != request.WarnEmptyHistory || !strings.Contains(volume.ClassWarnings[0].Field, `objects[0] "h"`) ||
		volume.ClassWarnings[0].Cause != "the vault has no enabled version; no file is written" {
		t.Errorf("warnings: %+v", volume.ClassWarnings)
	}

	strict := newMounter(&signIn{}, v)
	strict.StrictObjects = true
	volume, err = strict.Mount(t.Context(), parse(t, class, nil), time.Time{})
	refused(t, volume, err, `objects[0] "h": objectVersionHistory`, "check objectName and objectVersion; or, cluster operator:", "--strict-objects")
	wantReason(t, err, "InvalidParameter")

	volume, err = newMounter(&signIn{}, v).Mount(t.Context(), parse(t, history, nil), time.Time{})
	refused(t, volume, err, `secret "h"`, "no enabled version")
	wantReason(t, err, "ObjectNotFound")
}

func TestHistoriesThatCannotBeListed(t *testing.T) {
	denied := errors.New("may not list")
	v := &vaults{values: map[string]string{"a": "A"}, fails: map[string]func(context.Context) error{"h list": func(context.Context) error { return denied }}}
	volume, err := newMounter(&signIn{}, v).Mount(t.Context(), parse(t, secrets("a")+history, nil), time.Time{})
	refused(t, volume, err, "may not list")
	if !errors.Is(err, denied) || len(v.reads) > 0 {
		t.Errorf("got %v, read %v", err, v.reads)
	}
}

func TestHistoriesAreBounded(t *testing.T) {
	v := &vaults{lists: map[string][]string{"h": make([]string, 5000)}}
	volume, err := newMounter(&signIn{}, v).Mount(t.Context(), parse(t, "- {objectName: h, objectType: secret, objectVersionHistory: 5000}\n", nil), time.Time{})
	refused(t, volume, err, "more than 4096 versions", "objectVersionHistory")
	wantReason(t, err, "InvalidParameter")
	if len(v.reads) > 0 {
		t.Errorf("%d reads", len(v.reads))
	}
}

// counted counts the versions that were asked for and returned.
type counted struct {
	*vaults
	calls, largest, returned int
}

func (c *counted) Versions(ctx context.Context, caller keyvault.Caller, o keyvault.Object, n int, need keyvault.Freshness) func() ([]string, error) {
	c.calls, c.largest = c.calls+1, max(c.largest, n)
	wait := c.vaults.Versions(ctx, caller, o, n, need)
	return func() ([]string, error) {
		list, err := wait()
		c.returned += len(list)
		return list, err
	}
}

// Histories that multiply stop where they are too many, and no more is asked for than fits.
func TestHistoriesStopAtTheBound(t *testing.T) {
	var class strings.Builder
	for i := range 4000 {
		fmt.Fprintf(&class, "- {objectName: h, objectType: secret, objectVersionHistory: 99999, objectAlias: a%d}\n", i)
	}
	v := &counted{vaults: &vaults{lists: map[string][]string{"h": make([]string, 1000)}}}
	m := newMounter(&signIn{}, nil)
	m.Vaults = v
	volume, err := m.Mount(t.Context(), parse(t, class.String(), nil), time.Time{})
	refused(t, volume, err, "more than 4096 versions")
	if most := 5 + m.MaxConcurrency; v.calls > most || v.returned > 1000*most || v.largest > 4097 || len(v.reads) > 0 {
		t.Errorf("%d lists of up to %d versions, %d versions, %d reads", v.calls, v.largest, v.returned, len(v.reads))
	}
}

// As many as fit are mounted, also where a history takes the last place.
func TestHistoriesThatJustFit(t *testing.T) {
	names, values := numbered(4096 - 500)
	values["h"] = "H"
	list := make([]string, 500)
	for i := range list {
		list[i] = fmt.Sprintf("v%d", i)
	}
	v := &vaults{values: values, lists: map[string][]string{"h": list}}
	const all = "- {objectName: h, objectType: secret, objectVersionHistory: 99999}\n"
	volume, err := newMounter(&signIn{}, v).Mount(t.Context(), parse(t, secrets(names...)+all, nil), time.Time{})
	if err != nil || len(volume.Files) != 4096 || volume.Files[4095].Path != "h/499" {
		t.Fatalf("got %v", err)
	}
	v.lists["h"] = append(list, "one more")
	volume, err = newMounter(&signIn{}, v).Mount(t.Context(), parse(t, secrets(names...)+all, nil), time.Time{})
	refused(t, volume, err, "more than 4096 versions")
}

// A volume of thousands of versions whose path is thousands of directories deep is no burden:
// checking each directory of each file took 18 s for a thousand.
func TestDeepPaths(t *testing.T) {
	list := make([]string, 4000)
	for i := range list {
		list[i] = fmt.Sprintf("v%d", i)
	}
	v := &vaults{values: map[string]string{"h": "H"}, lists: map[string][]string{"h": list}}
	class := "- {objectName: h, objectType: secret, objectVersionHistory: 4000, objectAlias: " + strings.Repeat("a/", 2000) + "h}\n"
	start := time.Now()
	volume, err := newMounter(&signIn{}, v).Mount(t.Context(), parse(t, class, nil), time.Time{})
	if err != nil || len(volume.Files) != 4000 {
		t.Fatalf("got %v", err)
	}
	if took := time.Since(start); took > time.Minute {
		t.Errorf("took %s", took)
	}
}

// In a custom cloud the vault says for what the token is made.
func TestCustomCloud(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "stack.json")
	text := `{"activeDirectoryEndpoint":"https://adfs.stack.example/adfs","keyVaultEndpoint":"https://vault.stack.example","keyVaultDNSSuffix":"vault.stack.example"}`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	stack := map[string]string{"cloudName": "AzureStackCloud", "cloudEnvFileName": file, "tenantID": "adfs"}
	s, v := &signIn{}, &vaults{values: map[string]string{"a": "A"}, fails: map[string]func(context.Context) error{}}
	m := newMounter(s, v)
	m.Clouds.EnvDirs = []string{dir}
	if _, err := m.Mount(t.Context(), parse(t, secrets("a"), stack), time.Time{}); err != nil {
		t.Fatal(err)
	}
	if s.ids[0].Authority != "https://adfs.stack.example" || s.ids[0].TenantID != "adfs" || s.scopes[0] != "https://vault.stack.example/own/.default" || !v.hosts["contoso.vault.stack.example"] {
		t.Errorf("signed in at %s for %s, read from %v", s.ids[0].Authority, s.scopes[0], v.hosts)
	}

	gone := errors.New("no such host")
	v.fails["contoso.vault.stack.example"] = func(context.Context) error { return gone }
	if volume, err := m.Mount(t.Context(), parse(t, secrets("a"), stack), time.Time{}); volume != nil || !errors.Is(err, gone) || len(s.ids) != 1 {
		t.Errorf("got %v, %v; signed in %d times", volume, err, len(s.ids))
	}

	// The failover vault is used while the first one is unavailable.
	v.fails["contoso.vault.stack.example"] = func(context.Context) error { return &fault.Error{Reason: fault.ServiceUnavailable} }
	req := *parse(t, secrets("a"), stack)
	req.Objects = withFailover(one("a"))
	volume, err := m.Mount(t.Context(), &req, time.Time{})
	if err != nil || string(volume.Files[0].Content) != "A" || v.at["contoso-dr.vault.stack.example"] != 1 {
		t.Errorf("got %v, %v, read %v", volume, err, v.at)
	}
	if _, err := m.Mount(t.Context(), &req, time.Now()); !fault.Is(err, fault.ServiceUnavailable) {
		t.Errorf("a rotation: got %v", err)
	}
}
