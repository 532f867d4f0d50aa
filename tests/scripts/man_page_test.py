#!/usr/bin/env python3
"""The manual page names every flag of every command and passes mandoc's lint.

    man_page_test.py KVSERVE MAN_PAGE
"""
import re
import shutil
import subprocess
import sys


def flags_of(kvserve, command):
    text = subprocess.run([kvserve, *command, "--help-all"], check=True, capture_output=True,
                          text=True).stdout
    flags = set(re.findall(r"^  --(?:\[no-\])?([a-z0-9-]+)", text, re.MULTILINE))
    assert len(flags) >= 4, f"{command}: no flags found in the help"
    return flags


def main():
    kvserve, page = sys.argv[1:]
    with open(page, encoding="utf-8") as file:
        text = file.read()
    documented = set(re.findall(r"^\.It Fl -([a-z0-9-]+)", text, re.MULTILINE))
    known = set()
    for command in ([], ["check-cache"], ["bench"], ["plan"], ["calibrate"], ["eval"], ["doctor"]):
        known |= flags_of(kvserve, command)
    failures = [f"--{name}: not in the manual page" for name in sorted(known - documented)]
    failures += [f"--{name}: in the manual page, but no flag" for name in sorted(documented - known)]
    if shutil.which("mandoc"):
        lint = subprocess.run(["mandoc", "-T", "lint", page], capture_output=True,
                              text=True, check=False)
        failures += lint.stdout.splitlines()
    else:
        print("mandoc is not installed; the page is not linted", file=sys.stderr)
    print("\n".join(failures) or "complete")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
