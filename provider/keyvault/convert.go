package keyvault

import "github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"

// conversion is what the SDK needs to request Object.AsPEM, or nil.
func (o Object) conversion() *azsecrets.GetSecretOptions {
	if !o.AsPEM {
		return nil
	}
	toPEM := azsecrets.ContentTypePEM
	return &azsecrets.GetSecretOptions{OutContentType: &toPEM}
}
