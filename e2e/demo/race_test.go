//go:build race

package main

// The plugin's process is watched for races when its tests are.
func init() { buildFlags = append(buildFlags, "-race") }
