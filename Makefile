# What a newcomer types; each target installs what it needs (Debian 12 packages) and builds.
.DEFAULT_GOAL := help
.PHONY: help setup build run chat larder test test-python compare-attention bench bench-micro formats eviction load soak fuzz tidy format tsan clean

MODEL ?= models/larder-4m.gguf
ARGS ?=
# Tests in which threads meet; the others would only be slower.
TSAN_TESTS ?= ThreadPool|Engine|Schedule|Attention|Linear|Server|Api|BadRequest|CacheRoutes
FUZZ_SECONDS ?= 20
# make bench: where its random models go, and a Python that has llama-cpp-python to compare with.
BENCH_MODELS ?= build/bench-models
PEER_PYTHON ?= python3
LONG_FUZZ_SECONDS ?= 1800
# make formats, eviction: the text on which KL is measured, of some ten thousand words at least.
TEXT ?=
CONFIGS ?= scripts/formats.txt
SOURCES = $(shell git ls-files '*.h' '*.cc')

help:              ## this list
	@awk -F ':.*## *' '/^[a-z-]+:.*##/ { printf "make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup:             ## install the packages for building and testing (sudo when not root)
	@scripts/setup.sh build test

build:             ## release build of everything: build/release/bin
	@scripts/setup.sh build
	cmake --preset release --log-level=WARNING
	cmake --build --preset release

run: larder        ## the server with the project's own model, http://127.0.0.1:8080; MODEL=file.gguf ARGS="--port 80"
	build/release/bin/larder serve -m $(MODEL) $(ARGS)

chat: larder       ## the same model at the terminal; MODEL=file.gguf ARGS="-p 'Once'"
	build/release/bin/larder run -m $(MODEL) $(ARGS)

larder:
	@scripts/setup.sh build
	@cmake --preset release --log-level=WARNING
	@cmake --build --preset release --target larder

test:              ## everything CI runs: includes, fuzz (short), release, trainer's, thread and sanitizer tests
	@scripts/setup.sh build test
	scripts/check_includes.py
	scripts/run_tests.sh release
	scripts/python_tests.sh build/release/bin/larder
	scripts/run_tests.sh tsan/server
	cmake --preset dev --log-level=WARNING
	cmake --build --preset dev --target fuzzers
	scripts/fuzz.sh $(FUZZ_SECONDS)
	scripts/run_tests.sh dev

test-python:       ## the trainer's tests alone, PyTorch in build/python (or PYTHON=/path/to/python)
	@scripts/setup.sh build test
	cmake --preset release --log-level=WARNING
	cmake --build --preset release --target larder
	scripts/python_tests.sh build/release/bin/larder

compare-attention: ## train and measure kinds of attention (an hour or more): CACHE=, HELDOUT=, WORK=
	@scripts/setup.sh build test
	@[ -n "$(PYTHON)" ] || scripts/python_setup.sh
	cmake --preset release --log-level=WARNING
	cmake --build --preset release --target larder
	cd python && $(or $(PYTHON),../build/python/bin/python) -m larder_train compare \
	  --config configs/compare.json --cache $(abspath $(CACHE)) --text $(abspath $(HELDOUT)) \
	  --out $(abspath $(WORK)) --larder $(CURDIR)/build/release/bin/larder \
	  --report ../docs/results/attention.md $(ARGS)

bench:             ## the table of docs/performance.md: 5 GB of random models, half an hour beside llama.cpp
	@scripts/setup.sh build
	cmake --preset release --log-level=WARNING
	cmake --build --preset release
	python3 scripts/bench_table.py --larder build/release/bin/larder --models $(BENCH_MODELS) \
	  --peer-python $(PEER_PYTHON) $(ARGS)

bench-micro:       ## the micro benchmarks of kernels; ARGS=--benchmark_filter=... for some
	@scripts/setup.sh build
	cmake --preset release --log-level=WARNING
	cmake --build --preset release
	set -e; for b in build/release/bin/*_bench; do $$b $(ARGS); done

formats:           ## memory, quality and speed of storage formats: MODEL=, TEXT= -> docs/results/formats.md
	@[ -n "$(TEXT)" ] || { echo "make formats TEXT=file [MODEL=file.gguf]"; exit 2; }
	@scripts/setup.sh build
	cmake --preset release --log-level=WARNING
	cmake --build --preset release --target larder
	mkdir -p docs/results
	build/release/bin/larder eval sweep -m $(MODEL) --text $(TEXT) --configs $(CONFIGS) \
	  --results build/formats.jsonl --svg docs/img/formats-$(basename $(notdir $(MODEL))).svg \
	  --report docs/results/formats.new.md $(ARGS)
	scripts/formats_page.py docs/results/formats.md docs/results/formats.new.md

load:              ## clients of `larder serve` on this machine: throughput, time to the first token; MODEL=file.gguf
	@scripts/setup.sh build
	cmake --preset release --log-level=WARNING
	cmake --build --preset release --target larder
	python3 scripts/load.py mixed -m $(MODEL) $(ARGS)
	python3 scripts/load.py shared -m $(MODEL) $(ARGS)

soak:              ## ten minutes of clients of all manners; fails when the server holds more at the end
	@scripts/setup.sh build
	cmake --preset release --log-level=WARNING
	cmake --build --preset release --target larder
	python3 scripts/load.py soak -m $(MODEL) $(ARGS)

eviction:          ## memory, quality and speed of eviction policies (hours): MODEL=, TEXT= -> docs/results/eviction-*.md
	@[ -n "$(TEXT)" ] || { echo "make eviction TEXT=file [MODEL=file.gguf]"; exit 2; }
	@scripts/setup.sh build
	cmake --preset release --log-level=WARNING
	cmake --build --preset release --target larder
	scripts/eviction.sh $(MODEL) $(TEXT) $(ARGS)

fuzz:              ## every fuzz target for LONG_FUZZ_SECONDS (default 1800)
	@scripts/setup.sh build test
	cmake --preset dev --log-level=WARNING
	cmake --build --preset dev --target fuzzers
	scripts/fuzz.sh $(LONG_FUZZ_SECONDS)

tsan:              ## tests of threads, scheduling, the server and kernels under the thread sanitizer
	@scripts/setup.sh build test
	scripts/run_tests.sh tsan -R '$(TSAN_TESTS)'

tidy:              ## clang-tidy over all sources, warnings are errors
	@scripts/setup.sh build lint
	cmake --preset dev
	run-clang-tidy-14 -quiet -p build/dev '$(CURDIR)/(src|tools)/.*'

format:            ## clang-format over all sources
	@scripts/setup.sh lint
	clang-format-14 -i $(SOURCES)

clean:             ## remove the builds
	rm -rf build
