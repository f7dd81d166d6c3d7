# SPDX-License-Identifier: GPL-2.0-only
#
# The one entry point. Everything that is built goes to build/; what the nested Xen host boots from
# goes to BLKTAP_CACHE (default ~/.cache/blktap).
#
#   KVER     kernel release the module is for (default: the first of KVERS)
#   KVERS    releases it is tested for (default: what scripts/kernels finds)
#   DESTDIR  root file system to install into (default: this machine)
#   JOBS     compile jobs at a time (default: one per CPU)

KVERS   ?= $(shell scripts/kernels)
KVER    ?= $(firstword $(KVERS))
DESTDIR ?=
JOBS    ?= $(shell nproc)

# Looked up at each use, for `deps` may have just installed the headers.
export KVER KVERS

.DEFAULT_GOAL := help
.PHONY: help deps build-deps all module modules user tests install uninstall check check-all \
	check-unit check-static check-system fuzz demo bench dom0 clean

help: ## List the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

deps: ## Install the Debian packages that building and testing need
	@scripts/deps

build-deps: ## Install only those that building for the kernel of this machine needs
	@scripts/deps build

all: module user ## Build what is installed

# --- product --------------------------------------------------------------------------------------

MODULE_BUILD := build/module-$(KVER)

module: ## Build blktap.ko for KVER
	scripts/build-module $(KVER) $(MODULE_BUILD) -j$(JOBS)

modules: ## Build blktap.ko for each of KVERS, and what tests load beside it
	$(foreach kver,$(KVERS),scripts/build-module $(kver) build/module-$(kver) -j$(JOBS) && \
		scripts/build-module --tests $(kver) build/module-$(kver) -j$(JOBS) &&) true

# What another clone has compiled is not compiled again.
export CCACHE_BASEDIR := $(CURDIR)
export CCACHE_NOHASHDIR := 1
LAUNCHERS = $(if $(shell command -v ccache),-DCMAKE_C_COMPILER_LAUNCHER=ccache \
	-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)

user: ## Build tapdisk, tap-ctl and the xl preload library
	cmake -S . -B build/user -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo \
		-DCMAKE_INSTALL_PREFIX=/usr $(LAUNCHERS)
	cmake --build build/user -j $(JOBS) --target tapdisk tap-ctl hotplug xlu-tapzc

tests: user ## Build the tests, fuzz targets and micro-benchmarks
	cmake --build build/user -j $(JOBS)

install: all ## Install into DESTDIR
	DESTDIR=$(DESTDIR) xl-config/install.sh --check $(MODULE_BUILD)/blktap-kmod/blktap.ko
	DESTDIR=$(DESTDIR) scripts/install-module $(KVER) $(MODULE_BUILD)/blktap-kmod/blktap.ko
	DESTDIR=$(DESTDIR) cmake --install build/user
	DESTDIR=$(DESTDIR) xl-config/install.sh

uninstall: ## Undo install, for every kernel
	DESTDIR=$(DESTDIR) xl-config/install.sh --uninstall
	DESTDIR=$(DESTDIR) scripts/install-module --remove

# --- tests ----------------------------------------------------------------------------------------

# `deps` comes first and alone: on a fresh machine nothing else works before it.
NESTED := tests/system/nested

check: deps ## Run the tests; on all but the first of KVERS a few system cases
	scripts/check check-unit check-static check-system

check-all: deps ## Run every test on each of KVERS
	scripts/check check-unit check-static "check-system CASE=--all"

check-static: tests ## Run sparse, cppcheck, clang-tidy, shellcheck, and cross-compile
	scripts/check-static

check-unit: tests ## Run the unit tests
	ctest --test-dir build/user --output-on-failure -j $(JOBS)

check-system: deps ## Run the cases in nested Xen hosts (CASE=name for one, on KVER)
	$(MAKE) modules tests
	tests/system/check $(CASE)

fuzz: tests ## Run each fuzz target for FUZZ_SECONDS (default 300)
	tests/fuzz/run build/user/tests/fuzz

demo: deps ## The main job, end to end, in a nested Xen host
	$(MAKE) all
	$(NESTED) --out build/demo demo
	tests/system/report build/demo

bench: deps ## Compare with blkback and qdisk, which takes hours: build/bench/bench.md
	$(MAKE) all
	scripts/deps bench
	tests/system/bench

dom0: deps ## Make the parts of the nested Xen host
	tests/system/images

clean: ## Remove what was built (the cache stays)
	rm -rf build
