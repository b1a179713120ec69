# `make demo` and `make test` need Python >= 3.11 and make, nothing else: the environment is built from
# requirements.lock (names, versions, hashes) into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: setup demo test tools envtest sim bench lint format lock clean

setup: $(READY)

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "vipd needs Python 3.11 or newer; set PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "this Python cannot make virtual environments; on Debian: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: setup
	$(BIN)/vipd lab demo --plot lab-out/timeline.svg

test: lint
	$(BIN)/python -m vipd.lab.sandbox $(BIN)/python -m pytest -n 3 --dist loadgroup --no-loadscope-reorder $(ARGS)

# What checks the user data that vipd writes, and what kube-proxy runs, from Debian (as root); the tests that use it are
# skipped without it.
tools:
	@for program in shellcheck cloud-init systemd-analyze ip nft iptables; do \
		command -v $$program >/dev/null || missing=yes; \
	done; \
	[ -z "$$missing" ] || { apt-get update -qq && \
		apt-get install -qq -y shellcheck cloud-init systemd iproute2 nftables iptables >/dev/null; }

# A real kube-apiserver, etcd, kube-proxy, and a rival candidate of client-go, for the tests that are skipped without them: built
# once, into a cache folder.
envtest: setup
	@tests/kube/envtest/provide
	@$(BIN)/python tests/kube/rival_program.py

# More seeds of the simulator than `make test` takes: make sim SEEDS=100000 FIRST=5000; a failing one is told in full.
SEEDS ?= 100000
FIRST ?= 0
sim: setup
	$(BIN)/python -m tests.sim --seeds $(SEEDS) --first $(FIRST)

# What an idle sidecar costs; exit 1 where a limit is passed.
bench: setup
	$(BIN)/python -m vipd.lab.sandbox $(BIN)/python tests/bench/cost.py

lint: setup
	$(BIN)/ruff check vipd tests
	$(BIN)/ruff format --check vipd tests
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix vipd tests
	$(BIN)/ruff format vipd tests

# Only for maintainers: resolves pyproject.toml anew (needs uv).
lock:
	uv pip compile --universal --python-version 3.11 --generate-hashes --all-extras --no-header pyproject.toml -o requirements.lock

clean:
	rm -rf $(VENV) build *.egg-info lab-out
