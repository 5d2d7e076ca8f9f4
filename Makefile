# The short way to everything. CARGO_TARGET_DIR is honoured where it is set.
CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
# What the tests start and load, built together with the tests themselves: built alone, it would be built again
# with the features that the tests' own dependencies add to everybody's.
BUILD := $(CARGO) build --locked --workspace --lib --bins
TEST := $(CARGO) test --locked --workspace
PROVE := $(TEST) --test proofs --

.PHONY: demo test schema lint crash-matrix fleet-proof outage-proof upgrade-proof trace-proof bench-copy bench-queue help

help:
	@echo "make demo        see it work: a lab of simulated hosts is backed up, verified, restored"
	@echo "make test        build everything and run all tests"
	@echo "make schema      after a change in migrations/: number the definitions, write current.sql"
	@echo "make lint        formatting, clippy, documentation, dependencies"
	@echo "make crash-matrix disturb each step of a backup in every way, and see what stays true"
	@echo "make fleet-proof 8 workers, 40 hosts, 2,000 guests, 200 workers killed: limits hold, nothing is left"
	@echo "make outage-proof ten minutes without the database, in every way and whatever goes on"
	@echo "make upgrade-proof this version and a later one, with another schema, share the work"
	@echo "make trace-proof every trace of a small fleet, read back from a real trace back end (needs python3)"
	@echo "make bench-copy  compare the copy engine with cp and qemu-img"
	@echo "make bench-queue what a guest run costs the database, beside other queues (needs node, npm, python3)"

demo:
	@scripts/needs.sh compiler postgres qemu
	$(CARGO) build --locked --package virtuozo --package vix-sim
	$(TARGET)/debug/virtuozo demo

# The build first: tests start the program and load the simulator library, which cargo test alone
# would not lay where they are looked for.
test:
	@scripts/needs.sh compiler postgres qemu mail
	$(BUILD) --tests --examples
	$(TEST) --lib --bins --tests

lint:
	@scripts/needs.sh compiler compose systemd
	scripts/deployment.sh $(abspath $(TARGET))/promtool
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) check --locked --package virtuozo-model
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps
	scripts/deny.sh

outage-proof:
	@scripts/needs.sh compiler postgres
	$(BUILD) --test proofs
	$(PROVE) outage

# The other version is this one with another schema, in a tree of its own.
upgrade-proof:
	@scripts/needs.sh compiler postgres
	$(BUILD) --test proofs
	later=$$(scripts/later.sh $(abspath $(TARGET))/upgrade-proof) && VIRTUOZO_LATER=$$later $(PROVE) upgrade

# After a change in migrations/: counts the generation of the definitions up, and writes the schema down.
schema:
	@scripts/needs.sh compiler postgres
	WRITE_SCHEMA=1 $(TEST) --lib -- other_definitions the_schema

# Phoenix comes by its package name into the target directory, and runs from there.
TRACE_PROOF := $(abspath $(TARGET))/trace-proof
trace-proof:
	@scripts/needs.sh compiler postgres python
	mkdir -p $(TRACE_PROOF)
	test -x $(TRACE_PROOF)/phoenix/bin/pip || python3 -m venv $(TRACE_PROOF)/phoenix
	$(TRACE_PROOF)/phoenix/bin/pip install --quiet arize-phoenix
	$(BUILD) --test e2e
	TRACE_PROOF_DIR=$(TRACE_PROOF) $(TEST) --test e2e -- --ignored trace_back_end
	@cat $(TRACE_PROOF)/result.json && echo

bench-copy:
	@scripts/needs.sh compiler qemu
	$(CARGO) bench --locked -p virtuozo-repository --bench copy

crash-matrix:
	@scripts/needs.sh compiler postgres faults
	$(BUILD) --test proofs
	$(PROVE) crash-matrix

# FLEET_SEED=N repeats the kills of an earlier proof; TMPDIR says where the lab lies (about 2 GB).
fleet-proof:
	@scripts/needs.sh compiler postgres
	$(BUILD) --test proofs
	$(PROVE) fleet $(FLEET_SEED)

# The peers come by their package names into the target directory, and run from there.
PEERS := $(abspath $(TARGET))/bench-queue
bench-queue:
	@scripts/needs.sh compiler postgres
	mkdir -p $(PEERS)/node
	npm install --silent --no-audit --no-fund --prefix $(PEERS)/node graphile-worker@0.17 pg-boss@10 pg@8
	test -x $(PEERS)/py/bin/pip || python3 -m venv $(PEERS)/py
	$(PEERS)/py/bin/pip install --quiet "procrastinate==3.*" "psycopg[binary,pool]==3.*"
	cp tests/benches/queue/peers/*.mjs $(PEERS)/node/
	cp tests/benches/queue/peers/*.py $(PEERS)/py/
	BENCH_PEERS=$(PEERS) $(CARGO) bench --locked --workspace --bench queue
