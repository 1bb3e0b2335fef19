//go:build race

package plugin

func init() { raceFlags = []string{"-race"} }
