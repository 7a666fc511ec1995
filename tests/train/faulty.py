"""What the scripts that run the fault program share. Not a test. Such a script is called with the
fault program; see fault_program.cc for the words of a fault."""

from harness import *

fault_program = arguments[0]


def faulty_words(run, count=1, sets=(), until=0):
    return ranks(count) + [fault_program, *train_words(run, sets, until)[1:]]


def faulty(fault, run, count=1, sets=(), until=0, **expected):
    return execute(faulty_words(run, count, sets, until), extra={"LF_FAULT": fault}, **expected)


def start_faulty(fault, run, count=1, sets=(), log=subprocess.DEVNULL):
    return subprocess.Popen([str(word) for word in faulty_words(run, count, sets)],
                            env={**environment, "LF_FAULT": fault}, stdout=log, stderr=log,
                            start_new_session=True)


def fault_processes(run):
    return rank_processes(run, fault_program)
