# What the CMake files of the tests are made of. A suite is a label of ctest; the name of a test
# begins with it: SUITE.NAME.
include(GoogleTest)
find_package(Python3 REQUIRED COMPONENTS Interpreter)

# test_program(TARGET FILES glob... LIBRARIES target... [SOURCE_DIR])
# A program of tests, of the files below tests/ that match and are in no program yet. SOURCE_DIR
# defines LF_SOURCE_DIR and LF_FIXTURES, the checkout and its fixtures, for C++.
function(test_program target)
  cmake_parse_arguments(ARG "SOURCE_DIR" "" "FILES;LIBRARIES" ${ARGN})
  list(TRANSFORM ARG_FILES PREPEND "${CMAKE_SOURCE_DIR}/tests/")
  file(GLOB sources CONFIGURE_DEPENDS ${ARG_FILES})
  get_property(taken GLOBAL PROPERTY LASTFRAME_TEST_FILES)
  if(taken)
    list(REMOVE_ITEM sources ${taken})
  endif()
  set_property(GLOBAL APPEND PROPERTY LASTFRAME_TEST_FILES ${sources})
  add_executable(${target} ${sources})
  target_include_directories(${target} PRIVATE "${CMAKE_SOURCE_DIR}")
  target_link_libraries(${target} PRIVATE ${ARG_LIBRARIES} GTest::gtest)
  if(ARG_SOURCE_DIR)
    target_compile_definitions(${target} PRIVATE
      LF_SOURCE_DIR="${CMAKE_SOURCE_DIR}" LF_FIXTURES="${CMAKE_SOURCE_DIR}/tests/fixtures")
  endif()
  if(NOT LASTFRAME_TORCH_FREE)
    set_target_properties(${target} PROPERTIES BUILD_RPATH "${LASTFRAME_TORCH}/lib")
  endif()
  if(TARGET kernel_tests AND NOT target STREQUAL kernel_tests)  # the first that needs LibTorch; it compiles the headers for all
    reuse_headers(${target} kernel_tests)
  endif()
endfunction()

# gtest_suite(TARGET SUITE ... [ONE_THREAD])
# A test_program, each of whose tests is a test of ctest: SUITE.CASE.TEST. ONE_THREAD is for
# networks so small that a second thread only waits for the first.
function(gtest_suite target suite)
  cmake_parse_arguments(ARG "ONE_THREAD" "" "" ${ARGN})
  test_program(${target} ${ARG_UNPARSED_ARGUMENTS})
  target_link_libraries(${target} PRIVATE GTest::gtest_main)
  set(environment)
  if(ARG_ONE_THREAD)
    set(environment ENVIRONMENT OMP_NUM_THREADS=1)
  endif()
  gtest_discover_tests(${target} TEST_PREFIX "${suite}." DISCOVERY_TIMEOUT 120
                       PROPERTIES LABELS ${suite} TIMEOUT 600 ${environment})
endfunction()

# script_test(SUITE.NAME SCRIPT [argument...])
# A Python script below tests/, named without .py, is a test: status 0 passed, 77 skipped. harness.py
# reads LASTFRAME and MPIEXEC.
function(script_test name script)
  string(REGEX REPLACE "\\..*" "" suite "${name}")
  add_test(NAME ${name}
           COMMAND Python3::Interpreter "${CMAKE_SOURCE_DIR}/tests/${script}.py" ${ARGN})
  set_tests_properties(${name} PROPERTIES LABELS ${suite} TIMEOUT 600 SKIP_RETURN_CODE 77
    ENVIRONMENT "${LASTFRAME_SCRIPT_ENVIRONMENT}")
endfunction()
set(LASTFRAME_SCRIPT_ENVIRONMENT "PYTHONPATH=${CMAKE_SOURCE_DIR}/tests" PYTHONDONTWRITEBYTECODE=1)
if(TARGET lastframe)
  list(APPEND LASTFRAME_SCRIPT_ENVIRONMENT
    "LASTFRAME=$<TARGET_FILE:lastframe>" "MPIEXEC=${MPIEXEC_EXECUTABLE}")
endif()

# check_test_files([glob...])
# Every NAME_test.cc is in a program, but for the files that match: otherwise it would never run.
function(check_test_files)
  set(excepted)
  if(ARGN)
    list(TRANSFORM ARGN PREPEND "${CMAKE_SOURCE_DIR}/tests/")
    file(GLOB excepted CONFIGURE_DEPENDS ${ARGN})
  endif()
  file(GLOB_RECURSE files CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/tests/*_test.cc")
  get_property(taken GLOBAL PROPERTY LASTFRAME_TEST_FILES)
  list(REMOVE_ITEM files ${taken} ${excepted})
  if(files)
    message(FATAL_ERROR "no suite of tests/CMakeLists.txt takes ${files}")
  endif()
endfunction()
