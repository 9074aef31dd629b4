# shellcheck shell=bash
# Gatepost between mail programs and the Dovecot of dovecot.sh, with a recorder on its way to Dovecot. Needs both.
# The names that it sets are for the scripts that source it.
# shellcheck disable=SC2034

# The emulator that runs a GATEPOST of another processor; empty for one of this processor.
read -ra UNDER <<<"${GATEPOST_UNDER:-}"

# build_gatepost: sets GATEPOST, the program. A GATEPOST that is set already is used as it is.
build_gatepost() {
    [ -z "${GATEPOST:-}" ] || return 0
    cargo build --locked --quiet --manifest-path "$ROOT/Cargo.toml"
    GATEPOST=${CARGO_TARGET_DIR:-$ROOT/target}/debug/gatepost
}

# start_tap: whatever Gatepost says to Dovecot's TLS port goes through TAP_PORT, and stands in the file TAP_RECORD before
# Dovecot gets it.
start_tap() {
    TAP_RECORD=$SCRATCH/heard
    : >"$TAP_RECORD"
    TAP_PORT=$(free_ports 1)
    in_background "$SCRATCH/tap.log" python3 "$ROOT/scripts/lib/tap.py" --listen "$TAP_PORT" \
        --to "$DOVECOT_NAME:$DOVECOT_IMAPS_PORT" --cert "$DOVECOT_CERT" --key "$DOVECOT_KEY" --ca "$DOVECOT_CA" \
        --record "$TAP_RECORD"
    wait_for 10 "the recorder" port_open "$TAP_PORT"
}

# heard_bytes: how many bytes Gatepost has sent to Dovecot so far.
heard_bytes() {
    stat -c %s "$TAP_RECORD"
}

# heard WORD: whether it was among them, as it is or in the base64 of SASL.
heard() {
    python3 - "$TAP_RECORD" "$1" <<'PYTHON'
import base64, re, sys

said, word = open(sys.argv[1], "rb").read(), sys.argv[2].encode()
for encoded in re.findall(rb"[A-Za-z0-9+/]{4,}={0,2}", said):
    if len(encoded) % 4 == 0:
        said += b"\n" + base64.b64decode(encoded)
sys.exit(word not in said)
PYTHON
}

# start_gatepost CONFIG PORT: starts it and waits until it listens there. Sets GATEPOST_CONFIG for `gatepost`, and
# GATEPOST_LOG, GATEPOST_PID.
start_gatepost() {
    GATEPOST_CONFIG=$1 GATEPOST_LOG=$SCRATCH/gatepost.log
    in_background "$GATEPOST_LOG" "${UNDER[@]}" "$GATEPOST" run --config "$GATEPOST_CONFIG"
    GATEPOST_PID=$LAST_PID
    if ! wait_for 20 "Gatepost" port_open "$2"; then
        cat "$GATEPOST_LOG" >&2
        return 1
    fi
}

# gatepost WORDS...: a command for the running gateway.
gatepost() {
    "${UNDER[@]}" "$GATEPOST" "$@" --config "$GATEPOST_CONFIG"
}

# json EXPRESSION: a Python expression over `it`, the JSON on standard input.
json() {
    python3 -c 'import json, sys; it = json.load(sys.stdin); print(eval(sys.argv[1]))' "$1"
}
