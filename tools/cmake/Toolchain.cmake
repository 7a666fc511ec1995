# How the compiler is called: ccache and lld where they are found, warnings as errors, contraction
# off (recipe arithmetic is specified to the bit, see src/base/random.h), sanitizers on request.
if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()

find_program(LASTFRAME_CCACHE ccache)
if(LASTFRAME_CCACHE)
  # What it has to know of PrecompiledHeaders.cmake.
  set(_ccache "${CMAKE_COMMAND}" -E env CCACHE_SLOPPINESS=pch_defines,time_macros CCACHE_PCH_EXTSUM=1
              "${LASTFRAME_CCACHE}")
  set(CMAKE_C_COMPILER_LAUNCHER ${_ccache})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${_ccache})
endif()

find_program(LASTFRAME_LLD ld.lld)
if(LASTFRAME_LLD)
  add_link_options(-fuse-ld=lld)
endif()

# GCC 12 warns of impossible bounds inside std::string at -O3 (its bugs 105329 and 105651).
add_compile_options(-Wno-restrict $<$<CXX_COMPILER_ID:GNU>:-Wno-array-bounds> $<$<CXX_COMPILER_ID:GNU>:-Wno-stringop-overflow>)
add_compile_options(-Wall -Wextra -Wpedantic -Werror=switch "$<$<COMPILE_LANGUAGE:CXX>:-Wnon-virtual-dtor;-Woverloaded-virtual>"
                    -Wno-unused-parameter -ffp-contract=off)
option(LASTFRAME_WERROR "Treat warnings as errors" OFF)
if(LASTFRAME_WERROR)
  add_compile_options(-Werror)
endif()

if(LASTFRAME_SANITIZE)
  add_compile_options(-fsanitize=${LASTFRAME_SANITIZE} -fno-omit-frame-pointer -g)
  add_link_options(-fsanitize=${LASTFRAME_SANITIZE})
  if(LASTFRAME_SANITIZE MATCHES "undefined")
    add_compile_options(-fno-sanitize-recover=undefined)
  endif()
endif()

# compile_together(TARGET GROUP FILE...) gives TARGET these files, which are one for the compiler, because
# their headers cost more than their code. Lint reads them one by one, so each includes what it uses.
# CMake's own unity builds name absolute paths, which no compiler cache finds again in another checkout.
option(LASTFRAME_UNITY "Compile small files of a room together" ON)
function(compile_together target group)
  if(NOT LASTFRAME_UNITY)
    target_sources(${target} PRIVATE ${ARGN})
    return()
  endif()
  set(includes "")
  foreach(file IN LISTS ARGN)
    string(APPEND includes "#include \"${file}\"\n")
  endforeach()
  set(together "${CMAKE_CURRENT_BINARY_DIR}/together_${group}.cc")
  file(CONFIGURE OUTPUT "${together}" CONTENT "${includes}" @ONLY)
  target_sources(${target} PRIVATE "${together}")
  set_source_files_properties("${together}" PROPERTIES INCLUDE_DIRECTORIES "${CMAKE_CURRENT_SOURCE_DIR}")
endfunction()
