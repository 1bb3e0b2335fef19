# The targets of this project. CI calls the same ones: see .ci/run.
PLUGIN   := ./cmd/akv-csi-provider
BIN      := bin/akv-csi-provider
TOOL     := bin/kubectl-akv
FUZZTIME ?= 60s
IMAGE    ?= akv-csi-provider:dev
STATIC   := go build -ldflags='-s -w'
# Go's build cache has separate entries for other flags, or with C. The flags of the shipped
# binary are used everywhere, so that a dependency is compiled once for tests, linters and image.
# grpcnotrace omits gRPC's pages for golang.org/x/net/trace, which cannot be reached here, and
# with them html/template, because of which the linker would retain every method.
export CGO_ENABLED := 0
export GOFLAGS := $(strip $(shell go env GOFLAGS) -trimpath -tags=grpcnotrace)
# The modules beside the plugin's own; see e2e/README.md. The tests of e2e/cluster start a
# Kubernetes, so they have a separate target.
MODULES  := cmd/kubectl-akv e2e e2e/policy e2e/watch e2e/tools/image
# The one of these that runs the plugin is tested with the race detector, which needs a C compiler.
WATCHED  := e2e
RACE     := $(shell command -v "$$(CGO_ENABLED=1 go env CC)" >/dev/null && echo -race)
# go vet runs before, with more checks than go test would run.
TEST     := go test -vet=off
WATCH    := $(if $(RACE),CGO_ENABLED=1) $(TEST) $(RACE)
# Long builds run before the timeout of go test starts. E2E_RUN and E2E_HOLD: see e2e/README.md.
CLUSTER  := cd e2e/cluster && $(TEST) ./build ./node && go run ./prepare && $(TEST) -count=1 -v \
            -timeout=$(if $(E2E_HOLD),0,30m) -run='TestCluster/$(or $(E2E_RUN),$(if $(E2E_HOLD),none))'
# Packages that read certificates or connect: in FIPS 140-only mode the standard library panics
# on algorithms that a vault's PFX may use.
FIPS     := ./provider ./provider/keyvault ./provider/kube ./provider/pkcs12 ./provider/render ./provider/transport
DRIVER   := sigs.k8s.io/secrets-store-csi-driver/cmd/secrets-store-csi-driver
LINTER   := $(CURDIR)/bin/staticcheck
ACTIONS  := $(CURDIR)/bin/actionlint
HELM     := $(CURDIR)/bin/helm
HELM3    := $(CURDIR)/bin/helm3
COSIGN   := $(CURDIR)/bin/cosign
# A release: the registry of the image and the chart, the URL of the source, and how PUSH signs
# (a key for cosign, or keyless). PUSH=ghcr.io/contoso is REGISTRY=ghcr.io/contoso, and pushes.
REGISTRY   ?= $(or $(PUSH),registry.example)
SOURCE_URL ?= https://forge.example/akv-csi-provider
RELEASE  := cd e2e/tools/image && go run ./release

.PHONY: build tool cross test drivers lint fuzz bench trust demo image chart manifests release releasetest audit e2e e2e-azure help
help: ## show this list
	@grep -E '^[a-z0-9-]+:.*##' Makefile | sed 's/:.*##/\t/'

build: ## the plugin as a static binary, in bin/
	$(STATIC) -o $(BIN) $(PLUGIN)

tool: ## the kubectl plugin, in bin/, with a link by which kubectl completes its command lines
	cd cmd/kubectl-akv && $(STATIC) -o $(CURDIR)/$(TOOL) .
	ln -sf kubectl-akv bin/kubectl_complete-akv

cross: ## check that it builds for the other platforms
	GOOS=linux GOARCH=arm64 $(STATIC) -o /dev/null $(PLUGIN)
	GOOS=windows GOARCH=amd64 $(STATIC) -o /dev/null $(PLUGIN)

# Tests outside the root module read files that Go's test cache cannot see: -count=1.
test: ## vet and test all modules but the cluster's, with the race detector, and FIPS 140 modes
	$(if $(RACE),,@echo 'no C compiler: testing without the race detector')
	go vet ./... && $(WATCH) ./...
	@set -e; for mode in on only; do echo "== fips140=$$mode"; GODEBUG=fips140=$$mode $(TEST) $(FIPS); done
	@set -e; for m in $(WATCHED); do echo "== $$m"; (cd $$m && go vet ./... && $(WATCH) -count=1 ./...); done
	@set -e; for m in $(filter-out $(WATCHED),$(MODULES)); do echo "== $$m"; (cd $$m && go vet ./... && $(TEST) -count=1 ./...); done

