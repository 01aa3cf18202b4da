# What people run most. `make` alone lists it.

.PHONY: help build demo test bench deps ci

help:
	@echo 'make build   the binary, target/release/sekisho'
	@echo 'make demo    the story, live: two machines, a policy, what passes and why the rest does not'
	@echo 'make test    all tests (namespaces and guests too; root runs all of them)'
	@echo 'make bench   side by side with Open vSwitch and the Linux bridge'
	@echo 'make deps    installs the Debian packages that tests and benchmarks use'
	@echo 'make ci      what the continuous integration runs'

build:
	cargo build --release -p sekisho

demo:
	scripts/deps demo
	$(MAKE) build
	"$${CARGO_TARGET_DIR:-target}/release/sekisho" demo

deps:
	scripts/deps

test: deps
	scripts/test

bench: deps build
	bench/run

ci:
	.ci/run
