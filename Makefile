# The targets of this project. CI calls the same ones: see .ci/run.
PLUGIN   := ./cmd/akv-csi-provider
BIN      := bin/akv-csi-provider
FUZZTIME ?= 60s
IMAGE    ?= akv-csi-provider:dev
STATIC   := CGO_ENABLED=0 go build -trimpath -ldflags='-s -w'
LINTER   := $(CURDIR)/bin/staticcheck
# The race detector needs a C compiler.
RACE     := $(shell command -v "$$(go env CC)" >/dev/null && echo -race)

.PHONY: build cross test lint fuzz bench demo image help
help: ## show this list
	@grep -E '^[a-z]+:.*##' Makefile | sed 's/:.*##/\t/'

build: ## the plugin as a static binary, in bin/
	$(STATIC) -o $(BIN) $(PLUGIN)

cross: ## check that it builds for the other platforms
	GOOS=linux GOARCH=arm64 $(STATIC) -o /dev/null $(PLUGIN)
	GOOS=windows GOARCH=amd64 $(STATIC) -o /dev/null $(PLUGIN)

test: ## vet and test both modules, with the race detector
	$(if $(RACE),,@echo 'no C compiler: testing without the race detector')
	go vet ./... && go test $(RACE) ./...
	cd e2e && go vet ./... && go test $(RACE) ./...

lint: cross ## formatting, go.mod, vet for Windows, staticcheck
	@bad=$$(gofmt -l .); test -z "$$bad" || { echo "run gofmt -w on: $$bad"; exit 1; }
	go mod tidy -diff && cd e2e && go mod tidy -diff
	GOOS=windows go vet ./... && cd e2e/mlog && go vet .
	cd e2e/tools && go build -o $(LINTER) honnef.co/go/tools/cmd/staticcheck
	$(LINTER) ./... && cd e2e && $(LINTER) ./...

fuzz: ## every fuzz target for FUZZTIME
	@set -e; for pkg in $$(go list ./...); do \
	  for f in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "== $$pkg $$f"; go test -run='^$$' -fuzz="^$$f\$$" -fuzztime=$(FUZZTIME) -fuzzminimizetime=20x $$pkg; done; done

bench: build ## speed, requests and memory against their targets, on this machine
	cd e2e && go run ./bench --provider=../$(BIN)

demo: build ## the way of a secret from a vault into a pod, on this machine
	cd e2e && go run ./demo --provider=../$(BIN)

image: ## a multi-arch image with docker or podman
	@if docker info >/dev/null 2>&1 && docker buildx version >/dev/null 2>&1; then \
	  set -x; docker buildx build --platform=linux/amd64,linux/arm64 -t $(IMAGE) .; \
	elif podman info >/dev/null 2>&1; then \
	  set -x; podman build --platform=linux/amd64,linux/arm64 --manifest $(IMAGE) .; \
	else echo 'make image needs a running docker with buildx, or podman; there is neither'; exit 1; fi
