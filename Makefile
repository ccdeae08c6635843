# Sampan: `make demo` shows it, `make test` tests it, `make help` lists the rest.
SHELL      := /bin/bash
MAKEFLAGS  += --no-print-directory
VERSION    ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
DATA       ?= data
GO         ?= go
INIT       := engine/internal/initbin/bin/sampan-init
files       = $(wildcard $(shell git ls-files -co --exclude-standard $(1)))
SOURCES     = $(call files,'*.go' '*.c' '*.html' '*.css' '*.js' '*.json' '*.sql' '*.svg' '*.txt' go.mod go.sum)

# One build cache for building and testing: the main program needs no C compiler at run time
# or at link time; sampan-init alone is linked with one.
export CGO_ENABLED := 0

.PHONY: help demo run build test test-go test-race test-v2 test-power test-engine-peer bench-engine lint fuzz bench bench-once setup setup-build setup-vm clean screenshots

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: setup-build build ## push a real app to a fresh server and keep it running until Ctrl-C
	@scripts/demo

run: setup-build build ## serve on ./data (DATA=dir for another)
	@bin/sampan serve --data $(DATA)

build: bin/sampan ## bin/sampan, one file that carries all that it needs

bin/sampan: $(INIT) $(SOURCES)
	@mkdir -p bin
	$(GO) build -ldflags '-s -w -X main.version=$(VERSION)' -o $@ ./cmd/sampan

$(INIT): $(call files,engine/cmd engine/internal/supervisor engine/internal/spec) go.mod
	@mkdir -p $(@D)
	CGO_ENABLED=1 $(GO) build -trimpath -tags 'netgo osusergo' -ldflags '-s -w -linkmode external -extldflags -static' -o $@ ./engine/cmd/sampan-init

test: setup build ## everything, from a clean checkout
	$(GO) vet ./...
	$(GO) test ./...

test-race: setup build ## the same under the race detector
	GORACE=suppressions=$(CURDIR)/scripts/races CGO_ENABLED=1 $(GO) test -race -short ./...

test-v2: setup-vm build ## the engine on a kernel with cgroup v2 alone, in a virtual machine
	@scripts/test-v2

test-power: setup-vm setup build ## cut the power of a virtual machine (CUTS=10) and count what is lost
	SAMPAN_POWER=$${CUTS:-10} $(GO) test -count=1 -timeout 60m -run TestPowerCut -v ./test

test-engine-peer: build ## the stories about Docker, told to a Docker daemon (DOCKERD=path for another)
	@scripts/setup peer
	@scripts/engine-peer

lint: ## staticcheck and govulncheck
	@scripts/lint

fuzz: ## every fuzz test for a few seconds (FUZZTIME=5s)
	@scripts/fuzz $${FUZZTIME:-5s}

bench: setup build ## the figures, with the peers in the same run
	@scripts/bench

bench-engine: setup build ## the figures of the engine, beside a Docker daemon (DOCKERD=path for another)
	@scripts/setup peer
	@scripts/bench-engine

bench-once: setup build ## every benchmark once, to see that it works
	@scripts/bench once

screenshots: setup build ## the pages at 360 and 1440 px, light and dark, into .cache/screenshots
	@scripts/screenshots

setup: ## install what the tests need (Debian packages, Docker's plugins)
	@scripts/setup test
	@scripts/clients

setup-vm:
	@scripts/setup vm

setup-build: ## install what building and serving needs
	@scripts/setup build

clean: ## remove what was built, not ./data
	rm -rf bin $(INIT)
