# The one list of checks: CI and people run the same targets.
CARGO ?= cargo
PYTHON ?= python3

# The program with the features that tests need, so that `cargo test` finds all of it built.
BUILD_PROGRAM = $(CARGO) build --locked -p ocelli --test e2e

.PHONY: help test format lint unit codegen test-isa test-neon test-wasm docs faults bench-once bench bench-peers peers-check conformance test-browser notebook test-mpi exchange-torch decode-compare deny soak loom miri fuzz cloud static exchange-large exchange-keras web test-web test-wheel test-clients

help: ## Show the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

test: format lint docs deny bench-once peers-check codegen conformance test-browser notebook test-mpi unit ## All that CI checks; tests last, so that their count is the last line

format: ## Code is formatted
	$(CARGO) fmt --all --check
	$(CARGO) fmt --manifest-path python/Cargo.toml --check

lint: ## No warning from the compiler or clippy
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

docs: ## Documentation builds without a warning
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked

unit: ## All tests; those of kernels on every instruction set of this machine
	$(CARGO) test --workspace --locked --doc
	$(CARGO) test --workspace --locked --tests --no-fail-fast

codegen: ## The inner loops of the kernels in the code that ships: nothing spilled, nothing called
	OCELLI_REQUIRE_CODEGEN=1 $(CARGO) test --release --locked -p ocelli-engine --test codegen

# Kernel, golden and determinism tests run on every instruction set of the machine by themselves; this forces one everywhere.
ISA ?= avx2
test-isa: ## All tests with one instruction set forced: make test-isa ISA=portable
	OCELLI_ISA=$(ISA) OCELLI_REQUIRE_ISA=1 $(CARGO) test --workspace --locked

test-neon: ## The engine's tests on emulated ARM processors: with i8mm, with dotprod, with NEON alone (needs its Rust target, gcc-aarch64-linux-gnu and qemu-user, else skipped out loud; minutes)
	tests/neon/run

test-wasm: ## The engine's tests in WebAssembly, with its vectors and in portable code (needs its Rust target and node, else skipped out loud; minutes)
	CARGO=$(CARGO) tests/wasm/run

faults: ## Kills, swaps, floods and slow clients of the service in their long form; prints what it measured (minutes)
	OCELLI_LONG=1 $(CARGO) test --locked -p ocelli --test e2e service:: -- --nocapture --test-threads=1

bench-once: ## Every benchmark compiled, verified against its oracle and run once
	$(CARGO) test --benches --locked -p ocelli

bench: ## Measure (quiet machine; minutes)
	$(CARGO) bench --locked -p ocelli

bench-peers: ## Measure beside PyTorch, ONNX Runtime and OpenVINO (quiet machine; most of an hour; needs python3)
	benches/peers/run

peers-check: ## The comparison's statistics and reports; installs and measures nothing
	@if command -v $(PYTHON) >/dev/null 2>&1; then \
		$(PYTHON) -B -m unittest discover -s benches/peers -q; \
	else \
		echo "peers-check: SKIPPED: there is no $(PYTHON)" >&2; \
	fi

conformance: ## tritonclient and schemathesis on the service (needs python3 and PyPI, else skipped out loud)
	PYTHON=$(PYTHON) tests/conformance/run --debug

test-browser: ## Every screen of the web page in Chromium (needs node, npm and Chromium, else skipped out loud)
	$(BUILD_PROGRAM)
	tests/browser/run $(CURDIR)/target/debug/ocelli

web: ## Build the program inside of the pages that `export --to web` writes (needs: rustup target add wasm32-unknown-unknown)
	web/build web/ocelli_web.wasm

test-web: ## The page of `export --to web` in Chromium, with the program in the repository and a fresh one (needs node, npm, Chromium and the target wasm32-unknown-unknown, else skipped out loud)
	$(BUILD_PROGRAM)
	tests/browser/web $(CURDIR)/target/debug/ocelli

notebook: ## Every cell of docs/tutorial.ipynb, with the program (needs python3 and PyPI, else skipped out loud)
	PYTHON=$(PYTHON) tests/notebook/run

