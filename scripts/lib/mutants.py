"""Applies the mutants of tests/mutants/*.toml to a copy of the project, one at a time, and runs the tests named for them.

usage: mutants.py PROJECT COPY [WORD]        called by scripts/mutants, which sets cargo's environment
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections import defaultdict
from pathlib import Path

# Seconds that the named tests of one mutant may take; on a busy machine the slowest needs some 20.
TIME_LIMIT = 60
HUNG = f"did not end within {TIME_LIMIT} s"


class Mutant:
    """One entry of the table."""

    def __init__(self, entry):
        self.removes = entry["removes"]
        self.file = entry["file"]
        self.old = entry["old"]
        self.new = entry["new"]
        self.may_hang = entry.get("may_hang", False)
        self.fails = by_target(entry["fails"])
        self.holds = by_target(entry.get("holds", []))

    @property
    def targets(self):
        return self.fails.keys() | self.holds.keys()

    def names(self, target):
        return self.fails[target] + self.holds[target]

    def matches(self, word):
        return word.lower() in f"{self.removes} {self.file}".lower()

    def applied_to(self, text):
        """The file without the rule; None where the old text does not stand there exactly once."""
        return text.replace(self.old, self.new) if text.count(self.old) == 1 else None


def by_target(tests):
    """Names of tests by the program that has them."""
    names = defaultdict(list)
    for test in tests:
        target, name = test.split()
        names[target].append(name)
    return names


class Failure(Exception):
    """What a mutant or the project is reproached with."""


def main():
    project, copy = Path(sys.argv[1]), Path(sys.argv[2])
    word = sys.argv[3] if len(sys.argv) > 3 else ""
    started = time.monotonic()
    mutants = [mutant for mutant in read_table(project) if mutant.matches(word)]
    if not mutants:
        sys.exit(f"no mutant's description or file holds {word!r}")
    synchronise(project, copy)
    try:
        check_unmutated(copy, mutants)
    except Failure as failure:
        sys.exit(f"before any rule was removed: {failure}")
    say("the tests pass with all rules in place", started)

    complaints = [complaint for mutant in mutants if (complaint := complain_about(copy, mutant))]
    for complaint in complaints:
        print("failed:", complaint)
    print(f"{len(mutants)} mutants took {time.monotonic() - started:.0f} s")
    print(f"{len(mutants) - len(complaints)} passed, {len(complaints)} failed")
    sys.exit(bool(complaints))


def complain_about(copy, mutant):
    began = time.monotonic()
    try:
        try_out(copy, mutant)
    except Failure as failure:
        say("FAILED   " + mutant.removes, began)
        print(f"         {failure}", flush=True)
        return f"{mutant.file}: {mutant.removes}: {failure}"
    say("noticed  " + mutant.removes, began)
    return None


def say(words, since):
    print(f"{words:<110} {time.monotonic() - since:5.0f} s", flush=True)


def read_table(project):
    mutants = []
    for path in sorted((project / "tests/mutants").glob("*.toml")):
        mutants += [Mutant(entry) for entry in tomllib.loads(path.read_text())["mutant"]]
    return mutants


def synchronise(project, copy):
    """Makes the copy hold what git knows of the project. What is the same is not touched, so that cargo does not build it."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=project, check=True, capture_output=True,
    ).stdout
    wanted = {name for name in os.fsdecode(listed).split("\0") if name and (project / name).is_file()}
    for path in [path for path in copy.rglob("*") if path.is_file()]:
        if str(path.relative_to(copy)) not in wanted:
            path.unlink()
    for name in wanted:
        source, target = project / name, copy / name
        content = source.read_bytes()
        if not target.is_file() or target.read_bytes() != content:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            target.chmod(source.stat().st_mode)


def check_unmutated(copy, mutants):
    wanted = defaultdict(set)
    for mutant in mutants:
        for target in mutant.targets:
            wanted[target].update(mutant.names(target))
    programs = build(copy, wanted)
    for target, names in wanted.items():
        for name, verdict in run(copy, programs[target], sorted(names)).items():
            if verdict != "ok":
                raise Failure(f"{target} {name}: {verdict}")


def try_out(copy, mutant):
    path = copy / mutant.file
    if not path.is_file():
        raise Failure("stale: there is no such file")
    original = path.read_text()
    mutated = mutant.applied_to(original)
    if mutated is None:
        raise Failure(f"stale: its old text stands there {original.count(mutant.old)} times")
    path.write_text(mutated)
    try:
        programs = build(copy, mutant.targets)
        for target in mutant.targets:
            for name, verdict in run(copy, programs[target], mutant.names(target)).items():
                judge(mutant, target, name, verdict)
    finally:
        path.write_text(original)


def judge(mutant, target, name, verdict):
    if name in mutant.holds[target]:
        if verdict != "ok":
            raise Failure(f"{target} {name} should hold without the rule: {verdict}")
    elif verdict == "ok":
        raise Failure(f"{target} {name} passed: it did not notice")
    elif verdict != "FAILED" and not (mutant.may_hang and verdict == HUNG):
        raise Failure(f"{target} {name}: {verdict}")


def build(copy, targets):
    """Builds test programs; gives the path of each by its target's name."""
    choice = [flag for name in sorted(targets) for flag in (["--lib"] if name == "lib" else ["--test", name])]
    done = subprocess.run(
        ["cargo", "test", "--locked", "--no-run", "--quiet", "--message-format=json-render-diagnostics", *choice],
        cwd=copy, capture_output=True, text=True,
    )
    if done.returncode != 0:
        error = re.search(r"^error.*(?:\n.*){0,6}", done.stderr, re.MULTILINE)
        raise Failure("does not build: " + (error.group() if error else done.stderr[-500:]))
    programs = {}
    for message in map(json.loads, done.stdout.splitlines()):
        if message.get("executable") and message["profile"]["test"]:
            is_library = "lib" in message["target"]["kind"]
            programs["lib" if is_library else message["target"]["name"]] = message["executable"]
    return programs


def run(copy, program, names):
    """Runs tests by their full names; says of each "ok", "FAILED", or what else became of it."""
    process = subprocess.Popen(
        [program, "--exact", *names],
        cwd=copy, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=TIME_LIMIT)
        unfinished = "did not run"
        if process.returncode < 0:
            unfinished = f"was ended by {signal.Signals(-process.returncode).name}"
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        unfinished = HUNG
    text = output.decode(errors="replace")
    verdicts = dict(re.findall(r"^test (\S+) \.\.\. (ok|FAILED)$", text, re.MULTILINE))
    return {name: verdicts.get(name, unfinished) for name in names}


if __name__ == "__main__":
    main()
