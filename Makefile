# r2rec.h is one header; nothing has to be built to use it. This file builds and runs what comes with it.
# `make help` lists the targets; what may be set on the command line comes first.

CC       ?= cc
PORTABLE ?= 0# 1: a binary for any machine of this architecture; 0: for this one
PREFIX   ?= /usr/local
DATA     ?= data/mini
OUT      ?= out
SEED     ?=
THREADS  ?=
ARGS     ?=# handed to the program as they are, for example ARGS=--full

# --- compiler and libraries -------------------------------------------------------------------------

# 1 when a program that includes header $(2) compiles and links with the options $(1), else 0.
hash  := \#
builds = $(shell printf '$(hash)include <$(2)>\nint main(void) { return 0; }' | \
                 $(CC) $(1) -x c - -o /dev/null 2>/dev/null && echo 1 || echo 0)

# Several processes by MPI, in build/mpi: `make MPI=1`, then mpirun -n 4 build/mpi/examples/movielens_demo
MPI   ?= 0
MPICC ?= mpicc

# Threads, and a second run of the tests under sanitizers: 0 or 1; left out, 1 where it is possible.
SANITIZERS = -fsanitize=address -fsanitize=undefined
ifndef OPENMP
OPENMP := $(call builds,-fopenmp,omp.h)
endif
ifneq ($(filter test sanitize torture,$(MAKECMDGOALS)),)
SANITIZE ?= $(call builds,$(SANITIZERS),stdlib.h)
endif

# Homebrew on Apple silicon installs where compilers do not look.
INCLUDES  = -I. $(addprefix -I,$(wildcard /opt/homebrew/include)) $(CPPFLAGS)
LINKING   = $(addprefix -L,$(wildcard /opt/homebrew/lib)) $(LDFLAGS)

WARNINGS  = -Wall -Wextra -Wpedantic -Wshadow -Wconversion
NATIVE    = -march=native -ffp-contract=fast
ifneq ($(PORTABLE),1)
PORTABLE := $(if $(filter 1,$(call builds,$(NATIVE),stdlib.h)),0,1)
endif
CFLAGS   ?= -O3 $(if $(filter 0,$(PORTABLE)),$(NATIVE))
# Every test compiles the whole header: without CFLAGS of the caller's, a lower level saves minutes.
TEST_CFLAGS = $(if $(filter file,$(origin CFLAGS)),$(CFLAGS:-O3=-O2),$(CFLAGS))
THREADING = $(if $(filter 1,$(OPENMP)),-fopenmp)
CHECKED   = -O1 -g -fno-omit-frame-pointer -fno-sanitize-recover=all $(SANITIZERS)

# cJSON is asked for when it is needed, since a target may have just installed it.
CJSON_CFLAGS = $(shell pkg-config --cflags libcjson 2>/dev/null)
CJSON_LIBS   = $(shell pkg-config --libs libcjson 2>/dev/null || echo -lcjson)

COMPILE = $(CC) -std=c11 $(WARNINGS) $(INCLUDES) $(CJSON_CFLAGS) $(THREADING)
DEPEND  = -MMD -MP -MT $@ -MF $@.d# so that a change of an included file is noticed
LIBS    = $(LINKING) $(CJSON_LIBS) -lm

# --- what there is to build -------------------------------------------------------------------------

