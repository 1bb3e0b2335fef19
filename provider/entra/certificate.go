package entra

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"strings"

	"akv-csi-provider/provider/fair"
	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/pkcs12"
	"akv-csi-provider/provider/request"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
)

// Bounds of a client certificate. A pod brings it, and each sign-in without a cached token
// reads it.
const (
	maxCertificateText = 64 << 10
	maxRSABits         = 8 << 10 // with more, each sign-in signs for a tenth of a second
)

// certificateCredential presents the certificate of the volume's nodePublishSecretRef: a JWT that
// its key has signed (RFC 7523, section 2.2). The chain is sent too, for applications that
// trust a subject name and its issuer.
func (x *Exchange) certificateCredential(ctx context.Context, s signIn, o azcore.ClientOptions) (azcore.TokenCredential, error) {
	certificates, key, err := x.parseInTurn(ctx, s.ClientCertificate)
	if ctx.Err() != nil {
		return nil, s.explain(ctx.Err())
	}
	if err != nil {
		return nil, badCertificate(err)
	}
	c, err := azidentity.NewClientCertificateCredential(s.TenantID, s.ClientID, certificates, key,
		&azidentity.ClientCertificateCredentialOptions{ClientOptions: o, DisableInstanceDiscovery: true, SendCertificateChain: true})
	if err != nil {
		return nil, notACredential()
	}
	return c, nil
}

// parseInTurn parses a certificate when it is the turn of its namespace: a PFX may take a processor
// for seconds. Its error is one of parseCertificate's or the context's own.
func (x *Exchange) parseInTurn(ctx context.Context, text request.Secret) ([]*x509.Certificate, *rsa.PrivateKey, error) {
	if x.cfg.Processors != nil {
		release, err := x.cfg.Processors.Acquire(ctx, fair.Tenant(ctx), 1)
		if err != nil {
			return nil, nil, err
		}
		defer release()
	}
	return parseCertificate(text)
}

// badCertificate is the error of a certificate that cannot be presented.
func badCertificate(why error) error {
	return fault.Invalid(fault.Problem{Field: "clientcertificate of the nodePublishSecretRef",
		Cause: why.Error() + " (value hidden)",
		Fix:   "store certificate and RSA private key as PEM or as base64 of a PFX, without a password"})
}

var (
	errNeither       = errors.New("not readable as PEM or as base64 of a PFX")
	errNoCertificate = errors.New("has no certificate of its private key")
	errNoKey         = errors.New("must have exactly one private key")
	errNotRSA        = errors.New("its private key is not RSA, which Entra requires")
	errTooLarge      = errors.New("too large")
)

// parseCertificate reads a certificate, with others of its chain, and its private key. Its errors
// contain nothing of the text.
func parseCertificate(text request.Secret) ([]*x509.Certificate, *rsa.PrivateKey, error) {
	if len(text) > maxCertificateText {
		return nil, nil, errTooLarge
	}
	ders, keys := readPEM([]byte(text))
	if len(ders)+len(keys) == 0 {
		raw, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(string(text)), ""))
		if err != nil {
			return nil, nil, errNeither
		}
		pfx, err := pkcs12.Decode(raw)
		if err != nil {
			return nil, nil, errNeither
		}
		ders = pfx.Certificates
		for _, key := range pfx.PrivateKeys {
			keys = append(keys, key.PKCS8)
		}
	}
	if len(keys) != 1 {
		return nil, nil, errNoKey
	}
	key, err := parseKey(keys[0])
	if err != nil {
		return nil, nil, err
	}
	var certificates []*x509.Certificate
	found := false
	for _, der := range ders {
		if c, err := x509.ParseCertificate(der); err == nil { // another of the chain may be unreadable
			certificates = append(certificates, c)
			found = found || key.PublicKey.Equal(c.PublicKey)
		}
	}
	if !found {
		return nil, nil, errNoCertificate
	}
	return certificates, key, nil
}

// readPEM returns the certificates and private keys of a text in DER.
func readPEM(text []byte) (certificates, keys [][]byte) {
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return certificates, keys
		}
		switch {
		case block.Type == "CERTIFICATE":
			certificates = append(certificates, block.Bytes)
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			keys = append(keys, block.Bytes)
		}
	}
}

// parseKey reads a private key in the form of PKCS#8 or PKCS#1.
func parseKey(der []byte) (*rsa.PrivateKey, error) {
	if len(der) > pkcs12.MaxPrivateKeySize {
		return nil, errTooLarge
	}
	var key crypto.PrivateKey
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		key, err = x509.ParsePKCS1PrivateKey(der)
	}
	if err != nil {
		if _, ec := x509.ParseECPrivateKey(der); ec == nil {
			return nil, errNotRSA
		}
		return nil, errNoKey
	}
	signer, ok := key.(*rsa.PrivateKey)
	switch {
	case !ok:
		return nil, errNotRSA
	case signer.N.BitLen() > maxRSABits:
		return nil, errTooLarge
	}
	return signer, nil
}
