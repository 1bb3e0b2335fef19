package cluster_test

import (
	"testing"
	"time"
)

// TestCluster is the suite: one cluster, on which the tests of calm run side by side, and
// those of storm, which disturb others, one after the other.
func TestCluster(t *testing.T) {
	if unable != "" {
		t.Skip(unable)
	}
	c := newCluster(t)
	c.installDriver(t)
	c.installPlugin(t)
	type test struct {
		name string
		run  func(*testing.T)
	}
	calm := []test{
		{"QuickStart", c.quickStart},
		{"Files", c.files},
		{"Examples", c.examples},
		{"Secrets", c.secrets},
		{"Isolation", c.isolation},
		{"Errors", c.errors},
		{"Rotation", c.rotation},
	}
	if !testing.Short() {
		calm = append(calm, test{"Outages", c.outages}) // takes more than a minute
	}
	storm := []test{
		{"DryRun", c.dryRun},
		{"Killed", c.killed},
		{"Updated", c.updated},
		{"Misconfigured", c.misconfigured},
		{"Policies", c.policies},
		{"Rebooted", c.rebooted},
		{"Replaced", c.replaced},
		{"Crowd", c.crowd},
		{"Uninstalled", c.uninstalled},
	}
	t.Run("calm", func(t *testing.T) {
		for _, test := range calm {
			t.Run(test.name, func(t *testing.T) {
				t.Parallel()
				timed(t, test.run)
			})
		}
	})
	t.Run("storm", func(t *testing.T) {
		for _, test := range storm {
			t.Run(test.name, func(t *testing.T) { timed(t, test.run) })
		}
	})
}

// timed says how long a test took, without the waiting for its turn.
func timed(t *testing.T, run func(*testing.T)) {
	start := time.Now()
	defer func() { t.Logf("%.1f s", time.Since(start).Seconds()) }()
	run(t)
}
