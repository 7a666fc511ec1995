# Imported targets straight from a torch wheel (or any unpacked LibTorch); why not
# find_package(Torch): it demands a CUDA toolkit of its own choosing and links its NCCL.
#   torch::cpu   libtorch_cpu + libc10, runs on machines without CUDA
#   torch::cuda  headers and libraries for the plugin; only if the wheels' CUDA headers are there
# Input: LASTFRAME_TORCH (cache or environment), the folder that holds include/ and lib/.
if(NOT LASTFRAME_TORCH)
  if(DEFINED ENV{LASTFRAME_TORCH})
    set(_torch "$ENV{LASTFRAME_TORCH}")
  else()
    set(_torch "${CMAKE_SOURCE_DIR}/.deps/python/torch")
  endif()
  set(LASTFRAME_TORCH "${_torch}" CACHE PATH "Folder of the torch wheel or LibTorch" FORCE)
endif()
if(NOT EXISTS "${LASTFRAME_TORCH}/lib/libtorch_cpu.so")
  message(FATAL_ERROR "LASTFRAME_TORCH=${LASTFRAME_TORCH} holds no lib/libtorch_cpu.so; run "
                      "./launch/setup, or set LASTFRAME_TORCH to a folder that does.")
endif()
get_filename_component(_site "${LASTFRAME_TORCH}" DIRECTORY)

# The program must need libtorch_cpu even where no symbol asks for it (its static initialisers
# register the operators).
set(CMAKE_LINK_LIBRARY_USING_lf_needed "LINKER:--push-state,--no-as-needed" "<LINK_ITEM>"
                                       "LINKER:--pop-state")
set(CMAKE_LINK_LIBRARY_USING_lf_needed_SUPPORTED TRUE)

function(_torch_library name file)
  add_library(torchwheel::${name} SHARED IMPORTED GLOBAL)
  set_target_properties(torchwheel::${name} PROPERTIES IMPORTED_LOCATION "${file}")
endfunction()
_torch_library(c10 "${LASTFRAME_TORCH}/lib/libc10.so")
_torch_library(torch_cpu "${LASTFRAME_TORCH}/lib/libtorch_cpu.so")

add_library(lf_torch INTERFACE)
add_library(torch::cpu ALIAS lf_torch)
target_include_directories(lf_torch SYSTEM INTERFACE
  "${LASTFRAME_PROTOBUF_FIRST}" "${GLOG_INCLUDE_DIR}" "${LASTFRAME_TORCH}/include"
  "${LASTFRAME_TORCH}/include/torch/csrc/api/include")
# C10_USE_GLOG: c10's LOG and CHECK in our own translation units are glog's, so none vanish.
target_compile_definitions(lf_torch INTERFACE USE_DISTRIBUTED USE_RPC USE_TENSORPIPE C10_USE_GLOG)
target_link_libraries(lf_torch INTERFACE "$<LINK_LIBRARY:lf_needed,torchwheel::torch_cpu>"
                                         torchwheel::c10 lf_glog)
# The wheel's own OpenMP runtime: a second libgomp in the process means two thread pools.
file(GLOB _gomp "${LASTFRAME_TORCH}/lib/libgomp*.so*")
list(LENGTH _gomp _gomp_count)
if(_gomp_count GREATER 0)
  list(GET _gomp 0 LASTFRAME_GOMP)
else()
  set(LASTFRAME_GOMP gomp)
endif()

set(LASTFRAME_CUDA_SITE "${_site}")

# torch::cuda, for the plugin. The CUDA headers may lie in the wheels beside torch (cu13/, or one
# folder a component in the wheels of CUDA 12) or in a toolkit; what only a toolkit has (cuBLAS and
# the like) is stood in for by src/cuda/opaque. LASTFRAME_NO_CUDA says what is missing, "" if nothing.
set(LASTFRAME_NO_CUDA "")
find_program(LASTFRAME_NVCC nvcc HINTS "$ENV{CUDA_HOME}/bin" /usr/local/cuda/bin)
set(_toolkit "$ENV{CUDA_HOME}/include" /usr/local/cuda/include)
if(LASTFRAME_NVCC)
  get_filename_component(_nvcc_real "${LASTFRAME_NVCC}" REALPATH)
  get_filename_component(_nvcc_folder "${_nvcc_real}" DIRECTORY)
  list(PREPEND _toolkit "${_nvcc_folder}/../include")
endif()
file(GLOB _cuda_wheels "${_site}/nvidia/cu[0-9]*" "${_site}/nvidia/cuda_runtime" "${_site}/nvidia/cuda_nvcc"
                       "${_site}/nvidia/nccl")
list(TRANSFORM _cuda_wheels APPEND "/include" OUTPUT_VARIABLE _cuda_includes)
list(TRANSFORM _cuda_wheels APPEND "/lib" OUTPUT_VARIABLE _cuda_folders)
find_path(LASTFRAME_CUDART_INCLUDE cuda_runtime_api.h PATHS ${_cuda_includes} ${_toolkit} NO_DEFAULT_PATH)
find_path(LASTFRAME_CRT_INCLUDE crt/host_defines.h PATHS ${_cuda_includes} ${_toolkit} NO_DEFAULT_PATH)
find_path(LASTFRAME_NCCL_INCLUDE nccl.h PATHS ${_cuda_includes} ${_toolkit} NO_DEFAULT_PATH)
function(_cuda_library variable)
  if(NOT ${variable})
    find_file(${variable} NAMES ${ARGN} PATHS ${_cuda_folders} "${LASTFRAME_TORCH}/lib" NO_DEFAULT_PATH)
  endif()
endfunction()
_cuda_library(LASTFRAME_CUDART_LIBRARY libcudart.so.13 libcudart.so.12)
_cuda_library(LASTFRAME_NCCL_LIBRARY libnccl.so.2)
_cuda_library(LASTFRAME_TORCH_CUDA_LIBRARY libtorch_cuda.so)
foreach(_part CUDART_INCLUDE CRT_INCLUDE NCCL_INCLUDE CUDART_LIBRARY NCCL_LIBRARY TORCH_CUDA_LIBRARY)
  mark_as_advanced(LASTFRAME_${_part})
  if(NOT LASTFRAME_${_part})
    string(APPEND LASTFRAME_NO_CUDA " ${_part}")
  endif()
endforeach()
if(NOT LASTFRAME_NO_CUDA)
  _torch_library(torch_cuda "${LASTFRAME_TORCH_CUDA_LIBRARY}")
  _torch_library(c10_cuda "${LASTFRAME_TORCH}/lib/libc10_cuda.so")
  _torch_library(cudart "${LASTFRAME_CUDART_LIBRARY}")
  _torch_library(nccl "${LASTFRAME_NCCL_LIBRARY}")
  add_library(lf_torch_cuda INTERFACE)
  add_library(torch::cuda ALIAS lf_torch_cuda)
  target_include_directories(lf_torch_cuda SYSTEM INTERFACE
    "${LASTFRAME_NCCL_INCLUDE}" "${LASTFRAME_CUDART_INCLUDE}" "${LASTFRAME_CRT_INCLUDE}"
    "${CMAKE_SOURCE_DIR}/src/cuda/opaque")
  target_compile_definitions(lf_torch_cuda INTERFACE USE_C10D_NCCL)
  target_link_libraries(lf_torch_cuda INTERFACE torch::cpu
    "$<LINK_LIBRARY:lf_needed,torchwheel::torch_cuda>" torchwheel::c10_cuda torchwheel::cudart
    torchwheel::nccl)
endif()
