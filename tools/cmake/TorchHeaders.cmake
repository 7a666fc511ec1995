# Precompiled headers of LibTorch's tensors, which nearly every file includes and which take the
# compiler longer than the rest of most files together. Files still include what they use: lint
# reads them without this.
#   precompile_torch_headers(TARGET [HEADER...])   makes them for TARGET; more headers if wanted
#   reuse_torch_headers(TARGET FROM)               TARGET takes FROM's; both need the same flags
option(LASTFRAME_PRECOMPILED_HEADERS "Compile LibTorch's headers once" ON)

# ccache compares what the headers are made of, not their 300 MB of output, so that a checkout finds
# what another one compiled.
function(precompile_torch_headers target)
  if(NOT LASTFRAME_PRECOMPILED_HEADERS)
    return()
  endif()
  set(headers
    <algorithm> <cmath> <functional> <map> <memory> <string> <unordered_map> <vector>
    <ATen/TensorOperators.h> <ATen/core/Tensor.h> <ATen/Parallel.h> <ATen/ops/cat.h>
    <ATen/ops/empty.h> <ATen/ops/zeros.h> ${ARGN})
  target_precompile_headers(${target} PRIVATE ${headers})
  if(CMAKE_CXX_COMPILER_ID STREQUAL GNU)
    target_compile_options(${target} PRIVATE -fpch-preprocess)
    # The commit too, which nightly builds of one version differ by: a wheel's file, or a LibTorch's.
    set(torch_build "")
    foreach(file version.py build-version build-hash)
      if(EXISTS "${LASTFRAME_TORCH}/${file}")
        file(READ "${LASTFRAME_TORCH}/${file}" text)
        string(APPEND torch_build "${text}")
      endif()
    endforeach()
    string(SHA256 made_of "${CMAKE_CXX_COMPILER_VERSION} ${torch_build} ${target} ${headers}")
    set(folder "${CMAKE_CURRENT_BINARY_DIR}/CMakeFiles/${target}.dir")
    file(WRITE "${folder}/cmake_pch.hxx.gch.sum" "${made_of}\n")
  endif()
endfunction()

function(reuse_torch_headers target from)
  if(NOT LASTFRAME_PRECOMPILED_HEADERS)
    return()
  endif()
  target_precompile_headers(${target} REUSE_FROM ${from})
  if(CMAKE_CXX_COMPILER_ID STREQUAL GNU)
    target_compile_options(${target} PRIVATE -fpch-preprocess)
  endif()
endfunction()
