package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// sample is what the process uses at one moment of a soak.
type sample struct {
	At         time.Duration
	Goroutines float64
	Files      float64 // descriptors
	RSS        float64 // MiB
	Heap       float64 // MiB in use right after a garbage collection
	Names      float64 // that the suite has made up so far
}

type samples struct {
	names atomic.Int64

	mu  sync.Mutex // guards all
	all []sample
}

func (s *samples) list() []sample {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.all)
}

// sample takes samples until ctx ends.
func (k *soaking) sample(ctx context.Context, begin time.Time, every time.Duration) error {
	for {
		one, err := k.take(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("a sample: %w", err)
		}
		one.At = time.Since(begin)
		k.samples.mu.Lock()
		k.samples.all = append(k.samples.all, one)
		k.samples.mu.Unlock()
		if !wait(ctx, every) {
			return nil
		}
	}
}

func (k *soaking) take(ctx context.Context) (sample, error) {
	s := sample{Names: float64(k.samples.names.Load())}
	heap, err := k.profile(ctx, "heap?gc=1&debug=1")
	if err != nil {
		return s, err
	}
	bytes, err := number(heap, "# HeapAlloc = ")
	if err != nil {
		return s, err
	}
	s.Heap = bytes / (1 << 20)
	goroutines, err := k.profile(ctx, "goroutine?debug=1")
	if err != nil {
		return s, err
	}
	if s.Goroutines, err = number(goroutines, "goroutine profile: total "); err != nil {
		return s, err
	}
	proc := filepath.Join("/proc", strconv.Itoa(k.process().cmd.Process.Pid))
	files, err := os.ReadDir(filepath.Join(proc, "fd"))
	if err != nil {
		return s, err
	}
	s.Files = float64(len(files))
	status, err := os.ReadFile(filepath.Join(proc, "status"))
	if err != nil {
		return s, err
	}
	kib, err := number(string(status), "VmRSS:")
	s.RSS = kib / 1024
	return s, err
}

func (k *soaking) profile(ctx context.Context, name string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, allowance)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address(k.ports.pprof)+"/debug/pprof/"+name, nil)
	if err != nil {
		return "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(response.Body)
	return string(text), errors.Join(err, response.Body.Close())
}

// number is the first number after the words.
func number(text, words string) (float64, error) {
	_, after, found := strings.Cut(text, words)
	if fields := strings.Fields(after); found && len(fields) > 0 {
		return strconv.ParseFloat(fields[0], 64)
	}
	return 0, fmt.Errorf("no %q in what was read", words)
}
