# shellcheck shell=bash
#
# What the scripts in this directory share: packages, a private server, clusters, and clearing all of it away again.
#
# Nothing here touches the system's PostgreSQL. Its files (programs, libraries, shared files, headers) are copied into a
# work directory, their places relative to each other kept: PostgreSQL looks for its files relative to its own programs,
# so that copy is a complete server of its own. The extension is built from a copy of the source, installed into the
# private server, and every cluster lives in the same directory. So a run needs no root but for installing packages,
# runs may overlap, and removing one directory removes everything.
#
# Servers refuse to run as root. When root runs a script, everything but the package manager and chroot runs as the user
# "postgres", which Debian's server package brings along; otherwise everything runs as the caller.
#
# Environment: PG_CONFIG names another PostgreSQL than Debian's, TMPDIR another place for the work directory.

# The Debian release that brings each PostgreSQL version pigeon supports.
declare -rA RELEASE=([15]=bookworm [17]=trixie [18]=forky)
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
declare -r ROOT

die()
{
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

# need PACKAGE...: installs those Debian packages that are missing; no service that they bring is started, now or later.
need()
{
	local package missing=() sudo=()
	for package; do
		[[ $(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null) == ii* ]] || missing+=("$package")
	done
	((${#missing[@]})) || return 0

	echo "Installing ${missing[*]}"
	if ((EUID)); then
		type -P sudo >/dev/null || die "as root, please: apt-get install ${missing[*]}"
		sudo=(sudo)
	fi
	"${sudo[@]}" bash -s -- "${missing[@]}" <<-'END' || die "could not install the packages"
		set -euo pipefail
		log=$(mktemp)
		dropin=/etc/postgresql-common/createcluster.d/pigeon-tests.conf
		files=("$log" "$dropin")
		trap 'rm -f "${files[@]}"' EXIT
		policy=/usr/sbin/policy-rc.d
		if [[ ! -e $policy ]]; then
			files+=("$policy")
			install -m 755 /dev/stdin "$policy" <<<$'#!/bin/sh\nexit 101'
		fi
		# A first installation of the server would create and start a cluster.
		mkdir -p "${dropin%/*}"
		echo "create_main_cluster = false" >"$dropin"
		export DEBIAN_FRONTEND=noninteractive
		install=(apt-get -q -y --no-install-recommends install "$@")
		"${install[@]}" </dev/null >/dev/null 2>&1 ||
			{ apt-get -q update && "${install[@]}"; } </dev/null >"$log" 2>&1 ||
			{ tail -n 30 "$log" >&2; exit 1; }
		for package; do systemctl -q disable "$package" 2>/dev/null || true; done
	END
}

# Prints the major version of the server to use: that of PG_CONFIG, else that of this Debian release.
pg_major()
{
	local codename major
	if [[ ${PG_CONFIG:-} ]]; then
		"$PG_CONFIG" --version | sed -E 's/^PostgreSQL ([0-9]+).*/\1/'
		return
	fi
	codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
	for major in "${!RELEASE[@]}"; do
		[[ ${RELEASE[$major]} != "$codename" ]] || { echo "$major"; return; }
	done
	die "this is not Debian 12 or later: set PG_CONFIG to the pg_config of your PostgreSQL"
}

# need_server [SUFFIX...]: installs what building takes and the server with its packages postgresql-<major>-SUFFIX, unless
# PG_CONFIG names a server; sets PG_MAJOR and PG_CONFIG.
need_server()
{
	PG_MAJOR=$(pg_major)
	need make gcc libc6-dev
	if [[ ! ${PG_CONFIG:-} ]]; then
		need "postgresql-$PG_MAJOR" "postgresql-server-dev-$PG_MAJOR" "${@/#/postgresql-$PG_MAJOR-}"
		PG_CONFIG=/usr/lib/postgresql/$PG_MAJOR/bin/pg_config
	fi
}

# Runs a command as the user whose servers may be started.
as_server()
{
	if ((EUID)); then "$@"; else runuser -u postgres -- "$@"; fi
}

# Makes the work directory WORK, with a copy of the source in SOURCE and room for logs in WORK/log, and sees to it that
# everything goes at the end.
open_workspace()
{
	local variable
	for variable in "${!PG@}" "${!LC_@}" LANGUAGE; do
		[[ $variable == PG_CONFIG || $variable == PG_MAJOR ]] || unset "$variable"
	done
	umask 022
	WORK=$(mktemp -d "${TMPDIR:-/tmp}/pigeon.XXXXXX")
	trap close_workspace EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM
	export HOME=$WORK LANG=C.UTF-8
	SOURCE=$WORK/source
	mkdir "$WORK/log"
	copy_source "$SOURCE"
	((EUID)) || chown -R postgres: "$WORK"
	cd "$WORK" || exit
}

# copy_source DIRECTORY: copies the source tree, without what building and testing left in it.
copy_source()
{
	mkdir "$1"
	tar -C "$ROOT" --exclude-vcs --exclude='*.o' --exclude='*.bc' --exclude='*.so' --exclude='./tmp_*' \
		--exclude=./results --exclude=./build --exclude=node_modules -cf - . | tar -C "$1" -xf -
}

close_workspace()
{
	local job
	trap - EXIT
	trap '' INT TERM
	cd / || exit
	for job in $(jobs -p); do
		kill -KILL "$job" 2>/dev/null || true
	done
	stop_servers
	wait
	# Processes of a chroot may take a moment to go.
	for _ in {1..10}; do
		rm -rf "$WORK" 2>/dev/null && return
		sleep 1
	done
	rm -rf "$WORK"
}

# Stops every server that still runs in the work directory, whoever started it (not those inside a chroot: they are gone
# with its process namespace, and their process ids mean something else here).
stop_servers()
{
	local pidfile
	while read -r pidfile; do
		[[ /proc/$(head -n 1 "$pidfile")/cwd -ef ${pidfile%/*} ]] || continue
		as_server pg_ctl -s -D "${pidfile%/*}" -m immediate stop || true
	done < <(find "$WORK" -path "$WORK/chroot-*" -prune -o -name postmaster.pid -print)
}

# copy_server PG_CONFIG DIRECTORY: copies the server that PG_CONFIG names into a directory, prints the PG_CONFIG of the copy.
copy_server()
{
	local original directory
	for original in --bindir --pkglibdir --sharedir --pkgincludedir --includedir-server; do
		directory=$("$1" "$original")
		[[ ! -d $2$directory ]] || continue
		as_server mkdir -p "$2${directory%/*}"
		as_server cp -a "$directory" "$2$directory"
	done
	echo "$2$("$1" --bindir)/pg_config"
}

# Copies the server that PG_CONFIG names into the work directory and makes PG_CONFIG and PATH name the copy.
private_server()
{
	PG_CONFIG=$(copy_server "$PG_CONFIG" "$WORK/server")
	PATH=${PG_CONFIG%/*}:$PATH
	export PG_CONFIG PATH
}

# build [VARIABLE=VALUE...]: compiles the copy of the source.
build()
{
	as_server make -s -C "$SOURCE" -j2 PG_CONFIG="$PG_CONFIG" "$@" all
}

# install_extension [VARIABLE=VALUE...]: installs what was built into the private server.
install_extension()
{
	as_server make -s -C "$SOURCE" PG_CONFIG="$PG_CONFIG" "$@" install >/dev/null
}

# start_cluster NAME [SETTING...]: starts a new cluster that listens on a socket only; psql then talks to it.
start_cluster()
{
	local home=$WORK/$1
	shift
	as_server mkdir "$home"
	as_server initdb -D "$home/data" -U postgres -A trust >"$WORK/log/initdb" 2>&1 ||
		{ cat "$WORK/log/initdb"; return 1; }
	printf '%s\n' "listen_addresses = ''" "unix_socket_directories = '$home'" "$@" |
		as_server tee -a "$home/data/postgresql.conf" >/dev/null
	as_server pg_ctl -s -D "$home/data" -l "$home/log" start || { cat "$home/log"; return 1; }
	export PGHOST=$home PGUSER=postgres PGDATABASE=postgres
}
