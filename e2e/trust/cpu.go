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
	"math/big"
	"strings"
	"time"

	"akv-csi-provider/provider/azuretest"

	"software.sslmate.com/src/go-pkcs12"
)

// cpuAttacks are volumes whose work comes after the reads. What they are held to beside
// the usual: they end within the plugin's --mount-timeout, and no work goes on once the
// callers have given up.
func cpuAttacks() []attack {
	return []attack{{
		name: "deep paths", about: "8 volumes of one object with 1,000 versions below a path of 2,000 folders",
		lasts: 20 * time.Second, long: true, run: deepPaths(8, 1000),
	}, {
		name: "deep path", about: "one volume of one object with 300 versions below a path of 2,000 folders",
		run: deepPaths(1, 300),
	}, {
		name: "newest", about: "one volume of 2,048 histories from a list of 9,990 versions",
		lasts: 25 * time.Second, long: true, run: newest,
	}, {
		name: "PFX flood", about: "96 volumes of one RSA-4096 PFX, 4,096 times each",
		lasts: 20 * time.Second, long: true, run: pfxFlood(96, 4096),
	}, {
		name: "PFX, small", about: "16 volumes of one RSA-4096 PFX, 400 times each",
		run: pfxFlood(16, 400),
	}, {
		name: "PFX, rounds", about: "8 volumes of one PFX with 100,000 rounds, 100 times each",
		run: pfxRounds,
	}}
}

func deepPaths(volumes, versions int) func(context.Context, *siege) error {
	return func(ctx context.Context, s *siege) error {
		p, vault := s.small("kv-hostile")
		for i := range versions {
			vault.SetSecret("x", azuretest.Secret{Value: fmt.Sprint(i)})
		}
		p.objects = objects(1, func(int) string {
			return fmt.Sprintf("objectName: x, objectVersionHistory: %d, objectAlias: %s", versions, strings.Repeat("a/", 1999)+"a")
		})
		before := s.process().usage().cpu
		if err := s.mountMany(ctx, volumes, p, nil); err != nil {
			return err
		}
		used := s.process().usage().cpu - before
		s.note("%.1f s of CPU", used.Seconds())
		return nil
	}
}

func newest(ctx context.Context, s *siege) error {
	p, vault := s.small("kv-hostile")
	s.box.SetLatency(azuretest.List, 0) // the list has 400 pages
	for range 9989 {
		vault.SetSecret("x", azuretest.Secret{Value: "v"})
	}
	p.objects = objects(2048, func(i int) string {
		return fmt.Sprintf("objectName: x, objectVersionHistory: 2, objectAlias: a%d", i)
	})
	return s.mountMany(ctx, 1, p, nil)
}

func pfxFlood(volumes, times int) func(context.Context, *siege) error {
	return func(ctx context.Context, s *siege) error {
		pfx, err := rsaPFX()
		if err != nil {
			return err
		}
		if err := s.mountPFX(ctx, pfx, volumes, times); err != nil {
			return err
		}
		s.idle()
		return nil
	}
}

func pfxRounds(ctx context.Context, s *siege) error {
	pfx, err := ecPFX(100_000)
	if err != nil {
		return err
	}
	// Its own contract with the callers: they give up before the attack ends.
	short, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	if err := s.mountPFX(short, pfx, 8, 100); err != nil {
		return err
	}
	s.idle()
	return nil
}

// mountPFX floods the plugin with volumes that contain one PFX many times.
func (s *siege) mountPFX(ctx context.Context, pfx certificate, volumes, times int) error {
	p, vault := s.small("kv-hostile")
	vault.SetCertificate("c", azuretest.Certificate{DER: pfx.der, SecretValue: pfx.text})
	p.objects = objects(times, func(i int) string { return fmt.Sprintf("objectName: c, objectAlias: a%d", i) })
	return s.mountMany(ctx, volumes, p, nil)
}

// idle checks that nothing goes on for callers that have left, beside what innocents need.
func (s *siege) idle() {
	const settle, watched = time.Second, 2 * time.Second
	time.Sleep(settle)
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

func ecPFX(rounds int) (certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return certificate{}, err
	}
	return newPFX(pkcs12.Modern.WithIterations(rounds), key, &key.PublicKey)
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
