# ovl. `make` alone explains the targets.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# iptables and ip live in sbin, which Debian keeps from ordinary users.
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin
# Static binaries: one file runs on any Linux of its architecture.
export CGO_ENABLED := 0

VERSION ?= $(shell git describe --tags --dirty 2>/dev/null || echo dev)
COMMIT  ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)$(shell test -z "$$(git status --porcelain 2>/dev/null)" || echo -dirty)
STAMP   := github.com/ovlnet/ovl/internal/build
LDFLAGS := -s -w -X $(STAMP).version=$(VERSION) -X $(STAMP).commit=$(COMMIT)

BINARIES := ./controller/cmd/ovl-controller ./node-agent/cmd/ovl-agent $(wildcard ./node-agent/cmd/ovl-cni) ./ovlctl

TOOL          := go tool -modfile=$(CURDIR)/tools/go.mod
GOLANGCI_LINT ?= $(TOOL) golangci-lint
# The kernel is part of what is tested, and no cache knows it.
TESTFLAGS ?= -count=1 -timeout=20m
# A count, not a time: at the end of a time go's fuzzing may report the end itself
# ("context deadline exceeded") as a failure of the target.
FUZZTIME  ?= 15000x
BENCHTIME ?= 5x
# Where the database of known holes is: a mirror's URL, or file:///DIRECTORY.
VULNDB    ?= https://vuln.go.dev

##@ Use
.PHONY: help
help: ## this text
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' Makefile

.PHONY: all
all: build lint test ## build, lint and test

.PHONY: build
build: ## the four static binaries, into bin/
	@go build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)' -o bin/ $(BINARIES)

.PHONY: demo
demo: build need-lab ## three hosts on this machine: networks, containers, pings, isolation, NAT
	@./deploy/demo.sh

# What the image is called; for push, with the registry's name.
IMAGE ?= ovl:$(VERSION)
.PHONY: image
image: build ## a container image of them, into bin/ovl-image.tar
	@go run ./deploy/image -name $(IMAGE) -o bin/ovl-image.tar

##@ Work on it
.PHONY: test
test: build need-test ## all tests that run on one machine; no root needed
# One package at a time: the kernel's input queues (netdev_max_backlog) are shared by
# all namespaces, and a bridge that floods a frame to a thousand ports, as one test
# has it, fills them: packets of another test, which counts its own, would be lost.
	@OVL_BIN_DIR=$(CURDIR)/bin go test -p 1 $(TESTFLAGS) ./...

.PHONY: test-docker
test-docker: build need-docker ## the tests with real Docker engines, one per lab host; as root
	@OVL_BIN_DIR=$(CURDIR)/bin OVL_ENGINE29_DIR=$(wildcard $(CURDIR)/bin/engine29) go test $(TESTFLAGS) -tags docker ./test/docker/...

.PHONY: test-docker-crowd
test-docker-crowd: build need-docker ## 200 containers on each of three engines; minutes
	@OVL_TEST_CROWD=200 OVL_BIN_DIR=$(CURDIR)/bin OVL_ENGINE29_DIR=$(wildcard $(CURDIR)/bin/engine29) go test $(TESTFLAGS) -timeout 60m -tags docker -run 'TestCrowd' ./test/docker/

.PHONY: bench-docker
bench-docker: build need-docker ## docker run and network connect beside the engine's own networks
	@OVL_BIN_DIR=$(CURDIR)/bin OVL_ENGINE29_DIR=$(wildcard $(CURDIR)/bin/engine29) go test -timeout 60m -tags docker -run '^$$' -bench . -benchtime 15x ./test/docker/

# The engine that Debian has not yet, from Go modules: five minutes of one core when cold.
.PHONY: engine29
engine29: ## Docker engine 29 for test-docker, into bin/engine29
	@cd test/docker/engine29 && go build -trimpath -ldflags '-s -w' -o $(CURDIR)/bin/engine29/ github.com/moby/moby/v2/cmd/dockerd github.com/moby/moby/v2/cmd/docker-proxy
	@cd test/docker/engine29 && CGO_ENABLED=1 go build -trimpath -o $(CURDIR)/bin/engine29/runc github.com/opencontainers/runc

