# r2rec.h is one header; nothing has to be built to use it. This file builds and runs what comes with it.
# `make help` lists the targets; what may be set on the command line comes first.

CC       ?= cc
PORTABLE ?= 0# 1: a binary for any machine of this architecture; 0: for this one
SANITIZE ?= 1# 0: `make test` leaves the sanitizer run out
PREFIX   ?= /usr/local
DATA     ?= data/mini
OUT      ?= out
SEED     ?=
THREADS  ?=
ARGS     ?=# handed to the demo as they are, for example ARGS=--full

# --- compiler and libraries -------------------------------------------------------------------------

# OPENMP=0 or 1; left out, it is 1 when a program that uses OpenMP compiles and links.
OPENMP_PROBE = printf '\#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }' \
               | $(CC) -fopenmp -x c - -o /dev/null 2>/dev/null && echo 1 || echo 0
ifndef OPENMP
OPENMP := $(shell $(OPENMP_PROBE))
endif

# Homebrew on Apple silicon installs where compilers do not look.
CPPFLAGS += -I. $(addprefix -I,$(wildcard /opt/homebrew/include))
LDFLAGS  += $(addprefix -L,$(wildcard /opt/homebrew/lib))

WARNINGS  = -Wall -Wextra -Wpedantic -Wshadow -Wconversion
OPTIMISE  = -O3 $(if $(filter 1,$(PORTABLE)),,-march=native -ffp-contract=fast)
CFLAGS   ?= $(OPTIMISE)
THREADING = $(if $(filter 1,$(OPENMP)),-fopenmp)
CHECKED   = -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all

# cJSON is asked for when it is needed, since a target may have just installed it.
CJSON_CFLAGS = $(shell pkg-config --cflags libcjson 2>/dev/null)
CJSON_LIBS   = $(shell pkg-config --libs libcjson 2>/dev/null || echo -lcjson)

COMPILE = $(CC) -std=c11 $(WARNINGS) $(CPPFLAGS) $(CJSON_CFLAGS) $(THREADING) -MMD -MP
LIBS    = $(LDFLAGS) $(CJSON_LIBS) -lm

# --- what there is to build -------------------------------------------------------------------------

# Every C file is one program: examples/x.c becomes build/examples/x.
EXAMPLES := $(patsubst %.c,build/%,$(wildcard examples/*.c))
BENCHES  := $(patsubst %.c,build/%,$(wildcard tests/bench/*.c))
TESTS    := $(patsubst %.c,build/%,$(wildcard tests/test_*.c))
SCRIPTS  := $(wildcard tests/test_*.sh)
CHECKED_TESTS := $(if $(filter 1,$(SANITIZE)),$(TESTS:build/%=build/checked/%))

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.PHONY: all help deps demo data mini test sanitize install clean FORCE

# As many compilers at once as there are processors, unless the caller chose.
ifeq ($(MAKELEVEL)$(filter -j%,$(MAKEFLAGS)),0)
MAKEFLAGS += -j$(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
endif

all: $(EXAMPLES) ## build every example into build/examples

help: ## this list
	@echo 'make TARGET [NAME=value ...]'
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  \1\t\2/p' Makefile | expand -t 14
	@echo 'Names: CC, PORTABLE=1 (no -march=native), OPENMP=0|1, CFLAGS, PREFIX, V=1 (show commands)'

# --- run --------------------------------------------------------------------------------------------

# Waiting threads sleep instead of spinning: on a busy machine spinning halves the speed.
export OMP_WAIT_POLICY ?= passive

demo: build/examples/movielens_demo ## train and recommend: [DATA=dir] [OUT=dir] [SEED=n] [THREADS=n] [ARGS=...]
	@$< --data $(DATA) --out $(OUT) $(if $(SEED),--seed $(SEED)) $(if $(THREADS),--threads $(THREADS)) $(ARGS)

data: ## fetch MovieLens latest-small (real data) into data/ml-latest-small
	@tools/install-deps.sh fetch
	@data/fetch.sh

mini: build/data/mini/generate ## write data/mini anew (the same bytes, unless the generator changed)
	@$< data/mini

# --- test -------------------------------------------------------------------------------------------

test: $(TESTS) $(CHECKED_TESTS) $(EXAMPLES) build/data/mini/generate ## run all tests, plain and under ASan + UBSan
	@CC='$(CC)' tests/run.sh $(TESTS) $(CHECKED_TESTS) $(SCRIPTS)

sanitize: $(TESTS:build/%=build/checked/%) ## run the C tests under ASan + UBSan only
	@tests/run.sh $^

# --- install ----------------------------------------------------------------------------------------

VERSION = $(shell sed -n 's/^\#define R2_VERSION "\(.*\)"/\1/p' r2rec.h)

define PKG_CONFIG_FILE
prefix=$(PREFIX)
includedir=$${prefix}/include

Name: r2rec
Description: Reason-to-Recommend in one C header
URL: https://arxiv.org/abs/2506.05069
Version: $(VERSION)
Requires: libcjson
Cflags: -I$${includedir}
Libs: -lm
endef
export PKG_CONFIG_FILE

install: ## copy r2rec.h and r2rec.pc under PREFIX (and DESTDIR)
	install -d '$(DESTDIR)$(PREFIX)/include' '$(DESTDIR)$(PREFIX)/share/pkgconfig'
	install -m 644 r2rec.h '$(DESTDIR)$(PREFIX)/include/r2rec.h'
	printf '%s\n' "$$PKG_CONFIG_FILE" > '$(DESTDIR)$(PREFIX)/share/pkgconfig/r2rec.pc'

clean: ## remove build/ (out/ and fetched data stay)
	rm -rf build

# --- rules ------------------------------------------------------------------------------------------

Q = $(if $(V),,@)

build/%: %.c r2rec.h build/flags | deps
	$(Q)mkdir -p $(@D)
	$(if $(V),,@echo '  CC      $<')
	$(Q)$(COMPILE) $(CFLAGS) -o $@ $< $(LIBS)

build/checked/%: %.c r2rec.h build/flags | deps
	$(Q)mkdir -p $(@D)
	$(if $(V),,@echo '  CC      $< (sanitizers)')
	$(Q)$(COMPILE) $(CHECKED) -o $@ $< $(LIBS)

# Changes only when the commands would, so everything is built anew when, and only when, they do.
build/flags: FORCE | deps
	@mkdir -p build
	@echo '$(COMPILE) $(CFLAGS) $(LIBS)' | cmp -s - $@ || echo '$(COMPILE) $(CFLAGS) $(LIBS)' > $@

deps: ## install what is missing (stb, cJSON); asks for sudo only when it must
	@CC='$(CC)' CPPFLAGS='$(CPPFLAGS)' LDFLAGS='$(LDFLAGS)' tools/install-deps.sh

-include $(wildcard build/*/*.d build/*/*/*.d build/*/*/*/*.d)
