package azuretest_test
import "github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
import ("testing";"sync";"time";"akv-csi-provider/provider/azuretest";"net/http")
func TestZZ(t *testing.T) {
  for _, h2 := range []bool{false,true} {
	w := newWorld(t, azuretest.Options{DisableHTTP2: !h2})
	tr := w.Transport(); tr.MaxIdleConnsPerHost = 1000; defer tr.CloseIdleConnections()
	c := w.reader(t, through(tr)); c.GetSecret(t.Context(), "my-secret", "", nil)
	w.SetLatency(azuretest.GetSecret, 5*time.Millisecond)
	s := time.Now()
	var wg sync.WaitGroup
	for range 500 { wg.Go(func(){ for range 40 { if _, err := c.GetSecret(t.Context(), "my-secret", "", nil); err!=nil { t.Error(err); return } } }) }
	wg.Wait()
	t.Logf("h2=%v %v for 20000, handshakes %d", h2, time.Since(s), w.Handshakes())
	s = time.Now()
	o := through(tr)
	for range 200 { wg.Go(func(){ for range 5 { tk, _ := w.cluster.Token(w.pod, azuretest.TokenExchangeAudience, time.Hour); if _, err := w.credential(t, o, func()(string,error){return tk,nil}).GetToken(t.Context(), tro); err!=nil {t.Error(err)} } }) }
	wg.Wait()
	t.Logf("1000 sign-ins %v", time.Since(s))
	_ = http.StatusOK
  }
}

var tro = policy.TokenRequestOptions{Scopes: []string{"https://vault.azure.net/.default"}}
