package plugin

import (
	"fmt"
	"time"

	"akv-csi-provider/provider"
	"akv-csi-provider/provider/metrics"
	"akv-csi-provider/provider/server"
)

// cached is a cache of bytes; *keyvault.Reader is one.
type cached interface{ Cached() (entries, bytes int) }

// counted is a cache of entries; *entra.Cache is one.
type counted interface{ Cached() (entries int) }

// state is what the server and the caches say of themselves.
func state(s *server.Server, m *provider.Mounter) metrics.State {
	now := s.State()
	out := metrics.State{Mounts: now.Mounts, Places: now.Places, OldestRotation: now.OldestRotation, NextExpiry: now.NextExpiry,
		Expiring: make(map[string]int), Caches: make(map[string]metrics.Cache)}
	for i, within := range server.Horizons {
		out.Expiring[fmt.Sprintf("%dd", within/(24*time.Hour))] = now.Expiring[i]
	}
	if c, ok := m.Vaults.(cached); ok {
		entries, bytes := c.Cached()
		out.Caches["values"] = metrics.Cache{Entries: entries, Bytes: bytes}
	}
	if c, ok := m.SignIn.(counted); ok {
		out.Caches["tokens"] = metrics.Cache{Entries: c.Cached(), Bytes: -1}
	}
	return out
}
