package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"math"
	"math/big"
	"strings"
	"time"

	"akv-csi-provider/provider/azuretest"

	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
	"software.sslmate.com/src/go-pkcs12"
)

// cpuAttacks are volumes whose work comes after the reads. They have more bounds than
// usual: they end within the plugin's --mount-timeout, and no work goes on once the
// callers have given up.
func cpuAttacks() []attack {
	return []attack{{
		name: "deep paths", about: "8 volumes of one object with 1,000 versions below a path of 2,000 folders",
		lasts: 20 * time.Second, long: true, prepare: deepPaths(8, 1000),
	}, {
		name: "deep path", about: "one volume of one object with 300 versions below a path of 2,000 folders",
		prepare: deepPaths(1, 300),
	}, {
		name: "newest", about: "one volume of 2,048 histories from a list of 9,990 versions",
		lasts: 25 * time.Second, long: true, prepare: newest,
	}, {
		name: "PFX flood", about: "96 volumes of one RSA-4096 PFX, 4,096 times each",
		lasts: 20 * time.Second, long: true, prepare: pfx(rsaPFX, 96, 4096), run: givenUp(all),
	}, {
		name: "PFX, small", about: "16 volumes of one RSA-4096 PFX, 400 times each",
		lasts: 6 * time.Second, prepare: pfx(rsaPFX, 16, 400), run: givenUp(all),
	}, {
		name: "PFX, rounds", about: "8 volumes of one PFX with 100,000 rounds, 100 times each",
		long: true, lasts: 6 * time.Second, prepare: pfx(ecPFX, 8, 100), run: givenUp(all),
	}}
}

func deepPaths(volumes, versions int) func(*siege) ([]*v1alpha1.MountRequest, error) {
	return func(s *siege) ([]*v1alpha1.MountRequest, error) {
		p, vault := s.small("kv-hostile")
		for i := range versions {
			vault.SetSecret("x", azuretest.Secret{Value: fmt.Sprint(i)})
		}
		p.objects = objects(1, func(int) string {
			return fmt.Sprintf("objectName: x, objectVersionHistory: %d, objectAlias: %s", versions, strings.Repeat("a/", 1999)+"a")
		})
		return s.alike(volumes, p)
	}
}

func newest(s *siege) ([]*v1alpha1.MountRequest, error) {
	p, vault := s.small("kv-hostile")
	s.box.SetLatency(azuretest.List, 0) // the list has 400 pages
	for range 9989 {
		vault.SetSecret("x", azuretest.Secret{Value: "v"})
	}
	p.objects = objects(2048, func(i int) string {
		return fmt.Sprintf("objectName: x, objectVersionHistory: 2, objectAlias: a%d", i)
	})
	return s.alike(1, p)
}

// pfx are volumes that contain one PFX many times.
func pfx(make func() (certificate, error), volumes, times int) func(*siege) ([]*v1alpha1.MountRequest, error) {
	return func(s *siege) ([]*v1alpha1.MountRequest, error) {
		c, err := make()
		if err != nil {
			return nil, err
		}
		p, vault := s.small("kv-hostile")
		vault.SetCertificate("c", azuretest.Certificate{DER: c.der, SecretValue: c.text})
		p.objects = objects(times, func(i int) string { return fmt.Sprintf("objectName: c, objectAlias: a%d", i) })
		return s.alike(volumes, p)
	}
}

// givenUp floods the plugin for a while, during which it may use that many processors, and
// then measures what it does for callers that have given up.
func givenUp(processors float64) func(context.Context, *siege) error {
	return func(ctx context.Context, s *siege) error {
		begin, before := time.Now(), s.process().usage().cpu
		flooded, giveUp := context.WithCancel(ctx)
		defer giveUp()
		defer time.AfterFunc(time.Until(s.until)-settling-watched, giveUp).Stop()
		s.flood(flooded, s.volumes)
		used := float64(s.process().usage().cpu-before) / float64(time.Since(begin))
		s.note("%.2f processors used while the callers waited", used)
		s.expect(used <= processors, "%.2f processors used while the callers waited", used)
		s.idle()
		return nil
	}
}

// all is more processors than there are.
var all = math.Inf(1)

// After callers have left, the plugin may be busy for them for a moment.
const settling, watched = time.Second, 2 * time.Second

// idle checks that nothing goes on for callers that have left, beside what innocents need.
func (s *siege) idle() {
	time.Sleep(settling)
	p := s.process()
	before := p.usage().cpu
	select {
	case <-time.After(watched):
	case <-p.ended:
		return
	}
	used := p.usage().cpu - before
	s.expect(used < watched/2, "%.1f s of CPU in the %s after all callers had left", used.Seconds(), watched)
}

type certificate struct {
	der  []byte
	text string // PFX in base64
}

func rsaPFX() (certificate, error) {
	key, err := rsa.GenerateKey(rand.Reader, 4096)
	if err != nil {
		return certificate{}, err
	}
	return newPFX(pkcs12.Modern, key, &key.PublicKey)
}

func ecPFX() (certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return certificate{}, err
	}
	return newPFX(pkcs12.Modern.WithIterations(100_000), key, &key.PublicKey)
}

func newPFX(encoder *pkcs12.Encoder, private, public any) (certificate, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "hostile"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		return certificate{}, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return certificate{}, err
	}
	pfx, err := encoder.Encode(private, cert, nil, "")
	return certificate{der, base64.StdEncoding.EncodeToString(pfx)}, err
}