# Every C file is one program: examples/tools/x.c becomes build/examples/tools/x, and
# build/checked/examples/tools/x when built with sanitizers.
EXAMPLES := $(patsubst %.c,build/%,$(wildcard examples/*.c examples/*/*.c))
# The one example that talks to a server is left out where libcurl is not installed.
ifneq ($(call builds,-lcurl,curl/curl.h),1)
EXAMPLES := $(filter-out build/examples/tools/llm_teacher,$(EXAMPLES))
endif
TESTS    := $(patsubst %.c,build/%,$(wildcard tests/test_*.c))
SCRIPTS  := $(wildcard tests/test_*.sh)
CHECKED_TESTS := $(if $(filter 1,$(SANITIZE)),$(TESTS:build/%=build/checked/%))
CHECKED_DEMO  := $(if $(CHECKED_TESTS),$(patsubst %.c,build/checked/%,$(wildcard examples/*_demo.c)))

# Examples share one compiled library, and so do the tests, at their own level. Tests that look inside,
# at r2__ names or at what the implementation includes, compile the whole header.
INSIDERS  := $(shell grep -lE '(r2|R2)__|cJSON|define R2_' $(wildcard tests/test_*.c) /dev/null)
OUTSIDERS := $(filter-out $(INSIDERS:%.c=build/%),$(TESTS))

# The demo for several processes; in the tests where MPI is installed.
MPI_DEMO := build/mpi/examples/movielens_demo

# Programs that a test script feeds with many inputs, under sanitizers where they exist.
SAFE    := build$(if $(CHECKED_TESTS),/checked)
READERS := $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
FED     := $(patsubst %.c,%,$(wildcard tests/cases/probe.c)) $(READERS:%=tests/fuzz/fuzz_%)

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.PHONY: all help deps demo language reference results transfer permuted ablation think headline data mini test sanitize install install-header
.PHONY: uninstall clean FORCE bench bench-graph bench-scale fuzz torture coverage lint vectors verify mutants

# As many compilers at once as there are processors, unless the caller chose.
ifeq ($(MAKELEVEL)$(filter -j%,$(MAKEFLAGS)),0)
MAKEFLAGS += -j$(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
endif

# The title of a section below stands above its targets.
help:
	@echo 'make TARGET [NAME=value ...]'
	@awk -F ':[^#]*## ' '/^# --- / { gsub(/^# --- | -+$$/, ""); title = $$0 } \
	  /^[a-z-]+:.*## / { if (title) print "\n" title; title = ""; printf "  %-11s  %s\n", $$1, $$2 }' Makefile
	@printf '%s\n' '' 'names' \
	  '  DATA=dir OUT=dir SEED=n THREADS=n  for demo and experiments' \
	  '  ARGS="..."  options of the program itself; ARGS=--help lists them' \
	  '  CC CFLAGS PREFIX OPENMP=0 SANITIZE=0 V=1 (verbose) PORTABLE=1 (any machine)' \
	  '  MPI=1  the demo for several processes too, build/mpi/examples/movielens_demo'

# --- run --------------------------------------------------------------------------------------------

# Waiting threads sleep instead of spinning: on a busy machine spinning halves the speed.
export OMP_WAIT_POLICY ?= passive

all: $(EXAMPLES) $(if $(filter 1,$(MPI)),$(MPI_DEMO)) ## build every example into build/examples

demo: build/examples/movielens_demo ## train a model and recommend, with reasons; a few minutes
	@tools/install-deps.sh pictures </dev/null 2>&1 | sed -n 's/^install-deps: missing/for pictures in the report/p'
	@$< --data '$(DATA)' --out '$(OUT)' $(if $(SEED),--seed $(SEED)) $(if $(THREADS),--threads $(THREADS)) $(ARGS)

language: build/examples/tools/language_model ## a language model reads chains in English: ARGS="--model DIR"
	@$< --data '$(DATA)' --out '$(OUT)' $(if $(SEED),--seed $(SEED)) $(if $(THREADS),--threads $(THREADS)) $(ARGS)

reference: build/reference/journey ## the whole journey by part one's plain loops; seconds
	@$< data/mini

data: ## download MovieLens latest-small into data/ml-latest-small
	@tools/install-deps.sh fetch
	@data/fetch.sh

mini: build/data/mini/generate ## regenerate data/mini
	@$< data/mini

# --- experiments (run `make data` first; an interrupted one resumes) ---------------------------------

REAL = $(if $(filter file,$(origin DATA)),data/ml-latest-small,$(DATA))

results: build/examples/experiments/results ## tables of all methods: ARGS=--full; one table: DATA="a b"
	@$< --data '$(REAL)' --out '$(OUT)' $(if $(THREADS),--threads $(THREADS)) $(ARGS)

transfer: build/examples/experiments/transfer ## train on one, ask another: DATA="a b c", best after their results
	@$< --data '$(REAL)' --out '$(OUT)' $(if $(THREADS),--threads $(THREADS)) $(ARGS)

# The Python that has NumPy, where there are several.
NUMPY = $(shell for p in python3 /usr/bin/python3; do $$p -c 'import numpy' 2>/dev/null && echo $$p && break; done)
permuted: build/examples/experiments/results ## control: who took what means nothing; needs NumPy
	@for d in $(REAL); do $(NUMPY) tests/reference/shapes.py permute $$d '$(OUT)'/permuted/$$(basename $$d) || exit; done
	@$< --brief --data '$(foreach d,$(REAL),$(OUT)/permuted/$(notdir $d))' --out '$(OUT)/permuted' $(if $(THREADS),--threads $(THREADS)) $(ARGS)

ablation: build/examples/experiments/ablation ## what each part is worth: ARGS="--models 2 --seeds 3"
	@$< --data '$(REAL)' --out '$(OUT)' $(if $(THREADS),--threads $(THREADS)) $(ARGS)

think: build/examples/experiments/think ## when thinking step by step helps: ARGS="--layers 2"
	@$< --data '$(REAL)' --out '$(OUT)' $(if $(SEED),--seed $(SEED)) $(if $(THREADS),--threads $(THREADS)) $(ARGS)

headline: build/examples/experiments/headline ## whether it helps on full evidence: ARGS="--design records"
	@$< --data '$(REAL)' --out '$(OUT)' $(if $(SEED),--seed $(SEED)) $(if $(THREADS),--threads $(THREADS)) $(ARGS)

# --- test -------------------------------------------------------------------------------------------

# The scripts run the examples, the demo under sanitizers too, and the generator.
test: $(if $(shell command -v $(MPICC)),$(MPI_DEMO)) $(TESTS) $(CHECKED_TESTS) $(CHECKED_DEMO) $(EXAMPLES) $(FED:%=$(SAFE)/%) build/data/mini/generate build/portable/tests/vectors/make ## run all tests, plain and under ASan + UBSan
	$(if $(filter 1,$(SANITIZE)),,@echo 'no sanitizers here: that part is left out')
	@CC='$(CC)' CPPFLAGS='$(INCLUDES)' SAFE='$(SAFE)' tests/run.sh $(TESTS) $(CHECKED_TESTS) $(SCRIPTS)

sanitize: $(TESTS:build/%=build/checked/%) ## run the C tests under ASan + UBSan only
	@tests/run.sh $^

# libFuzzer, which comes with clang. READERS="ratings items" takes some of them.
FUZZ_CC ?= clang
FUZZING  = -std=c11 $(INCLUDES) $(CJSON_CFLAGS) -O1 -g -fno-sanitize-recover=all -DFUZZING
fuzz: $(READERS:%=build/fuzz/fuzz_%) ## fuzz every reader: T=60 seconds each
	@T='$(T)' tests/fuzz/run.sh $^

torture: $(SAFE)/tests/torture/torture ## fail each allocation and file call: ARGS=stride=50
	@ASAN_OPTIONS=detect_leaks=0 $< $(ARGS)

# Which lines and branches of r2rec.h the tests reach, room by room. ONLY="test_run test_rl" runs these again.
coverage: $(TESTS:build/%=build/coverage/%) $(FED:%=build/coverage/%) build/coverage/tests/torture/torture ## lines and branches per room that tests reach
	@$(if $(ONLY),KEEP=1) tests/coverage.sh $(if $(ONLY),$(ONLY:%=build/coverage/tests/%),$^)

# The whole header as one file; .clang-tidy and tests/cppcheck.txt say what is looked at.
lint: build/lint.c ## clang-tidy and cppcheck on r2rec.h
	@clang-tidy --quiet $< -- -std=c11 $(INCLUDES) $(CJSON_CFLAGS) 2>/dev/null
	@cppcheck --quiet --error-exitcode=1 --std=c11 --enable=warning,portability,performance \
	  --suppressions-list=tests/cppcheck.txt $(INCLUDES) $<

# --- conformance (data/vectors) --------------------------------------------------------------------

vectors: build/portable/tests/vectors/make ## write data/vectors/v1 anew, after a change of a definition
	@$< data/vectors/v1

verify: build/examples/tools/verify ## check another program: ARGS="-- python3 its.py"; none: the header
	@$< $(if $(ARGS),$(ARGS),--self)

mutants: build/flags ## show that each flag's bug is caught by a vector with this flag
	@CC='$(CC)' CPPFLAGS='$(INCLUDES)' ALL=1 tests/test_mutants.sh

# --- measure ----------------------------------------------------------------------------------------

# By a Python that has PyTorch, be it the first of the path or the system's.
bench: build/tests/bench/bench_engine ## compare with PyTorch, OpenBLAS: PEERS=install ARGS="5 decode"
	$(if $(filter install,$(PEERS)),@CC='$(CC)' tools/install-deps.sh bench)
	@python=python3; $$python -c 'import torch' 2>/dev/null || \
	  { [ -x /usr/bin/python3 ] && /usr/bin/python3 -c 'import torch' 2>/dev/null && python=/usr/bin/python3; }; \
	  THREADS='$(THREADS)' $$python tests/bench/bench_engine.py $< '$(OUT)/bench.json' $(ARGS)

bench-graph: build/tests/bench/bench_graph ## time loading, butterflies and chains: out/bench-graph.json
	@$< $(ARGS)

bench-scale: build/tests/bench/bench_scale ## time and memory by size, 0.1 to 20 M ratings: ARGS="0.1 1 5"
	@$< $(ARGS)

# --- install ----------------------------------------------------------------------------------------

VERSION = $(shell sed -n 's/^$(hash)define R2_VERSION "\(.*\)"/\1/p' r2rec.h)

deps: ## install what is missing (cJSON, stb_ds); sudo only if needed
	@CC='$(CC)' CPPFLAGS='$(INCLUDES)' LDFLAGS='$(LINKING)' tools/install-deps.sh

# What a program needs to find the header, and the threads: a pkg-config file and a CMake package.
SHARE  = $(DESTDIR)$(PREFIX)/share
install-header: ## r2rec.h for programs of one's own: PREFIX DESTDIR
	install -d '$(DESTDIR)$(PREFIX)/include' '$(SHARE)/pkgconfig' '$(SHARE)/cmake/r2rec'
	install -m 644 r2rec.h '$(DESTDIR)$(PREFIX)/include/r2rec.h'
	printf '%s\n' 'prefix=$(PREFIX)' 'includedir=$${prefix}/include' '' 'Name: r2rec' \
	  'Description: Reason-to-Recommend in one C header' 'Version: $(VERSION)' \
	  'URL: https://arxiv.org/abs/2506.05069' 'Requires: libcjson' \
	  'Cflags: -I$${includedir} $(THREADING)' 'Libs: $(THREADING) -lm' > '$(SHARE)/pkgconfig/r2rec.pc'
	install -m 644 tools/r2recConfig.cmake '$(SHARE)/cmake/r2rec/r2recConfig.cmake'
	printf '%s\n' 'set(PACKAGE_VERSION "$(VERSION)")' 'if(NOT PACKAGE_VERSION VERSION_LESS PACKAGE_FIND_VERSION)' \
	  '  set(PACKAGE_VERSION_COMPATIBLE TRUE)' 'endif()' > '$(SHARE)/cmake/r2rec/r2recConfigVersion.cmake'

VECTORS   = $(wildcard data/vectors/v1/*)
COMMANDS  = $(addprefix build/examples/,movielens_demo experiments/think \
  $(addprefix tools/,chains prompts language_model export verify))
INSTALLED = include/r2rec.h share/pkgconfig/r2rec.pc share/cmake/r2rec/r2recConfig.cmake \
  share/cmake/r2rec/r2recConfigVersion.cmake bin/r2rec $(addprefix libexec/r2rec/,$(notdir $(COMMANDS))) \
  share/r2rec/mini/ratings.csv share/r2rec/mini/movies.csv $(addprefix share/r2rec/,$(VECTORS:data/%=%)) share/man/man1/r2rec.1 \
  share/bash-completion/completions/r2rec

install: $(COMMANDS) install-header ## the header, and the command r2rec with its man page
	install -d '$(DESTDIR)$(PREFIX)/bin' '$(DESTDIR)$(PREFIX)/libexec/r2rec' '$(SHARE)/r2rec/mini' \
	  '$(SHARE)/r2rec/vectors/v1' '$(SHARE)/man/man1' '$(SHARE)/bash-completion/completions'
	install -m 755 tools/r2rec '$(DESTDIR)$(PREFIX)/bin/r2rec'
	install -m 755 $(COMMANDS) '$(DESTDIR)$(PREFIX)/libexec/r2rec'
	install -m 644 data/mini/ratings.csv data/mini/movies.csv '$(SHARE)/r2rec/mini'
	install -m 644 $(VECTORS) '$(SHARE)/r2rec/vectors/v1'
	'$(DESTDIR)$(PREFIX)/bin/r2rec' --man > '$(SHARE)/man/man1/r2rec.1'
	'$(DESTDIR)$(PREFIX)/bin/r2rec' --completion > '$(SHARE)/bash-completion/completions/r2rec'

uninstall: ## remove what install put under PREFIX
	rm -f $(INSTALLED:%='$(DESTDIR)$(PREFIX)/%')
	-rmdir '$(SHARE)/r2rec/mini' '$(SHARE)/r2rec/vectors/v1' '$(SHARE)/r2rec/vectors' '$(SHARE)/r2rec' '$(SHARE)/cmake/r2rec' '$(DESTDIR)$(PREFIX)/libexec/r2rec' 2>/dev/null

clean: ## remove build/ (out/ and fetched data stay)
	rm -rf build

# --- rules ------------------------------------------------------------------------------------------

Q = $(if $(V),,@)

# What a single program needs. CFLAGS and LIBS stay the same for every target: build/flags, which
# all depend on, would inherit a change, and everything would be rebuilt.
OPTIONS   = $(CFLAGS)
MORE_LIBS =
$(TESTS) build/tests/r2rec.o: OPTIONS = $(TEST_CFLAGS)
build/examples/tools/llm_teacher: MORE_LIBS = -lcurl
build/tests/test_team: MORE_LIBS = -pthread

build/%: %.c r2rec.h build/flags | deps
	$(Q)mkdir -p $(@D)
	$(if $(V),,@echo '  CC      $<')
	$(Q)$(COMPILE) $(OPTIONS) $(DEPEND) $(WITH_LIBRARY) -o $@ $< $(MORE_LIBS) $(LIBS)

build/reference/%: tests/%.c r2rec.h build/flags | deps
	$(Q)mkdir -p $(@D)
	$(if $(V),,@echo '  CC      $< (R2_REFERENCE)')
	$(Q)$(COMPILE) -DR2_REFERENCE $(OPTIONS) $(DEPEND) -o $@ $< $(LIBS)

# For results that do not depend on the processor, the compiler or its level.
build/portable/%: %.c r2rec.h build/flags | deps
	$(Q)mkdir -p $(@D)
	$(if $(V),,@echo '  CC      $< (portable)')
	$(Q)$(COMPILE) -O2 -ffp-contract=off $(DEPEND) -o $@ $< $(LIBS)

build/mpi/%: %.c r2rec.h build/flags | deps
	$(Q)mkdir -p $(@D)
	$(if $(V),,@echo '  CC      $< (MPI)')
	$(Q)$(MPICC) -DR2_MPI $(wordlist 2,99,$(COMPILE)) $(OPTIONS) $(DEPEND) -o $@ $< $(LIBS)

build/checked/%: %.c r2rec.h build/flags | deps
	$(Q)mkdir -p $(@D)
	$(if $(V),,@echo '  CC      $< (sanitizers)')
	$(Q)$(COMPILE) $(CHECKED) $(DEPEND) $(WITH_LIBRARY) -o $@ $< $(LIBS)

# The report's page as lines of C, so that the demo carries it wherever it runs. "??" is a trigraph to C.
build/report_page.h: examples/common/report.html
	$(Q)mkdir -p $(@D)
	$(Q){ echo 'static const char *const report_page[] = {'; \
	  sed 's/[\"]/\\&/g; s/??/?\\?/g; s/.*/"&\\n",/' $<; echo 'NULL};'; } > $@

build/examples/movielens_demo build/checked/examples/movielens_demo $(MPI_DEMO): build/report_page.h

# The library as an object, for programs that have it among their prerequisites: the header leaves the
# implementation out when R2REC_IMPLEMENTED says that it is there already.
WITH_LIBRARY = $(if $(filter %.o,$^),-DR2REC_IMPLEMENTED $(filter %.o,$^))
LIBRARY      = printf '$(hash)define R2REC_IMPLEMENTATION\n$(hash)include "r2rec.h"\n' | $(COMPILE) -c -o $@ -x c

# verify looks inside, too.
$(filter-out build/examples/tools/verify,$(EXAMPLES)): build/r2rec.o
$(OUTSIDERS) $(FED:%=build/%): build/tests/r2rec.o
$(OUTSIDERS:build/%=build/checked/%) $(FED:%=build/checked/%) $(CHECKED_DEMO): build/checked/r2rec.o

build/r2rec.o build/tests/r2rec.o: r2rec.h build/flags | deps
	$(Q)mkdir -p $(@D)
	$(if $(V),,@echo '  CC      r2rec.h$(if $(findstring tests,$@), (tests))'; \
	  echo '          the whole library, once: up to a minute')
	$(Q)$(LIBRARY) $(OPTIONS) -

build/checked/r2rec.o: r2rec.h build/flags | deps
	$(Q)mkdir -p $(@D)
	$(if $(V),,@echo '  CC      r2rec.h (sanitizers)')
	$(Q)$(LIBRARY) $(CHECKED) -

build/fuzz/r2rec.o: r2rec.h build/flags | deps
	$(Q)mkdir -p $(@D)
	$(if $(V),,@echo '  FUZZ_CC r2rec.h')
	$(Q)printf '$(hash)define R2REC_IMPLEMENTATION\n$(hash)include "r2rec.h"\n' | \
	  $(FUZZ_CC) $(FUZZING) -fsanitize=fuzzer-no-link,address,undefined -c -o $@ -x c -

build/fuzz/fuzz_%: tests/fuzz/fuzz_%.c tests/fuzz/fuzz.h build/fuzz/r2rec.o
	$(if $(V),,@echo '  FUZZ_CC $<')
	$(Q)$(FUZZ_CC) $(FUZZING) -fsanitize=fuzzer,address,undefined -o $@ $< build/fuzz/r2rec.o $(LIBS)

# Without optimisation and copies of inlined functions, so that a branch of the source is one of the program.
# Threads may lose some of each other's counts, which is as good: 0 or not is what matters, and it is quick.
COVERED = -O0 -g --coverage -Dalways_inline=unused -DTEST_COVERAGE
$(OUTSIDERS:build/%=build/coverage/%) $(FED:%=build/coverage/%): build/coverage/r2rec.o

build/coverage/%: %.c r2rec.h build/flags | deps
	$(Q)mkdir -p $(@D)
	$(if $(V),,@echo '  CC      $< (coverage)')
	$(Q)$(COMPILE) $(COVERED) $(DEPEND) $(WITH_LIBRARY) -o $@ $< $(LIBS)

build/coverage/r2rec.o: r2rec.h build/flags | deps
	$(Q)mkdir -p $(@D)
	$(if $(V),,@echo '  CC      r2rec.h (coverage)')
	$(Q)$(LIBRARY) $(COVERED) -

build/lint.c: r2rec.h
	@mkdir -p build
	@printf '$(hash)define R2REC_IMPLEMENTATION\n$(hash)include "r2rec.h"\n' > $@

# Changes only when the commands would, so everything is built anew when, and only when, they do.
build/flags: FORCE | deps
	@mkdir -p build
	@echo '$(COMPILE) $(CFLAGS) $(LIBS)' | cmp -s - $@ || echo '$(COMPILE) $(CFLAGS) $(LIBS)' > $@

-include $(shell find build -name '*.d' 2>/dev/null)
