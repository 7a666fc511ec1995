"""40 steps in one go equal 17 steps, an end of the process and 23 more: every loss and every byte of
the last checkpoint, with dropout, with an adversarial loss. Called with the number of ranks."""

from harness import *

count = int(arguments[0])
for name, sets in (("dropout", []), ("adversarial", ADVERSARIAL)):
    whole, parts = here / f"{name}-whole", here / f"{name}-parts"
    train(whole, count, sets)
    train(parts, count, sets, until=17 * BATCH)
    check(status(parts)["state"] == "slice", f"a slice ends as {status(parts)['state']}")
    check(lines(parts)[-1]["images"] == 17 * BATCH, "the slice has another length")
    train(parts, count, sets)
    check(len(lines(whole)) == 40 and status(whole)["state"] == "finished", "40 steps and the end")
    check(lines(whole)[-1]["loss"] < lines(whole)[0]["loss"], "nothing was learned")
    check_same_end(whole, parts, f"{name} at {count} ranks")
    # A finished run has nothing to do, and says so with 0.
    train(parts, count, sets)
    check_same_end(whole, parts, f"{name} started once more")
