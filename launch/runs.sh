# Ranks on this machine, whether a run is done, and numbers out of what lastframe prints as JSON.
# quickstart sources it; it is not a program.

say() { printf '\n== %s\n' "$*" >&2; }

# Under mpirun, started again when interrupted. Wants `program` and `ranks`.
on_ranks() { LASTFRAME=$program ./launch/local -n "$ranks" "$@"; }

finished() { grep -qs '"state":"finished"' "$1/status.json"; } # RUN

# FILE NAME [OBJECT]: a number of one-line JSON, of the object of that name where one is given.
number_of() {
  local within=${3:+"\"$3\":{[^{}]*"}
  sed -n "s/.*$within\"$2\":\([-+.0-9e]*\).*/\1/p" "$1"
}

# OUT COMMAND...: the standard output of a command that takes long, kept once it succeeded.
kept_in() {
  local file=$1
  shift
  [[ -s $file ]] || { "$@" >"$file.part" && mv "$file.part" "$file"; }
}
