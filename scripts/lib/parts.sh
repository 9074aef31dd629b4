# shellcheck shell=bash
# Runs the parts of a check one after the other, says what each took, and counts. Needs common.sh.

PARTS_PASSED=0
PARTS_FAILED=()

# part NAME COMMAND...: runs it with its output in a file; shows the end of that when it failed, and goes on.
part() {
    local name=$1 log started=$SECONDS
    shift
    log=$(mktemp)
    printf '%-42s ' "$name"
    if "$@" >"$log" 2>&1 </dev/null; then
        printf '%sok%s %10s s\n' "$GREEN" "$PLAIN" "$((SECONDS - started))"
        PARTS_PASSED=$((PARTS_PASSED + 1))
    else
        printf '%sFAILED%s %6s s\n' "$RED" "$PLAIN" "$((SECONDS - started))"
        tail -n "${SHOW_LINES:-150}" "$log" | sed 's/^/    | /'
        PARTS_FAILED+=("$name")
    fi
    rm -f "$log"
}

# parts_done: the last line, and the exit code.
parts_done() {
    local name
    for name in "${PARTS_FAILED[@]+"${PARTS_FAILED[@]}"}"; do printf 'failed: %s\n' "$name"; done
    printf '%s passed, %s failed\n' "$PARTS_PASSED" "${#PARTS_FAILED[@]}"
    [ ${#PARTS_FAILED[@]} -eq 0 ]
}

# Parts that scripts/check and scripts/test have in common.
quick_parts() {
    part "format" cargo fmt --all --check
    part "shell scripts" check_shell
    part "lints" cargo clippy --locked --all-targets -- -D warnings
    part "no second TLS library, no OpenSSL" check_banned_crates
    # Not in Debian, and minutes to build: for those who have it.
    if command -v cargo-deny >/dev/null; then
        part "licences and sources of crates" cargo deny --offline check bans licenses sources
    fi
}

# Every file in git that says it is a shell script or is sourced by one; a file must not be forgotten in a list.
check_shell() {
    local files
    mapfile -t files < <(git grep --untracked -lE '^#!.*\b(ba)?sh$|^# shellcheck shell=' | sort)
    [ ${#files[@]} -ge 5 ] || die "found only ${#files[@]} shell scripts; git or the pattern is wrong"
    shellcheck -x "${files[@]}"
}

# One TLS stack and one crypto library: `cargo tree -i` succeeds only where the crate is in the tree of some target.
check_banned_crates() {
    local crate
    for crate in aws-lc-rs aws-lc-sys openssl-sys openssl native-tls zstd-sys; do
        if cargo tree --locked --target all --edges all -i "$crate" 2>/dev/null; then
            die "$crate came in; turn off the feature that asks for it (the tree above shows whose)"
        fi
    done
    # And that the question itself works:
    cargo tree --locked -i ring >/dev/null
}
