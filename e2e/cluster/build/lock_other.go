//go:build !unix

package build

import "os"

// flock does nothing: where no node can run, the folder is not shared.
func flock(*os.File, bool) (bool, error) { return true, nil }
