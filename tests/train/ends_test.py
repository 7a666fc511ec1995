"""A rank that ends in any phase of the work: the others end too, and the next start finds nothing in
its way. What the rank threw gives the status (3 here); _exit(9) gives 9; after SIGKILL mpirun gives
137, of which launch/local makes 6 (launch/local_test.py). (F11 of faults.md.)"""

from faulty import *

SETS = ["comm.bucket_mib=0.001", "comm.first_bucket_mib=0.001", "checkpoint.every_images=60", "train.validation_images=48",
        "train.validation_clips=12", "train.preview_images=48"]
began = time.time()
for where, step in (("build", -1), ("resume", -1), ("forward", 7), ("reduce", 7), ("checkpoint", 9),
                    ("validation", 7), ("preview", 7)):
    rank = 0 if where == "preview" else 1  # rank 0 alone makes previews
    for what, code in (("throw", 3), ("exit", 9), ("kill", 137)):
        run = here / f"{what}-in-{where}"
        text = faulty(f"{what} {where} {rank} {step}", run, 2, SETS, status=code)
        check(what != "throw" or f": a fault in {where} of rank {rank}" in text, text)
        wait_until(lambda: not fault_processes(run), f"the end of all ranks, and of an heir, of {run.name}")
        # Nothing is in the way of the next start.
        if what == "kill":
            train(run, 2, SETS, until=12 * BATCH)
print(f"21 ends of a rank and 7 starts after them: {time.time() - began:.0f} s")
