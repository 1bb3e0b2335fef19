package render

import (
	"bytes"
	"encoding/asn1"
	"fmt"
	"strings"
	"time"

	"akv-csi-provider/provider/pkcs12"
)

// node is a certificate with what the order depends on. It is not an x509.Certificate because
// crypto/x509 rejects some that Key Vault and OpenSSL accept: on the curve P-256K, with a
// negative serial number, with a name that is not ASCII.
type node struct {
	der   []byte
	index int // where it is stored first

	// Empty if the bytes are no certificate.
	issuer, subject string // see canonicalName
	serial, spki    []byte // content of the INTEGER; DER
	notBefore       time.Time

	// Key identifiers (RFC 5280 section 4.2.1); empty if there are none.
	keyID, authorityKeyID []byte
	authoritySerial       []byte // content of the INTEGER
	authority             int    // 1 if it may issue others

	issuers    []int // see graph.issuers
	hasIssuers bool
}

var (
	oidSubjectKeyID     = asn1.ObjectIdentifier{2, 5, 29, 14}
	oidBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidAuthorityKeyID   = asn1.ObjectIdentifier{2, 5, 29, 35}
)

func newNode(der []byte) *node {
	c := &node{der: der}
	outer := pkcs12.Elements(der)
	if len(outer) == 0 {
		return c
	}
	e := pkcs12.Elements(outer[0].FullBytes) // TBSCertificate of RFC 5280 section 4.1
	if len(e) > 0 && e[0].Class == asn1.ClassContextSpecific {
		e = e[1:] // version
	}
	if len(e) < 6 {
		return c
	}
	c.serial, c.spki = e[0].Bytes, e[5].FullBytes
	c.issuer, c.subject = canonicalName(e[2].FullBytes), canonicalName(e[4].FullBytes)
	if validity := pkcs12.Elements(e[3].FullBytes); len(validity) > 0 {
		_, _ = asn1.Unmarshal(validity[0].FullBytes, &c.notBefore)
	}
	for _, field := range e[6:] {
		if field.Class == asn1.ClassContextSpecific && field.Tag == 3 {
			c.readExtensions(field.Bytes)
		}
	}
	return c
}

func (c *node) readExtensions(der []byte) {
	for _, extension := range pkcs12.Elements(der) {
		e := pkcs12.Elements(extension.FullBytes)
		var id asn1.ObjectIdentifier
		if len(e) < 2 {
			continue
		}
		if _, err := asn1.Unmarshal(e[0].FullBytes, &id); err != nil {
			continue
		}
		value := e[len(e)-1].Bytes
		switch {
		case id.Equal(oidSubjectKeyID):
			_, _ = asn1.Unmarshal(value, &c.keyID)
		case id.Equal(oidBasicConstraints):
			if fields := pkcs12.Elements(value); len(fields) > 0 && fields[0].Tag == asn1.TagBoolean {
				c.authority = 1
			}
		case id.Equal(oidAuthorityKeyID):
			for _, field := range pkcs12.Elements(value) {
				switch field.Tag {
				case 0:
					c.authorityKeyID = field.Bytes
				case 2:
					c.authoritySerial = field.Bytes
				}
			}
		}
	}
}

// selfIssued returns 1 if the certificate names itself as its issuer.
func (c *node) selfIssued() int {
	if c.issuer == c.subject {
		return 1
	}
	return 0
}

// identifies returns 1 if the authority key identifier is that of the issuer, -1 if it is that
// of another certificate, and 0 if one of the two has none.
func (c *node) identifies(issuer *node) int {
	if len(c.authoritySerial) > 0 && !bytes.Equal(c.authoritySerial, issuer.serial) {
		return -1
	}
	switch {
	case len(c.authorityKeyID) == 0 || len(issuer.keyID) == 0:
		return 0
	case bytes.Equal(c.authorityKeyID, issuer.keyID):
		return 1
	}
	return -1
}

// canonicalName returns a text for a Name that is the same for names that RFC 5280 section 7.1
// compares as equal: some authorities write an issuer in another string type, or in another
// case, than it writes itself.
func canonicalName(der []byte) string {
	var out []byte
	for _, rdn := range pkcs12.Elements(der) {
		out = append(out, '/')
		for _, attribute := range pkcs12.Elements(rdn.FullBytes) {
			e := pkcs12.Elements(attribute.FullBytes)
			if len(e) != 2 {
				return string(der)
			}
			value := string(e[1].Bytes)
			if e[1].Tag == asn1.TagBMPString {
				_, _ = asn1.Unmarshal(e[1].FullBytes, &value)
			}
			value = strings.ToLower(strings.Join(strings.Fields(value), " "))
			out = fmt.Appendf(out, "%x=%q,", e[0].Bytes, value)
		}
	}
	return string(append(out, '.'))
}
