package azuretest

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
)

// SetConverted makes the vault convert the secret of a certificate to this PEM when
// outContentType=application/x-pem-file requests it, in all versions. Without it the vault refuses.
func (v *Vault) SetConverted(name, pem string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.converted == nil {
		v.converted = map[string]string{}
	}
	v.converted[strings.ToLower(name)] = pem
}

// convert returns a secret in the requested content type, as Key Vault does since
// API version 2025-07-01. Earlier versions ignore the parameter.
func (v *Vault) convert(x *exchange, name string, one *version) reply {
	query := x.URL.Query()
	out, api := query.Get("outContentType"), query.Get("api-version")
	if out == "" || len(api) < len("2025-07-01") || api < "2025-07-01" {
		return jsonReply(http.StatusOK, v.header(x), one.body)
	}
	v.mu.RLock()
	pem, ok := v.converted[strings.ToLower(name)]
	v.mu.RUnlock()
	var secret azsecrets.Secret
	if err := json.Unmarshal(one.body, &secret); err != nil {
		panic(err)
	}
	if out != string(azsecrets.ContentTypePEM) || !ok {
		return v.fail(x, http.StatusBadRequest, "BadParameter", "The secret cannot be converted to "+out+".", "")
	}
	secret.Value, secret.ContentType = &pem, &out
	return jsonReply(http.StatusOK, v.header(x), secret)
}
