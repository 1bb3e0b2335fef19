package request_test

import (
	"reflect"
	"strings"
	"sync"
	"testing"

	"akv-csi-provider/provider/request"
)

// A Parser with a cache returns what one without returns: for equal lists, for lists that
// differ in their text or mode, and for lists with problems, however often they come.
func TestParserCaches(t *testing.T) {
	p := request.NewParser()
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
					want, wantErr := new(request.Parser).Parse(attributes, "null", mode)
					if !reflect.DeepEqual(got, want) || !reflect.DeepEqual(gotErr, wantErr) {
						t.Errorf("%.40q, %s: got %+v, %v\nwant %+v, %v", objects, mode, got, gotErr, want, wantErr)
					}
				}
			}
		})
	}
	group.Wait()
}
