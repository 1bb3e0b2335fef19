package provider_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"akv-csi-provider/provider"
	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/render"
	"akv-csi-provider/provider/request"
)

// OnFiles is called with what each file is made of: of documents and bundles all objects that were
// read, and of an optional object that is not there, none.
func TestOnFiles(t *testing.T) {
	v := &vaults{values: map[string]string{"user": "u", "db": `{"user":"u","password":"p"}`, "f-a": "1", "f-b": "2"},
		items: map[string][]keyvault.Item{contoso + " secret": listed("f-a", "f-b", "f-gone")}}
	var got []string
	m := newMounter(&signIn{}, v)
	m.OnFiles = func(files []render.File, of []provider.Origin) {
		var text strings.Builder
		for _, f := range files {
			fmt.Fprint(&text, f.Path, " ")
		}
		for _, o := range of {
			fmt.Fprintf(&text, "<%s/%s@%s", o.Type, o.Name, o.Version)
		}
		got = append(got, text.String())
	}
	none := but(one("none"), func(o *request.Object) { o.Optional = true })
	expand := but(one("db"), func(o *request.Object) { o.Path, o.Pieces = "d", &request.Pieces{Expand: request.ExpandJSON} })
	if _, err := m.Mount(t.Context(), class(t, none, doc(t, "app.ini", `{{ secret "user" }}{{ range find "^f-" }}{{ .Value }}{{ end }}`), expand, one("user")), time.Time{}); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"app.ini <secret/user@v-user<secret/f-a@v-f-a<secret/f-b@v-f-b",
		"d/password d/user <secret/db@v-db",
		"user <secret/user@v-user",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
