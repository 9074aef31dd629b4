# shellcheck shell=bash
# What is measured: the static program before the load tool's stub upstream. For the scripts that measure; they set
# PROFILE and MEASURE (the load tool's directory), and need gatepost.sh. GATEPOST and MAILLOAD name programs that are built
# already; PORT_BASE moves the ports (PORT_BASE+1 to +20).
# The names that it sets are for the scripts that source it.
# shellcheck disable=SC2034

PERSON=user@example.com
PASSWORD=correct-horse-7
export PORT_BASE=${PORT_BASE:-23000}
GATE=$((PORT_BASE + 1)) GATE_TLS=$((PORT_BASE + 2)) GATE_STARTTLS=$((PORT_BASE + 3)) UPSTREAM=$((PORT_BASE + 11))

say() { printf '%s%s%s\n' "$BOLD" "$*" "$PLAIN" >&2; }

# measure_dir DIRECTORY: sets MEASURE, or says that it is not the load tool's.
measure_dir() {
    MEASURE=$(cd "$1" && pwd)
    [ -x "$MEASURE/bench.sh" ] || die "$MEASURE has no bench.sh: it is not the load tool's directory"
}

# build_measured: sets GATEPOST and MAILLOAD.
build_measured() {
    if [ -z "${GATEPOST:-}" ]; then
        "$ROOT/scripts/build-static" x86_64 --profile "$PROFILE" >&2
        GATEPOST=${CARGO_TARGET_DIR:-$ROOT/target}/x86_64-unknown-linux-musl/$PROFILE/gatepost
    fi
    if [ -z "${MAILLOAD:-}" ]; then
        local target=${CARGO_TARGET_DIR:-$ROOT/target}/mailload
        cargo build --release --locked --manifest-path "$MEASURE/mailload/Cargo.toml" --target-dir "$target"
        MAILLOAD=$target/release/mailload
    fi
}

# start_stub_upstream: takes every user and every password.
start_stub_upstream() {
    in_background "$SCRATCH/upstream.log" "$MAILLOAD" upstream --threads 1 --imap "$UPSTREAM"
    wait_for 10 "the stub upstream" port_open "$UPSTREAM"
}

# measured_configuration: an empty store in SCRATCH/gatepost and its configuration, GATEPOST_CONFIG.
measured_configuration() {
    local data=$SCRATCH/gatepost config=$SCRATCH/gatepost.toml
    mkdir -m 700 "$data"
    cat >"$config" <<END
data_dir = "$data"
hostname = "localhost"
[[listener]]
name = "imap"
address = "127.0.0.1:$GATE"
protocol = "imap"
tls = "none"
[[listener]]
name = "imaps"
address = "127.0.0.1:$GATE_TLS"
protocol = "imap"
tls = "implicit"
[[listener]]
name = "starttls"
address = "127.0.0.1:$GATE_STARTTLS"
protocol = "imap"
tls = "starttls"
[limits]
connections = 20000
connections_per_network = 20000
[[upstream]]
name = "mail"
protocol = "imap"
host = "127.0.0.1"
port = $UPSTREAM
tls = "none"
passwords_in_clear = true
END
    GATEPOST_CONFIG=$config
}

# crowd FIRST END: people with these numbers, END not among them, through the admin socket.
crowd() {
    say "adding $(($2 - $1)) people"
    python3 - "$SCRATCH/gatepost/run/admin.sock" "$1" "$2" <<'PYTHON'
import http.client, json, socket, sys

class Admin(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(sys.argv[1])

admin = Admin("localhost")
for n in range(int(sys.argv[2]), int(sys.argv[3])):
    admin.request("POST", "/people", json.dumps({"login": f"p{n}@example.com"}), {"Content-Type": "application/json"})
    answer = admin.getresponse()
    said = answer.read()
    if answer.status >= 300:
        sys.exit(f"person {n}: {answer.status} {said!r}")
PYTHON
}
