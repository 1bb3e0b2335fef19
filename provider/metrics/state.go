package metrics

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// State is what a process does at one moment. Label values are those of the caller's code.
type State struct {
	Mounts, Places int // in progress, and free
	OldestRotation time.Duration
	NextExpiry     time.Time      // zero for none
	Expiring       map[string]int // certificates, by within which time
	Caches         map[string]Cache
}

// Cache is how much a cache contains. Bytes is negative where they are not counted.
type Cache struct{ Entries, Bytes int }

// Watch serves the state that read returns with each scrape. Call it once.
func (m *Metrics) Watch(read func() State) {
	m.registry.MustRegister(&watcher{read: read, oldest: &m.oldest})
}

var (
	inFlight = prometheus.NewDesc("akv_csi_mounts_in_flight", "Mounts in progress.", nil, nil)
	places   = prometheus.NewDesc("akv_csi_mount_places_left", "Further mounts that would get the whole time limit of --mount-timeout; mounts beyond them get 5 s.", nil, nil)
	rotation = prometheus.NewDesc("akv_csi_oldest_rotation_age_seconds",
		"Time since the last successful mount of the volume that has waited longest for one, of those that the driver mounted in the last 15 minutes; without one since this process started, time since its first failure.", nil, nil)
	expiry = prometheus.NewDesc("akv_csi_certificate_next_expiry_timestamp_seconds",
		"When the first of the certificates expires that are in volumes which the driver mounted in the last 15 minutes; absent without one.", nil, nil)
	expiring = prometheus.NewDesc("akv_csi_certificates_expiring",
		"Certificates in these volumes that expire within that time, or have expired.", []string{"within"}, nil)
	entries = prometheus.NewDesc("akv_csi_cache_entries", "Answers in memory, by cache.", []string{"cache"}, nil)
	size    = prometheus.NewDesc("akv_csi_cache_bytes", "Size of the answers in memory, by cache; --cache-max-bytes limits values.", []string{"cache"}, nil)
	age     = prometheus.NewDesc("akv_csi_oldest_value_served_age_seconds",
		"Age of the oldest value that a mount got in the last 5 to 10 minutes, since its request left: of a cached one at a rotation, or a stale one.", nil, nil)
)

type watcher struct {
	read   func() State
	oldest *oldest
}

// Describe implements prometheus.Collector.
func (w *watcher) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{inFlight, places, rotation, expiry, expiring, entries, size, age} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (w *watcher) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	s := w.read()
	gauge(inFlight, float64(s.Mounts))
	gauge(places, float64(s.Places))
	gauge(rotation, s.OldestRotation.Seconds())
	gauge(age, w.oldest.read(time.Now()).Seconds())
	if !s.NextExpiry.IsZero() {
		gauge(expiry, float64(s.NextExpiry.Unix()))
	}
	for within, n := range s.Expiring {
		gauge(expiring, float64(n), within)
	}
	for name, c := range s.Caches {
		gauge(entries, float64(c.Entries), name)
		if c.Bytes >= 0 {
			gauge(size, float64(c.Bytes), name)
		}
	}
}

// oldest is the largest duration of the last window, and of the one that has begun: a peak is seen by
// each Prometheus that scrapes at least once in a window. It is safe for concurrent use.
type oldest struct {
	mu            sync.Mutex // guards what follows
	begun         time.Time
	before, since time.Duration
}

const window = 5 * time.Minute

func (o *oldest) observe(now time.Time, d time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.turn(now)
	o.since = max(o.since, d)
}

func (o *oldest) read(now time.Time) time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.turn(now)
	return max(o.before, o.since)
}

// turn begins another window, if this one is over. The lock is held.
func (o *oldest) turn(now time.Time) {
	switch past := now.Sub(o.begun); {
	case past < window:
		return
	case past < 2*window:
		o.before = o.since
	default:
		o.before = 0
	}
	o.begun, o.since = now, 0
}
