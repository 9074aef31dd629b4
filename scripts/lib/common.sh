# shellcheck shell=bash
# What every script here needs. To be sourced after `set -euo pipefail`; sets ROOT, the project's folder.
# The names that it sets are for the scripts that source it.
# shellcheck disable=SC2034

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

# Debian keeps daemons in sbin, which an ordinary user's PATH does not have.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ] && [ "${TERM:-dumb}" != dumb ]; then
    BOLD=$'\033[1m' DIM=$'\033[2m' GREEN=$'\033[32m' RED=$'\033[31m' PLAIN=$'\033[0m'
else
    BOLD='' DIM='' GREEN='' RED='' PLAIN=''
fi

# die WORDS...: says what is wrong and ends the script.
die() {
    printf '%s%s%s\n' "$RED" "$*" "$PLAIN" >&2
    exit 1
}

# wait_for SECONDS WHAT COMMAND...: repeats the command until it succeeds.
wait_for() {
    local limit=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        if [ "$SECONDS" -ge "$limit" ]; then
            printf '%swaited in vain for %s%s\n' "$RED" "$what" "$PLAIN" >&2
            return 1
        fi
        sleep 0.1
    done
}

# free_ports N: prints N ports of 127.0.0.1 that nobody uses, on one line. They are held together while they are
# chosen, so that all differ.
free_ports() {
    python3 - "$1" <<'PYTHON'
import socket, sys
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
print(*(s.getsockname()[1] for s in held))
PYTHON
}

# port_open PORT: whether something listens there on 127.0.0.1.
port_open() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# --- programs in the background ------------------------------------------------------------------------------------

BACKGROUND_PIDS=()

# in_background LOG COMMAND...: starts it; its process id is in LAST_PID, and stop_all ends it. The function's caller
# need not wait for it. It gets no Ctrl-C of its own: the script stops everything in order.
in_background() {
    local log=$1
    shift
    (trap '' INT && exec "$@") >>"$log" 2>&1 </dev/null &
    LAST_PID=$!
    BACKGROUND_PIDS+=("$LAST_PID")
}

# stop_pid PID: asks it to end, and insists after 10 seconds.
stop_pid() {
    local pid=$1 limit=$((SECONDS + 10))
    kill -TERM "$pid" 2>/dev/null || return 0
    while kill -0 "$pid" 2>/dev/null && [ "$SECONDS" -lt "$limit" ]; do sleep 0.05; done
    kill -KILL "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
}

# stop_all: ends what in_background started, last first.
stop_all() {
    local i
    for ((i = ${#BACKGROUND_PIDS[@]} - 1; i >= 0; i--)); do stop_pid "${BACKGROUND_PIDS[i]}"; done
    BACKGROUND_PIDS=()
}

# scratch_dir: makes SCRATCH, a directory that vanishes with the script together with everything in the background.
# KEEP=1 leaves it for a look.
scratch_dir() {
    # Short, because the paths of Unix sockets lie in it and may have 107 bytes.
    SCRATCH=$(mktemp -d "${TMPDIR:-/tmp}/gatepost.XXXXXX")
    chmod 755 "$SCRATCH"
    trap 'leave' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
}

leave() {
    local code=$?
    trap '' INT TERM HUP
    stop_all
    if [ -n "${KEEP:-}" ]; then
        printf '%skept: %s%s\n' "$DIM" "$SCRATCH" "$PLAIN" >&2
    else
        rm -rf "$SCRATCH"
    fi
    exit "$code"
}

# --- packages ------------------------------------------------------------------------------------------------------

# install_packages THING=PACKAGE...: installs the Debian packages whose thing, a command or the path of a file, is
# missing. Starts none of the services that packages bring along.
install_packages() {
    local pair thing missing=()
    for pair in "$@"; do
        thing=${pair%%=*}
        case $thing in
        /*) [ -e "$thing" ] || missing+=("${pair#*=}") ;;
        *) command -v "$thing" >/dev/null 2>&1 || missing+=("${pair#*=}") ;;
        esac
    done
    [ ${#missing[@]} -eq 0 ] && return 0

    local as_root=()
    if ! command -v apt-get >/dev/null 2>&1; then
        die "missing: ${missing[*]} (Debian's names). There is no apt-get here; please install them by hand."
    elif [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null 2>&1 ||
            die "missing: ${missing[*]}. Please install them as root: apt-get install ${missing[*]}"
        as_root=(sudo)
    fi
    printf '     installing %s\n' "${missing[*]}"
    # An apt that is at work elsewhere is waited for; a failed fetch is often an old package list.
    local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300)
    "${as_root[@]}" bash -s -- "${apt[*]}" "${missing[@]}" <<'AS_ROOT' || die "could not install: ${missing[*]}"
set -eu
read -ra apt <<<"$1"
shift
log=$(mktemp)
policy=/usr/sbin/policy-rc.d
ours=
tidy() {
    [ -z "$ours" ] || rm -f "$policy"
    rm -f "$log"
}
trap tidy EXIT
trap 'exit 1' INT TERM HUP
# Debian's way to say "install, but start nothing"; an administrator's own policy stays in force.
if [ ! -e "$policy" ]; then
    ours=1
    printf '#!/bin/sh\n# For the time of an installation by Gatepost'\''s scripts only; safe to remove.\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
install() { "${apt[@]}" install --no-install-recommends "$@" >>"$log" 2>&1 </dev/null; }
before=$(command -v dovecot || true)
install "$@" || { "${apt[@]}" update >>"$log" 2>&1 && install "$@"; } || { tail -n 30 "$log" >&2; exit 1; }
# Nor shall the next boot start a mail server that was only wanted for a test.
if [ -z "$before" ] && command -v dovecot >/dev/null && [ -d /run/systemd/system ]; then
    systemctl -q disable dovecot.service dovecot.socket >/dev/null 2>&1 || true
fi
AS_ROOT
    hash -r
}