# The containerd that Debian has not yet, from Go modules: two minutes of one core when
# cold, then kept in go's cache. Without snapshotters of file systems that no test has.
CONTAINERD2 := $(CURDIR)/bin/containerd2
.PHONY: containerd2
containerd2: ## containerd 2 for test-runtimes and test-kubernetes, into bin/containerd2
	@cd test/containerd/two && go build -trimpath -buildvcs=false -ldflags '-s -w' -tags no_btrfs,no_devmapper,no_zfs -o $(CONTAINERD2)/ \
		$(addprefix github.com/containerd/containerd/v2/cmd/,containerd containerd-shim-runc-v2 ctr)

# Building Kubernetes takes minutes the first time; it is kept in go's cache.
KUBE ?= $(CURDIR)/bin/test/kube
.PHONY: test-runtimes
test-runtimes: build need-runtimes containerd2 ## the tests with containerd, Podman, LXC and systemd-nspawn; as root
	@OVL_BIN_DIR=$(CURDIR)/bin OVL_CONTAINERD2_DIR=$(CONTAINERD2) go test $(TESTFLAGS) -tags runtimes ./test/runtimes/...
	@OVL_BIN_DIR=$(CURDIR)/bin OVL_GUIDES=runtimes go test $(TESTFLAGS) -run Guides ./test/guide

.PHONY: test-kubernetes
test-kubernetes: build need-kubernetes containerd2 ## a real Kubernetes in a lab, with ovl as its network; as root
	@cd test/kubernetes/kube && go build -trimpath -buildvcs=false -ldflags '-s -w' -o $(KUBE) .
	@OVL_BIN_DIR=$(CURDIR)/bin OVL_CONTAINERD2_DIR=$(CONTAINERD2) OVL_KUBE=$(KUBE) go test -tags kubernetes $(TESTFLAGS) ./test/kubernetes/...

.PHONY: bench
bench: build need-bench ## what docs/benchmarks.md reports; as root, takes minutes
	@go build -C test/cni/reference -o $(CURDIR)/bin/reference/ tool
	@OVL_BIN_DIR=$(CURDIR)/bin go test $(TESTFLAGS) -run='^$$' -bench=. -benchtime=$(BENCHTIME) ./test/bench/...

.PHONY: fuzz
fuzz: ## each fuzz target FUZZTIME times (15000x)
	@./.ci/fuzz $(FUZZTIME)

.PHONY: lint
lint: ## golangci-lint (with the arrows between rooms), buf lint
	@$(GOLANGCI_LINT) run --allow-parallel-runners
	@./.ci/sleeps
	@cd proto && $(TOOL) buf lint

.PHONY: vuln
vuln: ## govulncheck: known holes in what is called of our dependencies; needs VULNDB (https://vuln.go.dev)
	@$(TOOL) govulncheck -db '$(VULNDB)' ./...

.PHONY: fmt
fmt: ## gofumpt on everything, buf format on the wire
	@$(TOOL) gofumpt -l -w .
	@cd proto && $(TOOL) buf format -w

.PHONY: generate
generate: ## the Go beside the .proto files
	@cd proto && $(TOOL) buf lint && $(TOOL) buf generate

.PHONY: check-dirty
check-dirty: generate ## generated files and go.mod are as the tools would write them
	@git diff --exit-code --stat -- proto || { echo 'generated files differ: run `make generate` and commit' >&2; exit 1; }
	@test -z "$$(git status --porcelain -- proto)" || { git status --short -- proto; echo 'generated files are not committed' >&2; exit 1; }
	@go mod tidy -diff || { echo 'go.mod differs: run `go mod tidy` and commit' >&2; exit 1; }
	@go mod verify

.PHONY: clean
clean: ## what make made
	@rm -rf bin man

.PHONY: man
man: build ## manual pages, into man/
	@mkdir -p man && ./bin/ovlctl man man

.PHONY: need-lab need-test need-bench need-docker need-kubernetes need-runtimes
need-lab need-test need-bench need-docker need-kubernetes need-runtimes: need-%:
	@./deploy/need.sh $*
