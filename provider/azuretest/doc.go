// Package azuretest is a fake Azure: Microsoft Entra ID and Azure Key Vault over TLS on loopback, so
// that complete mounts can be tested without an account, a network or a mock.
// Beside them stand what the plugin meets on its node and in its cluster: the node's metadata service
// ([Box.IMDS]), and the API server with the token proxy of AKS ([Cluster.APIServer]).
//
// It is for tests and the demo only; the plugin never links it. It does not import "testing",
// because the demo runs it as a program.
//
// The fake behaves: it verifies assertions against the issuer's published keys, access tokens
// against its own, permissions per client ID, and answers failures in the bodies the real services
// send. An unchanged Azure SDK reaches it in two ways: through [Box.Transport], which dials the fake
// for every name it serves, or through [Box.ProxyURL], a CONNECT proxy that mints a certificate for
// the name asked for (see [Box.Environ] for a separate process).
//
// All methods of the package's types may be called from any goroutine while requests are being
// served. A method that cannot return an error panics when it is given something that cannot work (an
// unknown object type, a key that is no public key): that is a mistake in the test.
package azuretest
