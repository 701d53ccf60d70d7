# Volary: `make demo` shows the whole product, `make test` runs every check. Both install what is missing first.
#
# CARGO_TARGET_DIR is respected. There is one cargo profile, --release, for demo, tests and CI alike,
# so the dependencies compile once.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

TARGET := $(or $(CARGO_TARGET_DIR),target)
VOLARY := $(abspath $(TARGET))/release/volary
VENV := .venv
PYTHON := $(VENV)/bin/python
# What a build, the Python environment and the demo need of a Debian system.
PACKAGES := build-essential pkg-config libopenblas-dev

.PHONY: help
help:
	@echo 'make demo      three servers, real data: upload, SQL, training, prediction, scoring (under two minutes once built)'
	@echo 'make test      every check: format, clippy, Rust tests, Python, Java and Go tests, conformance, the demo in short form'
	@echo 'make conformance  the Flight clients of Arrow in Go, Java and C++ against its integration scenarios'
	@echo 'make build     the program: $(VOLARY)'
	@echo 'make spark-jar the jar with which models answer inside the JVM of the PySpark that is installed in $(VENV)'
	@echo 'make bench     benchmarks, written to docs/benchmarks'
	@echo 'make lint      format check and clippy with warnings denied'
	@echo 'make format    cargo fmt'
	@echo 'make setup     system libraries and the Python environment in $(VENV)'

# -- what is missing ---------------------------------------------------------------------------------------------

.PHONY: setup system-libraries
setup: system-libraries $(VENV)/ready

system-libraries:
	@missing=''; \
	command -v cc >/dev/null && command -v make >/dev/null || missing="$$missing build-essential"; \
	command -v pkg-config >/dev/null || missing="$$missing pkg-config"; \
	pkg-config --exists openblas 2>/dev/null || missing="$$missing libopenblas-dev"; \
	python3 -c 'import ensurepip' 2>/dev/null || missing="$$missing python3-venv"; \
	command -v cargo >/dev/null || { echo 'Rust is missing: install it from https://rustup.rs (1.95 or later)'; exit 1; }; \
	if [ -n "$$missing" ]; then \
		command -v apt-get >/dev/null || { echo "missing:$$missing; install them with this system's package manager"; exit 1; }; \
		as_root=''; [ "$$(id -u)" = 0 ] || as_root=sudo; \
		echo "installing with apt:$$missing"; \
		$$as_root apt-get update -qq; \
		DEBIAN_FRONTEND=noninteractive $$as_root apt-get install -y -qq --no-install-recommends $$missing; \
	fi

# The clients for Java and Spark are tested with these. Whoever has not got them can do everything else.
.PHONY: java-tools
java-tools:
	@missing=''; \
	command -v javac >/dev/null || missing="$$missing openjdk-17-jdk-headless"; \
	command -v mvn >/dev/null || missing="$$missing maven"; \
	if [ -n "$$missing" ] && command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
		echo "installing with apt:$$missing"; \
		{ apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; } || \
			echo "not to be had:$$missing; the tests that need Java are passed over"; \
	elif [ -n "$$missing" ]; then echo "missing:$$missing; the tests that need Java are passed over"; fi

# The environment is made anew when what it holds has changed.
$(VENV)/ready: python-client/pyproject.toml | system-libraries
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'Python 3.11 or later is needed'; exit 1; }
	python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -e 'python-client[all,test]'
	@touch $@

# -- building ----------------------------------------------------------------------------------------------------

.PHONY: build announce-first-build
build: system-libraries announce-first-build
	cargo build --release --bin volary

announce-first-build:
	@if ! ls $(TARGET)/release/deps/libdeltalake_core-*.rlib >/dev/null 2>&1; then \
		echo 'First build: it compiles Arrow, DataFusion and delta-rs and takes up to 35 minutes on two cores. Later ones take seconds to minutes.'; \
	fi

# For the Spark in the environment: its own jars are what the operator is compiled against. Maven fetches Scala and Arrow Flight
# once (about a minute); after that this takes half a minute, and nothing while the sources stay as they are.
.PHONY: spark-jar
spark-jar: setup java-tools
	@spark=$$($(PYTHON) -c 'import pyspark; print(pyspark.__version__)'); \
	jars=$$($(PYTHON) -c 'import pathlib, pyspark; print(pathlib.Path(pyspark.__file__).parent / "jars")'); \
	of() { basename "$$(ls $$jars/$$1-[0-9]*.jar)" .jar | sed "s/^$$1-//"; }; \
	jar="python-client/src/volary/spark/jars/volary-spark-$$spark.jar"; \
	java=$$(javac -version 2>&1 | sed -n 's/^javac \([0-9]*\).*/\1/p'); \
	if [ -e "$$jar" ] && [ -z "$$(find python-client/jvm/pom.xml python-client/jvm/src -newer "$$jar")" ]; then exit 0; fi; \
	if ! command -v mvn >/dev/null || [ "$${java:-0}" -lt 17 ]; then \
		echo 'the jar for Spark passed over: there is no Maven or no JDK of Java 17 or later'; \
	elif [[ "$$spark" != 4.3.* ]]; then echo "the jar for Spark passed over: it is for 4.3, and pyspark is $$spark here"; \
	else echo "building $$jar"; mvn -B -q -f python-client/jvm/pom.xml package \
		-Dspark.version="$$spark" -Dspark.jars="$$jars" -Dscala.version="$$(of scala-library)" -Darrow.version="$$(of arrow-vector)"; fi

