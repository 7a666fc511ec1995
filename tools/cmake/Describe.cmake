# Run at build time (cmake -P): writes OUTPUT, a header with the commit the program is built from,
# and touches it only when that changed, so that nothing is compiled again without a reason.
cmake_minimum_required(VERSION 3.25)
execute_process(COMMAND git -C "${SOURCE}" describe --always --dirty --abbrev=10
                OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET
                RESULT_VARIABLE status)
if(NOT status EQUAL 0)
  set(commit "not from git")  # an unpacked archive
endif()
file(CONFIGURE OUTPUT "${OUTPUT}" CONTENT "#define LF_COMMIT \"@commit@\"\n" @ONLY)
