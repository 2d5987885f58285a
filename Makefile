# Everything runs from a fresh clone: `make test` makes its own virtual environment.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help venv demo test apiserver bench-floor bench-rivals bench-scale check unit conformance model explore judgement campaign mutation cluster-test cluster-test-long cluster cluster-down images image manifests bench-blocking bench-placement bench-plan bench-quarantine bench-recovery bench-replay bench-spares record-restart scenario-seeds simulation soak lock clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: venv  ## a thousand simulated ranks survive a fault, a dark machine and a crash of the controller
	$(BIN)/fleetctl replay scenarios/demo.yaml

TESTS := venv check unit conformance model simulation apiserver cluster-test

test:  ## everything that must pass, one after the other; the kind cluster comes last: idle, it takes half a core
	@trap 'printf "== took\n%s%6d s  all\n" "$$took" $$SECONDS' EXIT; for each in $(TESTS); do \
	  echo "== make $$each"; began=$$SECONDS; $(MAKE) --no-print-directory $$each || exit; \
	  took+=$$(printf '%6d s  make %s' $$((SECONDS - began)) $$each)$$'\n'; \
	done

$(VENV)/installed: requirements-dev.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "fleetctl needs Python 3.11 or newer: make PYTHON=python3.x")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --require-hashes -r requirements-dev.lock
	$(BIN)/pip install -q --no-deps -e .
	touch $@

venv: $(VENV)/installed  ## make the virtual environment

check: venv  ## format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy -p fleetctl
	$(BIN)/lint-imports

unit: venv  ## unit, property and protocol tests
	$(BIN)/pytest -n auto tests/unit

conformance: venv  ## the simulated API server against a real kube-apiserver, with the same tests
	$(BIN)/pytest tests/conformance

apiserver: venv  ## scenarios, the client's troubles and two controllers, on a real API server in real time
	$(BIN)/pytest -n 4 tests/apiserver tests/scale

model: venv  ## everything that can happen to two ranks and two controllers, within bounds
	$(BIN)/pytest -n auto --dist worksteal tests/model

explore: venv  ## the same with larger bounds and three ranks: hours; says how many states there are
	$(BIN)/python -m tests.model.explore

simulation: venv  ## every scenario in the simulated cluster, campaigns, crash matrix, ablations, judgement
	$(BIN)/pytest -n auto --dist worksteal --timeout 600 tests/simulation tests/judgement

judgement: venv  ## how often a thousand random incidents, with noise in the evidence, are judged rightly: in a table
	$(BIN)/python -m tests.judgement --seeds 1..1000

SEEDED := segmentation-fault gpu-falls-off-the-bus hardware-evidence-at-the-barrier hardware-evidence-after-the-release \
  application-xids our-own-xids node-goes-dark-64 zombie-returns-64 switch-reboots switch-dies \
  switch-reboots-and-peers-abort peers-abort-before-the-switch-is-missed flap-shower silent-hang straggler lemon \
  bad-spare slow-spare spares-exhausted crash-loop slow-poison dies-often-after-a-checkpoint one-slow-restart \
  containers-never-return-64 image-pull-cliff two-racks-lose-nodes controller-dies-mid-recovery-64 broken-health-check
WHOLE := one-rank-segfaults node-goes-dark zombie-returns doomed-job containers-never-return controller-dies-mid-recovery

scenario-seeds: venv  ## the twenty scenarios (README), 200 seeds of each and 50 that were held out, and 20 at 1,024 ranks: hours
	$(BIN)/fleetctl replay $(SEEDED:%=scenarios/%.yaml) --seeds 1..200
	$(BIN)/fleetctl replay $(SEEDED:%=scenarios/%.yaml) --seeds 5001..5050
	$(BIN)/fleetctl replay $(WHOLE:%=scenarios/%.yaml) --seeds 1..20

campaign: venv  ## a hundred thousand random worlds: a night on two cores; may be stopped, and goes on where it was
	mkdir -p build
	$(BIN)/fleetctl replay --campaign --seeds 1..100000 --progress build/campaign

mutation: venv  ## change the deciding modules in every small way, and see whether a test notices: half an hour
	$(PYTHON) -m venv build/mutation
	build/mutation/bin/pip install -q --require-hashes -r requirements-dev.lock -r tests/mutation/requirements.lock
	build/mutation/bin/python tests/mutation/run.py

