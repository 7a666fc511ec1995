"""The names, types, defaults and ranges of all options, against the committed list.

Configs and scripts of users depend on them, so a change must be meant. With --write the
list is written anew; then read the difference before committing it.
"""

import json

from harness import arguments, expect, finish, fixtures, program, run

listing = fixtures / "options.txt"
options = json.loads(run(program, "list", "options", "--json").stdout)["options"]
lines = ["\t".join((row["name"], row["type"], row["default"], row["range"])).rstrip() for row in options]
for row in options:
    expect(row["help"].strip(), f"{row['name']} has no comment in run.proto")
    for name, comment in row.get("values", {}).items():
        expect(comment, f"the value {name} of {row['name']} has no comment in run.proto")
    expect(row["help"].strip().endswith("."), f"the comment of {row['name']} is no sentence: {row['help']!r}")
expect(len(lines) == len(set(lines)), "an option is listed twice")
if "--write" in arguments:
    listing.write_text("\n".join(lines) + "\n")
    print(f"{len(lines)} options written to {listing}")
    finish()
known = listing.read_text().splitlines()
again = "if that is meant, run PYTHONPATH=tests python3 tests/launch/options_test.py --write"
for line in lines:
    expect(line in known, f"new or changed: {line!r}; {again}")
for line in known:
    expect(line in lines, f"gone or changed: {line!r}; {again}")
if set(lines) == set(known):
    expect(lines == known, f"the order changed; {again}")
finish()
