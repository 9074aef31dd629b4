# shellcheck shell=bash
# A real Dovecot for demo and tests: its own configuration, unprivileged ports, everything under one directory.
# Needs common.sh.
# The names that it sets are for the scripts that source it.
# shellcheck disable=SC2034

# What start_dovecot needs, for install_packages.
DOVECOT_PACKAGES=(/usr/lib/dovecot/imap=dovecot-imapd dovecot=dovecot-core openssl=openssl python3=python3)

# start_dovecot DIR [LOGIN:PASSWORD...]: starts Dovecot with a mailbox of three messages for each login. Sets
#   DOVECOT_NAME                        the DNS name to connect to, which its certificate proves
#   DOVECOT_IMAPS_PORT DOVECOT_IMAP_PORT   implicit TLS; STARTTLS
#   DOVECOT_CA DOVECOT_CERT DOVECOT_KEY    PEM files: the private authority; the server's certificate and key
#   DOVECOT_LOG                         its log; each password that Dovecot is asked about stands there in the clear
start_dovecot() {
    local dir=$1 owner group version
    shift
    mkdir -p "$dir"
    dir=$(cd "$dir" && pwd -P)
    DOVECOT_NAME=localhost
    DOVECOT_LOG=$dir/log
    make_certificates "$dir/tls"
    read -r DOVECOT_IMAPS_PORT DOVECOT_IMAP_PORT <<<"$(free_ports 2)"

    local account
    : >"$dir/passwd"
    for account in "$@"; do
        # Fields are separated by colons; so a password must not have one.
        printf '%s:{PLAIN}%s::::::\n' "${account%%:*}" "${account#*:}" >>"$dir/passwd"
        fill_mailbox "$dir/mail/${account%%:*}" "${account%%:*}"
    done

    # Dovecot runs as an ordinary user in either case: one configuration, and root's rights are never needed.
    local drop=()
    if [ "$(id -u)" -eq 0 ]; then
        owner=nobody group=$(id -gn nobody)
        drop=(setpriv --reuid "$owner" --regid "$group" --clear-groups)
    else
        owner=$(id -un) group=$(id -gn)
    fi
    mkdir -p "$dir/run" "$dir/state"
    : >"$DOVECOT_LOG"
    version=$(dovecot --version)
    case $version in
    2.3.*) dovecot_2_3 "$dir" "$owner" "$group" >"$dir/dovecot.conf" ;;
    *) dovecot_2_4 "$dir" "$owner" "$group" >"$dir/dovecot.conf" ;;
    esac
    [ ${#drop[@]} -eq 0 ] || chown -R "$owner:$group" "$dir"

    in_background "$dir/out" "${drop[@]}" "$(command -v dovecot)" -F -c "$dir/dovecot.conf"
    if ! wait_for 15 "Dovecot $version" port_open "$DOVECOT_IMAPS_PORT"; then
        cat "$dir/out" "$DOVECOT_LOG" >&2
        return 1
    fi
}

# The authority signs one certificate for every name under which the tests reach their servers.
make_certificates() {
    local tls=$1
    mkdir -p "$tls"
    DOVECOT_CA=$tls/ca.crt DOVECOT_CERT=$tls/server.crt DOVECOT_KEY=$tls/server.key
    cat >"$tls/ext" <<EOF
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = DNS:localhost, DNS:mail.demo.test, IP:127.0.0.1
EOF
    {
        new_key "$tls/ca.key"
        new_key "$DOVECOT_KEY"
        openssl req -new -key "$tls/ca.key" -subj '/CN=Gatepost demo authority' -out "$tls/ca.csr"
        openssl x509 -req -in "$tls/ca.csr" -signkey "$tls/ca.key" -days 2 -sha256 \
            -extfile "$tls/ext" -extensions ca -out "$DOVECOT_CA"
        openssl req -new -key "$DOVECOT_KEY" -subj '/CN=mail.demo.test' -out "$tls/server.csr"
        openssl x509 -req -in "$tls/server.csr" -CA "$DOVECOT_CA" -CAkey "$tls/ca.key" -set_serial 2 -days 2 -sha256 \
            -extfile "$tls/ext" -extensions server -out "$DOVECOT_CERT"
    } >>"$tls/openssl.log" 2>&1 || {
        cat "$tls/openssl.log" >&2
        return 1
    }
}

new_key() {
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1"
}

fill_mailbox() {
    local maildir=$1 login=$2 n=0 subject
    mkdir -p "$maildir/cur" "$maildir/new" "$maildir/tmp"
    for subject in "Welcome to the demo" "Lunch on Friday?" "Your new mail gateway"; do
        n=$((n + 1))
        cat >"$maildir/new/170000000$n.M${n}P1.demo" <<EOF
Return-Path: <office@demo.test>
From: The Office <office@demo.test>
To: <$login>
Subject: $subject
Date: Mon, 2 Nov 2026 09:0$n:00 +0000
Message-ID: <$n@demo.test>

Message $n of 3.
EOF
    done
}

# What both versions spell alike. Without root there is nobody to change to and no chroot.
dovecot_common() {
    local dir=$1 owner=$2 group=$3
    cat <<EOF
base_dir = $dir/run
state_dir = $dir/state
log_path = $DOVECOT_LOG
protocols = imap
listen = 127.0.0.1
default_internal_user = $owner
default_internal_group = $group
default_login_user = $owner
first_valid_uid = 1
ssl = required
auth_mechanisms = plain login
# The log shall show whether Dovecot was ever asked about a password, and which. Never in production.
auth_verbose = yes
auth_debug = yes
auth_debug_passwords = yes
service anvil {
  chroot =
  # No penalty for failures: the pace of refusals is Gatepost's business here.
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
service stats {
  chroot =
}
service imap-login {
  chroot =
  inet_listener imap {
    port = $DOVECOT_IMAP_PORT
  }
  inet_listener imaps {
    port = $DOVECOT_IMAPS_PORT
    ssl = yes
  }
}
EOF
}

dovecot_2_3() {
    local dir=$1
    dovecot_common "$@"
    cat <<EOF
ssl_cert = <$DOVECOT_CERT
ssl_key = <$DOVECOT_KEY
ssl_min_protocol = TLSv1.2
mail_location = maildir:$dir/mail/%u
auth_failure_delay = 0 secs
passdb {
  driver = passwd-file
  args = $dir/passwd
}
userdb {
  driver = static
  args = uid=$2 gid=$3 home=$dir/mail/%u
}
EOF
}

# Debian 13 has 2.4: the same under new names.
dovecot_2_4() {
    local dir=$1
    printf 'dovecot_config_version = 2.4.0\ndovecot_storage_version = 2.4.0\n'
    dovecot_common "$@"
    cat <<EOF
ssl_server_cert_file = $DOVECOT_CERT
ssl_server_key_file = $DOVECOT_KEY
ssl_min_protocol = TLSv1.2
mail_driver = maildir
mail_path = $dir/mail/%{user}
auth_failure_delay = 0 secs
passdb passwd-file {
  passwd_file_path = $dir/passwd
}
userdb static {
  fields {
    uid = $2
    gid = $3
    home = $dir/mail/%{user}
  }
}
EOF
}
