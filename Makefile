# The short way to everything. CARGO_TARGET_DIR is honoured where it is set.
CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)

.PHONY: demo test lint bench-copy help

help:
	@echo "make demo        see it work: a lab of simulated hosts is backed up, verified, restored"
	@echo "make test        build everything and run all tests"
	@echo "make lint        formatting, clippy, documentation, dependencies"
	@echo "make bench-copy  compare the copy engine with cp and qemu-img"

demo:
	@scripts/needs.sh compiler postgres qemu
	$(CARGO) build --locked --workspace
	$(TARGET)/debug/virtuozo demo

# The build first: tests start the program and load the simulator library, which cargo test alone
# would not lay where they are looked for.
test:
	@scripts/needs.sh compiler postgres qemu
	$(CARGO) build --locked --workspace
	$(CARGO) test --locked --workspace

lint:
	@scripts/needs.sh compiler
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps
	scripts/deny.sh

bench-copy:
	@scripts/needs.sh compiler qemu
	$(CARGO) bench --locked -p repository --bench copy
