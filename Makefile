# The one list of checks: CI and people run the same targets.
CARGO ?= cargo

.PHONY: help test format lint unit isa docs bench-once bench deny

help: ## Show the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

test: format lint docs bench-once isa unit ## Everything CI checks (the tests come last, so that their count is the last line)

format: ## Code is formatted
	$(CARGO) fmt --all --check

lint: ## No warning from the compiler or clippy
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

docs: ## Documentation builds without a warning
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked

unit: ## All tests, on the best instruction set of this machine
	$(CARGO) test --workspace --locked

# The kernel tests run on every instruction set in any case; this runs the rest of the engine on each one below the best.
isa: ## The engine and the golden trajectories on every instruction set of this machine
	set -e; for isa in $$($(CARGO) run --quiet --locked -- doctor --isas); do \
		echo "== OCELLI_ISA=$$isa"; \
		OCELLI_ISA=$$isa OCELLI_REQUIRE_ISA=1 $(CARGO) test --quiet --locked -p ocelli-engine --lib; \
		OCELLI_ISA=$$isa $(CARGO) test --quiet --locked --test e2e -- golden determinism; \
	done

bench-once: ## Every benchmark compiled, verified against its oracle and run once
	$(CARGO) test --benches --locked -p ocelli

bench: ## Measure (quiet machine; minutes)
	$(CARGO) bench --locked -p ocelli

deny: ## Advisories, licences and sources of dependencies (needs cargo-deny)
	$(CARGO) deny check
