package server_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"akv-csi-provider/provider/azuretest"
	"akv-csi-provider/provider/entra"
	"akv-csi-provider/provider/throttle"

	"google.golang.org/grpc/status"
	"software.sslmate.com/src/go-pkcs12"
)

// webIdentity is the ARM resource ID of a managed identity.
const webIdentity = "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/shop/providers/Microsoft.ManagedIdentity/userAssignedIdentities/web"

// clientCertificate is the certificate of an application.
type clientCertificate struct {
	*x509.Certificate
	certificate, pem, pfx string
}

// newClientCertificate makes the one of this test run: RSA keys take their time.
var newClientCertificate = sync.OnceValue(func() clientCertificate {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "client"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	c := clientCertificate{}
	if c.Certificate, err = x509.ParseCertificate(der); err != nil {
		panic(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic(err)
	}
	c.certificate = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	c.pem = c.certificate + string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	pfx, err := pkcs12.Modern.Encode(key, c.Certificate, nil, "")
	if err != nil {
		panic(err)
	}
	c.pfx = base64.StdEncoding.EncodeToString(pfx)
	return c
})

// A hundred pods start, each with its own ServiceAccount, and Entra refuses every 45th sign-in
// for a cause that passes: no mount fails.
func TestTransientRefusalsFailNoMount(t *testing.T) {
	for _, refusal := range []azuretest.Fault{
		{Status: 401, InnerCode: "700213"}, {Status: 400, InnerCode: "50166"}, {Status: 400, Body: `{"error":"temporarily_unavailable"}`},
	} {
		w := newWorld(t, setup{throttle: throttle.Config{Max: 80, Retries: 3}})
		refusal.Every = 45
		w.SetFault(azuretest.Token, refusal)
		var mounts sync.WaitGroup
		for i := range 100 {
			pod := w.pod
			pod.Name, pod.ServiceAccount = fmt.Sprint("web-", i), fmt.Sprint("reader-", i)
			w.app.Federate(issuer, pod.Subject(), entra.Audience)
			req := w.requestFor(t, "one.yaml", pod, nil)
			mounts.Go(func() {
				if _, err := w.mount(t, req); err != nil {
					t.Errorf("%s: %v", pod.Name, err)
				}
			})
		}
		mounts.Wait()
		if n := w.Count(azuretest.Token); n < 102 {
			t.Errorf("%d sign-ins: nothing was refused", n)
		}
	}
}

// What any identity that a class or Secret can name becomes over the socket.
func TestMoreIdentities(t *testing.T) {
	c := newClientCertificate()
	noClient := map[string]string{"clientID": ""}
	register := func(w *world) { w.app.Unfederate(); w.app.AddCertificate(c.Certificate) }
	for name, s := range map[string]struct {
		pod, secret map[string]string
		prepare     func(*world)
	}{
		"certificate as PEM":      {noClient, map[string]string{"clientid": clientID, "clientcertificate": c.pem}, register},
		"certificate as PFX":      {noClient, map[string]string{"ClientID": clientID, "ClientCertificate": c.pfx + "\n"}, register},
		"client ID alone":         {noClient, map[string]string{"clientid": clientID}, func(*world) {}},
		"client ID with a tenant": {map[string]string{"clientID": "", "tenantID": ""}, map[string]string{"clientid": clientID, "tenantid": tenantID}, func(*world) {}},
		"node's, by its resource": {map[string]string{"useVMManagedIdentity": "true", "userAssignedIdentityID": webIdentity}, nil, func(w *world) {
			w.IMDS().AssignResource(webIdentity, w.app)
			w.IMDS().Assign(w.tenant.Application("x"))
		}},
		"node's, in another case":  {map[string]string{"useVMManagedIdentity": "true", "userAssignedIdentityID": strings.ToUpper(webIdentity)}, nil, func(w *world) { w.IMDS().AssignResource(webIdentity, w.app) }},
		"password, with a tenant":  {map[string]string{"clientID": "", "tenantID": ""}, map[string]string{"clientid": clientID, "tenantid": tenantID, "clientsecret": "hush"}, func(w *world) { w.app.AddSecret("hush", time.Time{}) }},
		"password and certificate": {noClient, map[string]string{"clientid": clientID, "clientcertificate": "x", "clientsecret": "hush"}, func(w *world) { w.app.AddSecret("hush", time.Time{}) }},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, setup{})
			s.prepare(w)
			pod := w.with(s.pod)
			pod.NodePublishSecret = s.secret
			resp, err := w.mount(t, w.requestFor(t, "one.yaml", pod, nil))
			if err != nil {
				t.Fatal(err)
			}
			if got := files(resp); !maps.Equal(got, hello) {
				t.Errorf("got %q", got)
			}
		})
	}
}

