//go:build !unix

package build

import "os"

// flock does nothing: where no node can run, nobody shares the folder.
func flock(*os.File, bool) (bool, error) { return true, nil }
