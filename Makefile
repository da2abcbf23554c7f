# Every target sets up what it needs: Python >= 3.11 and make are enough.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
UV := UV_PROJECT_ENVIRONMENT=.venv $(BIN)/uv
UV_VERSION := $(shell sed -n '/^name = "uv"$$/{n;s/version = "\(.*\)"/\1/p;}' uv.lock)
SOURCES := operator workers local tests docs benchmarks release
# What the images are called: REGISTRY=registry.example.com/mail make images
VERSION := $(shell sed -n 's/^version = "\(.*\)"$$/\1/p' pyproject.toml)
REGISTRY ?= docker.io/library
TAG ?= $(VERSION)
IMAGE_ARGS = --build-arg VERSION=$(VERSION) --build-arg REVISION=$(shell git rev-parse HEAD 2>/dev/null || echo unknown)
ENGINE ?= $(firstword $(foreach name,docker podman,$(if $(shell command -v $(name)),$(name))))

.PHONY: help setup demo test test-unit test-cluster test-deps test-tools bench bench-chaos bench-limits \
  bench-scaling bench-operator lint fmt docs docs-serve test-images dist sbom audit images kind-up kind-demo kind-down ci clean

help: ## Show this help.
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

setup: .venv/.ready ## Make .venv from uv.lock.

.venv/.ready: uv.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Postfleet needs Python 3.11 or newer; name one with: make PYTHON=python3.12 …" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@$(UV) sync --frozen --all-extras --inexact --compile-bytecode --quiet
	@touch $@

demo: setup ## Send a campaign of 10,000 mails through a fleet of workers on this machine.
	@$(BIN)/postfleet-local demo $(ARGS)

test: setup ## Run everything that needs no cluster.
	PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -n 4 --dist worksteal $(ARGS)

test-unit: setup ## Run the tests that take milliseconds.
	$(BIN)/pytest tests/unit $(ARGS)

test-cluster: setup test-deps ## Run charts and operator with real Helm and a real API server, with pods as processes.
	$(BIN)/pytest tests/helm tests/cluster -n 2 --dist worksteal $(ARGS)

test-tools: ## Get Prometheus, which the tests of alerts and the dashboard need, from Debian's package.
	-@$(PYTHON) tests/prometheus_tools.py >/dev/null

test-deps: test-tools ## Build the API server, etcd and Helm for test-cluster, once; needs Go, or KUBEBUILDER_ASSETS and HELM.
	@$(PYTHON) tests/cluster/assets.py

bench: setup ## Measure emails a second beside bare loops, Dramatiq, Celery and taskiq; ARGS="--only postfleet,bare".
	@$(UV) sync --frozen --all-extras --inexact --group bench --quiet
	@$(BIN)/python benchmarks/throughput.py $(ARGS)

bench-chaos: setup ## Send a campaign while everything breaks, and count what was lost, doubled or left unknown.
	@$(BIN)/python benchmarks/chaos.py $(ARGS)

bench-limits: setup ## Hold what arrives at a server against the limits that it was sent under.
	@$(BIN)/python benchmarks/limits.py $(ARGS)

bench-scaling: setup ## Compare the scaling policies on every shipped trace.
	@$(BIN)/python benchmarks/scaling.py $(ARGS)

bench-operator: setup test-deps ## Measure the operator with 500 pools and 200 nodes on a real API server.
	@$(BIN)/python benchmarks/operator_scale.py $(ARGS)

lint: setup ## Check style, types and the architecture.
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check --quiet $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: setup ## Format the code.
	$(BIN)/ruff check --fix --quiet $(SOURCES) || true
	$(BIN)/ruff format --quiet $(SOURCES)

docs: setup ## Build the site of docs/ into site/; a link that leads nowhere fails it.
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

docs-serve: setup ## Show that site while you write, on http://127.0.0.1:8000.
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve --livereload

images: ## Build the images postfleet-operator and postfleet-worker; needs Docker or podman.
	@{ test -n "$(ENGINE)" && $(ENGINE) info >/dev/null 2>&1; } || \
	  { echo "images: needs Docker or podman, running (https://docs.docker.com/get-started/get-docker)" >&2; exit 2; }
	$(ENGINE) build -f operator/Dockerfile -t $(REGISTRY)/postfleet-operator:$(TAG) $(IMAGE_ARGS) .
	$(ENGINE) build -f workers/Dockerfile -t $(REGISTRY)/postfleet-worker:$(TAG) $(IMAGE_ARGS) .

kind-up: ## Make a cluster on this machine with everything in it; needs Docker, kind, kubectl and Helm.
	@$(PYTHON) examples/02-kind/kind.py up $(ARGS)

kind-demo: ## Send a campaign through that cluster and report.
	@$(PYTHON) examples/02-kind/kind.py demo $(ARGS)

kind-down: ## Delete that cluster.
	@$(PYTHON) examples/02-kind/kind.py down $(ARGS)

test-images: setup ## Check Dockerfiles, workflows and what goes into the images, without an engine; needs Go.
	$(BIN)/pytest tests/images $(ARGS)

dist: setup ## Build sdist and wheel into dist/, the same bytes for the same commit.
	@$(BIN)/python release/release.py dist

sbom: setup ## Write a CycloneDX bill of materials for each image into dist/.
	@$(BIN)/python release/release.py sbom

audit: setup ## Check the licenses and, asking PyPI, the known vulnerabilities of what the images hold.
	@$(BIN)/python release/release.py audit $(ARGS)

ci: ## Run the gate that CI runs.
	bash .ci/run

clean: ## Remove .venv and caches.
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist site