test-mpi: ## Training by several processes with the real mpirun (needs an MPI library and libclang, else skipped out loud: apt-get install libopenmpi-dev openmpi-bin libclang-dev)
	@if ! command -v mpicc >/dev/null 2>&1 || ! command -v mpirun >/dev/null 2>&1; then \
		echo "test-mpi: SKIPPED: there is no mpicc or mpirun (apt-get install libopenmpi-dev openmpi-bin)" >&2; \
	elif [ -z "$$LIBCLANG_PATH" ] && ! ls /usr/lib*/libclang*.so* /usr/lib*/*/libclang*.so* /usr/lib/llvm-*/lib/libclang*.so* >/dev/null 2>&1; then \
		echo "test-mpi: SKIPPED: there is no libclang (apt-get install libclang-dev)" >&2; \
	else \
		$(CARGO) clippy -p ocelli -p ocelli-pipeline --features mpi --all-targets --locked -- -D warnings && \
		$(CARGO) test --locked -p ocelli --features mpi --test e2e ranks:: -- --test-threads=1; \
	fi

static: ## The whole program as one file without libraries, under the end-to-end tests and alone in a root folder (needs its Rust target and musl-gcc, else skipped out loud; many minutes)
	CARGO=$(CARGO) tests/static/run

exchange-torch: ## State dicts and safetensors beside PyTorch, torchvision and timm (needs python3 and PyPI, else skipped out loud; gigabytes)
	PYTHON=$(PYTHON) exchange/tests/run_torch
test-wheel: ## The Python wheel, built and compared with the program (needs python3 and PyPI, else skipped out loud)
	CARGO=$(CARGO) PYTHON=$(PYTHON) python/tests/run

test-clients: ## Clients that generators make of /openapi.json, on the service (needs python3, node and their package indexes, else skipped out loud)
	CARGO=$(CARGO) PYTHON=$(PYTHON) tests/clients/run --debug

decode-compare: ## The image decoder beside Pillow on a thousand variants (needs python3 and PyPI, else skipped out loud)
	PYTHON=$(PYTHON) tests/decoding/run

deny: ## Licences, sources and advisories of dependencies (needs cargo-deny, else skipped out loud)
	@if $(CARGO) deny --version >/dev/null 2>&1; then \
		$(CARGO) deny check --hide-inclusion-graph bans licenses sources && \
		if $(CARGO) deny fetch db >/dev/null 2>&1; then $(CARGO) deny check advisories; else \
			echo "deny: advisories SKIPPED: their database cannot be fetched" >&2; fi; \
	else \
		echo "deny: SKIPPED: there is no cargo-deny" >&2; \
	fi

cloud: ## Shared stores in S3, GCS and Azure: no warning from the compiler or clippy (minutes)
	$(CARGO) clippy -p ocelli-server --all-targets --features cloud --locked -- -D warnings

SOAK_SECONDS ?= 3600
soak: ## Mixed work on the program that ships, for an hour: flat memory and descriptors
	$(CARGO) build --release --locked
	OCELLI_TEST_PROGRAM=$(CURDIR)/target/release/ocelli OCELLI_SOAK_SECONDS=$(SOAK_SECONDS) \
		$(CARGO) test --locked -p ocelli --test e2e service::soak -- --nocapture

loom: ## The hand-over between threads, in every order in which they can take turns
	RUSTFLAGS="--cfg loom" $(CARGO) test --locked -p ocelli-engine --lib --release --target-dir target/loom parallel::model

miri: ## Undefined behaviour in the engine's unsafe code, portable kernels (needs nightly with miri; minutes)
	MIRIFLAGS="-Zmiri-tree-borrows -Zmiri-ignore-leaks -Zmiri-disable-isolation" OCELLI_ISA=portable \
		$(CARGO) +nightly miri test --locked -p ocelli-engine --lib --target-dir target/miri $(MIRI_TESTS)

exchange-keras: ## Models of keras.applications in, our models opened in Keras 3 (needs python3 and a gigabyte from PyPI, else skipped out loud)
	PYTHON=$(PYTHON) CARGO="$(CARGO)" exchange/tests/keras.sh

exchange-large: ## Networks of torchvision in ONNX, in and out, beside ONNX Runtime; IMAGES=folder or ZIP of 32 photos (needs python3 and PyPI, else skipped out loud)
	PYTHON=$(PYTHON) CARGO=$(CARGO) exchange/tests/large "$(IMAGES)"

FUZZ_SECONDS ?= 600
fuzz: ## Every fuzz target for FUZZ_SECONDS (needs nightly and cargo-fuzz, else skipped out loud)
	fuzz/run $(FUZZ_SECONDS)
