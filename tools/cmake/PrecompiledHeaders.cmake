# Precompiled headers, which take the compiler longer than the rest of most files: LibTorch's tensors, the
# options' messages and what nearly every file takes of the standard library. Files still include what they
# use: lint reads them without this.
#   precompile_headers(TARGET HEADER...)   makes a set for TARGET
#   reuse_headers(TARGET FROM)             TARGET takes FROM's; both need the same flags
option(LASTFRAME_PRECOMPILED_HEADERS "Compile the headers of many files once" ON)

set(LASTFRAME_STANDARD_HEADERS <algorithm> <cmath> <cstdint> <functional> <map> <memory> <string> <vector>)
set(LASTFRAME_MESSAGE_HEADERS "<run.pb.h>" "<record.pb.h>")
set(LASTFRAME_TENSOR_HEADERS
  <unordered_map> <ATen/TensorOperators.h> <ATen/core/Tensor.h> <ATen/Parallel.h> <ATen/ops/cat.h>
  <ATen/ops/empty.h> <ATen/ops/zeros.h>)

# ccache compares what the headers are made of, not their 300 MB of output, so that a checkout finds what
# another one compiled: our messages, and the wheel's version and commit, which nightly builds differ by.
# The kernels know no messages, so a new option does not compile them anew.
set(_messages "")
foreach(file option.proto run.proto record.proto option_reads.h)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/src/config/${file}")
  file(SHA256 "${CMAKE_SOURCE_DIR}/src/config/${file}" _sum)
  string(APPEND _messages " ${_sum}")
endforeach()
set(_wheel "")
foreach(file version.py build-version build-hash)
  if(LASTFRAME_TORCH AND EXISTS "${LASTFRAME_TORCH}/${file}")
    file(READ "${LASTFRAME_TORCH}/${file}" _text)
    string(APPEND _wheel " ${_text}")
  endif()
endforeach()
set(LASTFRAME_HEADERS_MADE_OF "${CMAKE_CXX_COMPILER_VERSION} ${Protobuf_VERSION} ${_wheel}")
set(LASTFRAME_MESSAGES_MADE_OF "${_messages}")

function(precompile_headers target)
  if(NOT LASTFRAME_PRECOMPILED_HEADERS)
    return()
  endif()
  target_precompile_headers(${target} PRIVATE ${ARGN})
  if(CMAKE_CXX_COMPILER_ID STREQUAL GNU)
    target_compile_options(${target} PRIVATE -fpch-preprocess)
    set(made_of "${LASTFRAME_HEADERS_MADE_OF} ${target} ${ARGN}")
    if(ARGN MATCHES "pb\\.h")
      string(APPEND made_of " ${LASTFRAME_MESSAGES_MADE_OF}")
    endif()
    string(SHA256 sum "${made_of}")
    file(WRITE "${CMAKE_CURRENT_BINARY_DIR}/CMakeFiles/${target}.dir/cmake_pch.hxx.gch.sum" "${sum}\n")
  endif()
endfunction()

function(reuse_headers target from)
  if(NOT LASTFRAME_PRECOMPILED_HEADERS)
    return()
  endif()
  target_precompile_headers(${target} REUSE_FROM ${from})
  if(CMAKE_CXX_COMPILER_ID STREQUAL GNU)
    target_compile_options(${target} PRIVATE -fpch-preprocess)
  endif()
endfunction()