drivers: ## the plugin with older versions of the CSI driver, as programs; minutes the first time
	@set -e; for d in e2e/drivers/v[0-9]*; do echo "== $$d"; (cd $$d && $(STATIC) -o $(CURDIR)/bin/drivers/$${d##*/} $(DRIVER)); done
	cd e2e/drivers && go vet . && DRIVERS=$(CURDIR)/bin/drivers $(TEST) -count=1 .

lint: cross ## formatting, go.mod, vet for Windows, staticcheck, workflows
	@bad=$$(gofmt -l .); test -z "$$bad" || { echo "run gofmt -w on: $$bad"; exit 1; }
	GOOS=windows go vet ./... && cd e2e/mlog && go vet .
	cd e2e/tools/lint && go build -o $(LINTER) honnef.co/go/tools/cmd/staticcheck
	cd e2e/tools/lint && go build -o $(ACTIONS) github.com/rhysd/actionlint/cmd/actionlint
	$(ACTIONS) -shellcheck= -pyflakes= .github/workflows/*.yml
	cd e2e/cluster && go vet ./...
	@set -e; for m in . $(MODULES) e2e/drivers e2e/cluster; do echo "== $$m"; (cd $$m && go mod tidy -diff && $(LINTER) ./...); done

fuzz: ## every fuzz target for FUZZTIME
	@set -e; for m in . cmd/kubectl-akv; do cd $(CURDIR)/$$m; for pkg in $$(go list ./...); do \
	  for f in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "== $$pkg $$f"; go test -run='^$$' -fuzz="^$$f\$$" -fuzztime=$(FUZZTIME) -fuzzminimizetime=20x $$pkg; done; done; done

bench: build ## speed, requests and memory against their targets, on this machine
	cd e2e && go run ./bench --provider=../$(BIN)

trust: build ## attacks on the plugin under the manifests' limits; TRUST=--short for fewer, --soak=1h for a soak
	cd e2e && go run ./trust --provider=../$(BIN) $(TRUST)

demo: build ## watch a secret travel from Key Vault into a pod, on this machine
	cd e2e && go run ./demo --provider=../$(BIN)

image: ## a multi-arch OCI archive and its bills of materials, in bin/; needs no docker
	cd e2e/tools/image && go run . --ref=$(IMAGE)

chart: $(HELM) $(HELM3) ## lint the chart with Helm 3 and 4; check its renderings and deploy/manifests
	@set -e; for helm in $^; do echo "== $$($$helm version --short)"; \
	  $$helm lint --strict --kube-version=1.34.0 --values e2e/chart/testdata/everything.yaml deploy/chart; \
	  (cd e2e && HELM=$$helm $(TEST) -count=1 ./chart); done

manifests: $(HELM) ## render deploy/manifests from the chart
	cd e2e && HELM=$(HELM) $(TEST) -count=1 -run=TestManifests ./chart -update

release: $(HELM) $(if $(PUSH),$(COSIGN)) ## VERSION=v1.2.3 in dist/, equal bytes for equal commits; PUSH=ghcr.io/contoso SIGN=keyless
	$(RELEASE) build --version=$(VERSION) --registry=$(REGISTRY) --url=$(SOURCE_URL) --builder=$(BUILDER) --helm=$(HELM)
	$(if $(PUSH),$(RELEASE) push --sign=$(SIGN) --cosign=$(COSIGN))

releasetest: $(HELM) $(COSIGN) ## build a release twice, push it to a registry on loopback, verify signatures and install it
	cd e2e/tools/image && HELM=$(HELM) COSIGN=$(COSIGN) $(TEST) -count=1 -timeout=40m -run=TestRelease ./release

# govulncheck exits with 3 if it finds something that the plugin can reach.
audit: ## compare modules with go.sum; known vulnerabilities of linked code, if their database can be reached
	go mod verify
	cd e2e/tools/lint && go build -o $(CURDIR)/bin/govulncheck golang.org/x/vuln/cmd/govulncheck
	@text=$$(bin/govulncheck -tags=grpcnotrace $(PLUGIN) 2>&1); code=$$?; echo "$$text"; case "$$code $$text" in \
	  0*) ;; \
	  *fetching\ vulnerabilities*) echo 'SKIPPED: the database of known vulnerabilities cannot be reached';; \
	  *) exit $$code;; esac

e2e: $(HELM) $(COSIGN) ## the plugin in a real Kubernetes that this machine runs (Linux, root)
ifneq ($(E2E_CLUSTER)$(E2E_KUBERNETES)$(E2E_RUN)$(E2E_HOLD),)
	$(CLUSTER)
else
	export E2E_KUBERNETES=1.37 E2E_TOKENS=secrets; $(CLUSTER)
	export E2E_KUBERNETES=1.34 E2E_TOKENS=context; $(CLUSTER) -short
endif

# A separate program, not go run: it cleans up after Ctrl-C, and its exit code says what failed.
e2e-azure: ## quick start, examples and errors in a real Azure subscription; costs money, see e2e/README.md
	cd e2e && go build -o $(CURDIR)/bin/e2e-azure ./azure && exec $(CURDIR)/bin/e2e-azure

# Both are in one module, since they share nearly all dependencies.
$(HELM): HELM_MAJOR := 4
$(HELM3): HELM_MAJOR := 3
$(COSIGN): e2e/tools/cosign/go.mod e2e/tools/cosign/go.sum
	cd e2e/tools/cosign && go build -ldflags='-s -w' -o $@ github.com/sigstore/cosign/v3/cmd/cosign && touch $@
$(HELM) $(HELM3): e2e/tools/helm/go.mod e2e/tools/helm/go.sum
	cd e2e/tools/helm && go build -ldflags='-s -w' -o $@ helm.sh/helm/v$(HELM_MAJOR)/cmd/helm && touch $@
