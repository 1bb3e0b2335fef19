package cluster_test

import (
	"testing"
	"time"
)

// suite is all tests. The calm ones run side by side, the others, most of which would disturb
// them, one after the other.
var suite = []struct {
	name string
	run  func(*cluster, *testing.T)
	calm bool
	long bool // left out with -short
}{
	{name: "QuickStart", run: (*cluster).quickStart, calm: true},
	{name: "Files", run: (*cluster).files, calm: true},
	{name: "Examples", run: (*cluster).examples, calm: true},
	{name: "Secrets", run: (*cluster).secrets, calm: true},
	{name: "Synced", run: (*cluster).synced, calm: true},
	{name: "SyncController", run: (*cluster).syncController, calm: true},
	{name: "Found", run: (*cluster).found, calm: true},
	{name: "Failover", run: (*cluster).failover, calm: true},
	{name: "Identities", run: (*cluster).identities, calm: true},
	{name: "Isolation", run: (*cluster).isolation, calm: true},
	{name: "Errors", run: (*cluster).errors, calm: true},
	{name: "Rotation", run: (*cluster).rotation, calm: true},
	{name: "Outages", run: (*cluster).outages, calm: true, long: true},

	{name: "DryRun", run: (*cluster).dryRun},
	{name: "Killed", run: (*cluster).killed},
	{name: "Updated", run: (*cluster).updated},
	{name: "Misconfigured", run: (*cluster).misconfigured},
	{name: "Doctor", run: (*cluster).doctor},
	{name: "Policies", run: (*cluster).policies},
	{name: "Rebooted", run: (*cluster).rebooted},
	{name: "Replaced", run: (*cluster).replaced},
	{name: "Release", run: (*cluster).released, long: true},
	{name: "Crowd", run: (*cluster).crowd, long: true},
	{name: "Uninstalled", run: (*cluster).uninstalled}, // the last
}

func TestCluster(t *testing.T) {
	if unable != "" {
		t.Skip(unable)
	}
	c := newCluster(t)
	if setup.Hold {
		defer c.hold() // before the first cleanup, also if a step fails
	}
	c.installDriver(t)
	c.installPlugin(t)
	group := func(calm bool) func(*testing.T) {
		return func(t *testing.T) {
			for _, test := range suite {
				if test.calm != calm || test.long && testing.Short() {
					continue
				}
				t.Run(test.name, func(t *testing.T) {
					if calm {
						t.Parallel()
					}
					start := time.Now() // without the waiting for its turn
					defer func() {
						t.Logf("%.1f s", time.Since(start).Seconds())
						if t.Failed() {
							c.dump(t)
						}
					}()
					test.run(c, t)
				})
			}
		}
	}
	t.Run("calm", group(true))
	t.Run("storm", group(false))
}
