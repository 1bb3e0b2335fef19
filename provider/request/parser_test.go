package request_test

import (
	"reflect"
	"strings"
	"sync"
	"testing"

	"akv-csi-provider/provider/request"
)

// A Parser that remembers gives what one gives that does not: for equal lists, for those
// that differ in their text or mode, and for those with problems, as often as they come.
func TestParserRemembers(t *testing.T) {
	p, err := request.NewParser()
	if err != nil {
		t.Fatal(err)
	}
	lists := []string{
		"- {objectName: a, objectType: secret}", "- {objectName: b, objectType: key, odd: 1}",
		"- {objectName: a_b, objectType: secret}", "", "- {objectName: a, objectType: secret} #" + strings.Repeat("x", 20<<10),
	}
	base := newAttributes(t)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for _, objects := range lists {
				for _, mode := range []string{"420", "256", "no mode"} {
					r := base.with(map[string]string{"objects": objects})
					attributes := toJSON(t, r)
					got, gotErr := p.Parse(attributes, "null", mode)
					want, wantErr := request.Parse(attributes, "null", mode)
					if !reflect.DeepEqual(got, want) || !reflect.DeepEqual(gotErr, wantErr) {
						t.Errorf("%.40q, %s: got %+v, %v\nwant %+v, %v", objects, mode, got, gotErr, want, wantErr)
					}
				}
			}
		})
	}
	group.Wait()
}
