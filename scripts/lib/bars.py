#!/usr/bin/env python3
"""The table of scripts/measure-peers: medians of one run, beside the bars.

bars.py FILE [PROGRAM]   FILE has the load tool's JSON lines; PROGRAM is weighed on the disk

A bar was set beside what a named peer reached then. It holds when Gatepost's median divided by that peer's, both of this run,
is no larger than bar / that figure, plus 10 %. Rows without such a peer are compared with the bar itself.
"""

import collections
import json
import os
import statistics
import sys

MARGIN = 1.10
US = "gatepost"

# what, command, scenario, figure, bar, the peer and its figure when the bar was set (None: none of these peers)
BARS = [
    ("CPU-us a login, plain", "login-rate", "imap plain c=32", "cpu_us_login", 220, "nginx", 264),
    ("CPU-us a login, TLS", "login-rate", "imap TLS c=32", "cpu_us_login", 550, "nginx", 1175),
    ("CPU-us a login, TLS resumed", "login-rate", "imap TLS resumed c=32", "cpu_us_login", 470, "nginx", 992),
    ("CPU-us a login, STARTTLS", "login-rate", "imap STARTTLS c=32", "cpu_us_login", None, "nginx", None),
    ("ms a login, TLS, one client", "login-rate", "imap TLS c=1", "p50_ms", 1.0, "dovecot", 1.25),
    ("CPU-s/GiB down, plain", "throughput", "imap plain down 4x", "cpu_s_gib", 0.50, "nginx-64k", 0.50),
    ("CPU-s/GiB down, TLS", "throughput", "imap TLS down 4x", "cpu_s_gib", 1.10, "nginx-64k", 1.12),
    ("CPU-s/GiB up, plain", "throughput", "imap plain up 4x", "cpu_s_gib", 0.85, "haproxy", 0.87),
    ("CPU-s/GiB up, TLS", "throughput", "imap TLS up 4x", "cpu_s_gib", 1.40, "nginx-64k", 1.56),
    ("KiB a session in IDLE, plain", "idle", "imap plain n=2000", "pss_kib_conn", 3.2, "nginx", 9.6),
    ("KiB a session in IDLE, TLS", "idle", "imap TLS n=2000", "pss_kib_conn", 9.0, "nginx", 24.5),
    ("CPU-us a NOOP, plain", "latency", "imap plain NOOP 1x", "cpu_us_rtt", None, "nginx", None),
    ("CPU-us a NOOP, TLS", "latency", "imap TLS NOOP 1x", "cpu_us_rtt", None, "nginx", None),
    ("us a NOOP adds, plain", "latency", "imap plain NOOP 1x", "added", 22, "nginx", 21),
    ("us a NOOP adds, TLS", "latency", "imap TLS NOOP 1x", "added", 35, "nginx", 42),
    ("MiB PSS, just started", "weigh", "just started", "pss_mib", 4, None, None),
    ("ms to the first greeting", "startup", "imap plain", "greet_ms", 15, None, None),
]
DISK = ("MiB on the disk", 6)


def read(path):
    """(command, scenario, peer) -> figure -> its values, one for each repetition."""
    runs = collections.defaultdict(lambda: collections.defaultdict(list))
    with open(path) as lines:
        for line in lines:
            run = json.loads(line)
            key = (run["cmd"], run["scenario"], run["label"])
            if run["m"].get("errors"):
                print(f"left out, because of {run['m']['errors']:.0f} errors: {' '.join(key)}", file=sys.stderr)
                continue
            for figure, value in run["m"].items():
                runs[key][figure].append(value)
    return runs


def values(runs, command, scenario, figure, peer):
    if figure != "added":
        return runs.get((command, scenario, peer), {}).get(figure, [])
    # Without a proxy there is no TLS either.
    direct = runs.get((command, "imap plain NOOP 1x", "direct"), {}).get("p50_us")
    own = runs.get((command, scenario, peer), {}).get("p50_us", [])
    return [value - statistics.median(direct) for value in own] if direct and peer != "direct" else []


def show(number):
    return f"{number:.0f}" if abs(number) >= 100 else f"{number:.1f}" if abs(number) >= 10 else f"{number:.2f}"


def cell(found):
    if not found:
        return "-"
    spread = f" ({show(min(found))}..{show(max(found))})" if len(found) > 1 else ""
    return show(statistics.median(found)) + spread


def verdict(ours, bar, theirs, then):
    """The bar's words: whether it holds, and the ratio that decides."""
    if bar is None:
        return "no bar"
    if then is None or not theirs:
        ours, limit, name = statistics.median(ours), bar, ""
    else:
        ours, limit, name = statistics.median(ours) / statistics.median(theirs), bar / then * MARGIN, "ratio "
    if ours <= limit:
        return f"holds ({name}{show(ours)} <= {show(limit)})"
    return f"MISSED by {100 * (ours / limit - 1):.0f} % ({name}{show(ours)} > {show(limit)})"


def main():
    runs = read(sys.argv[1])
    labels = list(dict.fromkeys(label for _, _, label in runs))
    peers = [label for label in labels if label not in (US, "direct")]
    print(f"| | {US} | n | bar | holds? | {' | '.join(peers)} |")
    print("|---" * (5 + len(peers)) + "|")
    for what, command, scenario, figure, bar, peer, then in BARS:
        ours = values(runs, command, scenario, figure, US)
        if not ours:
            continue
        theirs = {label: values(runs, command, scenario, figure, label) for label in peers}
        beside = f" [{peer} {show(then)}]" if then is not None else ""
        row = [what, cell(ours), str(len(ours)), "-" if bar is None else f"{bar}{beside}"]
        row.append(verdict(ours, bar, theirs.get(peer), then))
        row += [cell(theirs[label]) for label in peers]
        print(f"| {' | '.join(row)} |")
    if len(sys.argv) > 2:
        size = os.path.getsize(sys.argv[2]) / 2**20
        print(f"| {DISK[0]} | {show(size)} | 1 | {DISK[1]} | {verdict([size], DISK[1], None, None)} |" + " - |" * len(peers))


if __name__ == "__main__":
    main()
