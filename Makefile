# pigeon: queues and topics for PostgreSQL, built with PGXS.
#
#   make                build
#   make install        install into the server that PG_CONFIG names
#   scripts/test        everything: packages, build, every test

EXTENSION  = pigeon
# The one source of the version is the control file.
PIGEON_VERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" $(EXTENSION).control)
DATA       = $(wildcard $(EXTENSION)--*.sql)
MODULE_big = pigeon
OBJS       = $(patsubst %.c,%.o,$(sort $(wildcard src/*.c)))
PG_CPPFLAGS = -DPIGEON_VERSION='"$(PIGEON_VERSION)"'
override PG_CFLAGS += -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare -Wno-missing-field-initializers $(WERROR)

ENCODING     = UTF8
REGRESS      = $(sort $(patsubst sql/%.sql,%,$(wildcard sql/*.sql)))
REGRESS_OPTS = --encoding=UTF8 --temp-instance=./tmp_regress --temp-config=test/pigeon.conf
ISOLATION      = $(sort $(patsubst test/isolation/specs/%.spec,%,$(wildcard test/isolation/specs/*.spec)))
ISOLATION_OPTS = --encoding=UTF8 --inputdir=test/isolation --outputdir=test/isolation/output \
                 --temp-instance=./tmp_isolation --temp-config=test/pigeon.conf --load-extension=pigeon
EXTRA_CLEAN = tmp_regress tmp_isolation tmp_check test/isolation/output results regression.diffs regression.out

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

# Every object depends on every header: the build is short, and never stale.
$(OBJS): $(wildcard src/*.h) $(EXTENSION).control
