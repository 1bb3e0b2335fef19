// Package deploy has the troubleshooting guide of this folder, for kubectl akv, which shows it
// offline. The plugin does not link it.
package deploy

import _ "embed"

// Troubleshooting is the text of TROUBLESHOOTING.md.
//
//go:embed TROUBLESHOOTING.md
var Troubleshooting string