cluster-test: venv  ## the tests on a real kind cluster; skipped, with the reason, where kind cannot run
	tests/kind/test $(BIN)/pytest tests/cluster

cluster-test-long: venv  ## their long forms too: minutes of darkness, and every point at which a controller may die
	FLEETCTL_LONG_TESTS=1 tests/kind/test $(BIN)/pytest tests/cluster

cluster: ## bring up the kind cluster of the tests (4 workers)
	tests/kind/up

cluster-down: ## remove every trace of it
	tests/kind/down

images: venv  ## build fleetctl:test and the test images, load them into the cluster
	tests/kind/images

image: venv  ## build the image fleetctl:0.1.0 with the Docker engine that is here
	rm -rf build/wheels
	$(BIN)/pip wheel -q --no-deps -w build/wheels .
	$(BIN)/pip download -q -d build/wheels/locked -r requirements.lock --only-binary :all: \
	  --python-version 3.13 --platform manylinux_2_28_$$(uname -m) --platform manylinux2014_$$(uname -m)
	docker build -t fleetctl:0.1.0 .

manifests: venv  ## write manifests/crd.yaml and the scenarios' schema and tables from the types
	$(BIN)/fleetctl crd >manifests/crd.yaml
	$(BIN)/fleetctl scenario schema >scenarios/schema.json
	$(BIN)/python -m fleetctl.scenario.reference scenarios/README.md

bench-recovery: cluster images  ## measure recoveries against the floor of this machine
	tests/kind/enter $(BIN)/python tests/cluster/bench_recovery.py

bench-plan: venv  ## how long one decision takes over 10,240 members
	$(BIN)/python tests/simulation/bench_plan.py

bench-blocking: venv  ## the longest that the controller's event loop is blocked, by everything it does for 10,240 ranks
	$(BIN)/python tests/simulation/bench_blocking.py

bench-placement: venv  ## how long it takes to place 64 lost ranks on 256 spares, beside the naive flow
	$(BIN)/python tests/simulation/bench_placement.py

bench-quarantine: venv  ## how long it takes until 100 and 750 nodes that go bad at once are quarantined: simulated
	$(BIN)/python tests/simulation/bench_quarantine.py

bench-rivals: venv  ## what others' recoveries cost a real API server (RANKS=256)
	$(BIN)/python -m tests.scale.rivals --ranks $(or $(RANKS),256)

bench-scale: venv  ## fleetctl's recoveries on a real API server, beside JobSet's protocol and recreating all (RANKS=1024)
	KUBEBUILDER_ASSETS=$${KUBEBUILDER_ASSETS:-$$(tests/conformance/programs)} \
	  $(BIN)/python -m tests.scale.bench_scale --ranks $(or $(RANKS),1024) --times $(or $(TIMES),20)

bench-floor: venv  ## what this machine takes for the least that a rendezvous must do: TLS, a line in, a line out (RANKS=1024)
	$(BIN)/python -m tests.scale.bench_floor --ranks $(or $(RANKS),1024)

bench-spares: cluster images  ## how long until all ranks run again after docker kill of a node, with a spare and without
	tests/kind/enter $(BIN)/python tests/cluster/bench_spares.py

bench-replay: venv  ## measure how the cost of a simulated replay grows with the gang
	$(BIN)/python tests/simulation/bench_replay.py

soak: export RANKS ?= 1024
soak: export MINUTES ?= 20
soak: venv  ## a fault every 30 s for MINUTES=20 at RANKS=1024, on a real API server: nothing in the controllers grows
	$(BIN)/pytest -q -s tests/apiserver/test_soak.py

record-restart: cluster images  ## record what real kubelets tell of a restart in place, for the simulation's test
	tests/kind/enter $(BIN)/python tests/cluster/record_restart.py

lock: venv  ## pin the dependencies anew
	$(BIN)/uv pip compile -q --universal --generate-hashes --no-header --no-annotate pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile -q --universal --generate-hashes --no-header --no-annotate --group dev pyproject.toml \
	  -o requirements-dev.lock

clean:  ## remove what was built here
	rm -rf $(VENV) build dist