# -- using it ----------------------------------------------------------------------------------------------------

.PHONY: demo demo-short
demo: setup build
	VOLARY_BIN=$(VOLARY) $(PYTHON) examples/census.py

demo-short: setup build
	VOLARY_BIN=$(VOLARY) $(PYTHON) examples/census.py --quick

# -- checking it -------------------------------------------------------------------------------------------------

.PHONY: test rust-tests python-tests java-tests go-tests conformance lint format format-check clippy
# In this order: the fastest answer first.
test:
	@$(MAKE) --no-print-directory setup java-tools announce-first-build
	@$(MAKE) --no-print-directory format-check
	@$(MAKE) --no-print-directory clippy
	@$(MAKE) --no-print-directory rust-tests
	@$(MAKE) --no-print-directory python-tests
	@$(MAKE) --no-print-directory go-tests
	@$(MAKE) --no-print-directory java-tests
	@$(MAKE) --no-print-directory conformance
	@$(MAKE) --no-print-directory demo-short
	@echo 'all checks passed'

# Our own crate is compiled unoptimized here: half the time, and the same bits, since Rust never reorders float arithmetic.
# The optimized program is what the Python tests and the demo run, the comparison of weights among clusters included.
rust-tests: system-libraries
	cargo test --release --config 'profile.release.package.volary.opt-level=0'

python-tests: setup build spark-jar
	cd python-client && VOLARY_BIN=$(VOLARY) $(abspath $(PYTHON)) -m pytest -q tests

# Clients in Go ask the program as anybody's would. A toolchain is not fetched: one that is too old counts as none.
go-tests: build
	@wanted=$$(sed -n 's/^go //p' tests/go/go.mod); \
	found=$$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null | sed 's/^go//' || true); \
	if [ -z "$$found" ]; then echo "Go tests passed over: there is no go here; $$wanted or later is needed"; \
	elif [ "$$(printf '%s\n' "$$wanted" "$$found" | sort -V | head -n 1)" != "$$wanted" ]; then \
		echo "Go tests passed over: go is $$found here; $$wanted or later is needed"; \
	else cd tests/go && VOLARY_BIN=$(VOLARY) GOTOOLCHAIN=local go test -count=1 ./...; fi

# Maven fetches Arrow's client and driver once; after that this takes about a minute.
java-tests: java-tools build
	@version=$$(javac -version 2>&1 | sed -n 's/^javac \([0-9]*\).*/\1/p'); \
	if command -v mvn >/dev/null && [ "$${version:-0}" -ge 17 ]; then \
		VOLARY_BIN=$(VOLARY) mvn -B -q -f examples/java/pom.xml test; \
	else echo 'Java tests passed over: there is no Maven or no JDK of Java 17 or later'; fi

# The example is built by rust-tests already. Clients are fetched and built once; docs/conformance.md.
conformance: setup java-tools
	cargo build --release --config 'profile.release.package.volary.opt-level=0' --example conformance
	$(PYTHON) tests/conformance/run.py --server $(TARGET)/release/examples/conformance --cache $(TARGET)/conformance --files

lint: format-check clippy

format:
	cargo fmt

format-check:
	@if cargo fmt --version >/dev/null 2>&1; then cargo fmt --check; \
	else echo 'format check passed over: this toolchain has no rustfmt'; fi

# `cargo clippy` would compile every dependency once more for its metadata (12 minutes on two cores). Run in rustc's place
# in a build instead, clippy shares the dependencies that are there; our own crate alone is compiled again, unoptimized.
clippy: system-libraries
	@if clippy-driver --version >/dev/null 2>&1; then \
		RUSTC_WORKSPACE_WRAPPER=$(abspath .ci/clippy) cargo build --release --all-targets \
			--config 'profile.release.package.volary.opt-level=0'; \
	else echo 'clippy passed over: this toolchain has none'; fi

# -- measuring it ------------------------------------------------------------------------------------------------

.PHONY: bench
bench: setup build spark-jar
	VOLARY_BIN=$(VOLARY) $(PYTHON) benches/run.py