// Where the CSIDriver requests no tokens, a pod can bring one of another issuer: no message
// names that issuer, or a command that would trust it.
func TestForeignIssuerIsNotNamed(t *testing.T) {
	w := newWorld(t, setup{})
	other, err := w.Cluster("https://oidc.attacker.example/")
	if err != nil {
		t.Fatal(err)
	}
	token, err := other.Token(w.pod, entra.Audience, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for _, number := range []int{0, 700211, 50013, 50166} {
		w.app.FailWith(number)
		_, err = w.mount(t, w.requestFor(t, "one.yaml", w.pod, map[string]string{entra.Audience: token}))
		if text := status.Convert(err).Message(); strings.Contains(text, "attacker") || strings.Contains(text, "--issuer") || !strings.Contains(text, "this cluster") {
			t.Errorf("%d: got %s", number, text)
		}
	}
}

// kubelet cuts an event at 1024 bytes: the reason is never beyond byte 900, whatever the names.
func TestReasonIsInTheEvent(t *testing.T) {
	long := "https://container.googleapis.com/v1/projects/" + strings.Repeat("my-company-production-shared-", 4) + "0123/locations/europe-west3-a/clusters/main"
	pods := []azuretest.Pod{
		{Namespace: "team-payments-production-eu", Name: "checkout-api-5d9c7b6f4-x2x7q", ServiceAccount: "checkout-api-service-account"},
		{Namespace: strings.Repeat("n", 40), Name: strings.Repeat("p", 50), ServiceAccount: strings.Repeat("a", 253)},
	}
	many := "[" + strings.Repeat("{objectName: "+strings.Repeat("x", 100)+"0000, objectType: secret},", 1)
	for i := range 60 {
		many += fmt.Sprintf("{objectName: %s%04d, objectType: secret},", strings.Repeat("x", 100), i+1)
	}
	for _, pod := range pods {
		for name, attributes := range map[string]map[string]string{"federation": nil, "objects": {"objects": many + "]"}, "binding": {"useAzureTokenProxy": "true"}} {
			w := newWorld(t, setup{issuer: long})
			pod.VolumeAttributes = attributes
			var tokens map[string]string
			switch name {
			case "objects":
				w.app.Federate(long, pod.Subject(), entra.Audience)
			case "binding":
				tokens = w.bindingToken(t, pod)
			}
			_, err := w.mount(t, w.requestFor(t, "one.yaml", pod, tokens))
			got := status.Convert(err)
			words := fmt.Sprintf("rpc error: code = %s desc = ", got.Code())
			event := `MountVolume.SetUp failed for volume "secrets-store" : ` + words +
				"failed to mount secrets store objects for pod " + pod.Namespace + "/" + pod.Name + ", err: " + words
			names := len("secrets-store") + len(pod.Namespace) + len(pod.Name)
			reason := got.Message()[strings.LastIndexByte(got.Message(), '['):]
			if end := len(event) - names + 110 + strings.Index(got.Message(), reason) + len(reason); err == nil || end > 900 {
				t.Errorf("%s of a pod with %d bytes of names: the reason ends at byte %d: %s", name, names, end, got.Message())
			}
		}
	}
}
