# What `cmake --install` copies beside the targets (whose folders install themselves): configs,
# sbatch files and documents; and, as the component `torch` that is copied only when named, the
# LibTorch that the program was built against. The tree may be moved as a whole: bin/lastframe looks
# in ../lib/torch/lib first, and the wheel's libraries look in ../../nvidia as in site-packages. MPI,
# HDF5, protobuf and the like stay the system's.
include(GNUInstallDirs)

foreach(folder configs slurm)
  if(IS_DIRECTORY "${CMAKE_SOURCE_DIR}/${folder}")
    install(DIRECTORY "${CMAKE_SOURCE_DIR}/${folder}" USE_SOURCE_PERMISSIONS
            DESTINATION "${CMAKE_INSTALL_DATAROOTDIR}/lastframe" PATTERN "__pycache__" EXCLUDE)
  endif()
endforeach()
# Beside configs, where the launcher's own search for the program expects to be.
install(PROGRAMS "${CMAKE_SOURCE_DIR}/launch/local"
        DESTINATION "${CMAKE_INSTALL_DATAROOTDIR}/lastframe/launch")
install(FILES "${CMAKE_SOURCE_DIR}/README.md" "${CMAKE_SOURCE_DIR}/CHANGELOG.md"
              "${CMAKE_SOURCE_DIR}/LICENSE" DESTINATION "${CMAKE_INSTALL_DOCDIR}")

if(NOT LASTFRAME_TORCH_FREE)
  # With the CUDA libraries at hand everything libtorch_cuda loads goes along, several GB; without
  # them only what libtorch_cpu loads.
  file(GLOB cublas "${LASTFRAME_CUDA_SITE}/nvidia/*/lib/libcublas.so*")
  if(cublas)
    set(torch_names "*.so*")
    set(nvidia_names "*.so*")
  else()
    set(torch_names "libtorch_cpu.so*" "libc10.so*" "libgomp*.so*")
    set(nvidia_names "libcudart.so*" "libcupti.so*")
  endif()
  set(torch_files)
  foreach(name ${torch_names})
    file(GLOB found "${LASTFRAME_TORCH}/lib/${name}")
    list(APPEND torch_files ${found})
  endforeach()
  list(FILTER torch_files EXCLUDE REGEX "/libtorch_python")
  install(FILES ${torch_files} DESTINATION lib/torch/lib COMPONENT torch EXCLUDE_FROM_ALL)
  foreach(name ${nvidia_names})
    file(GLOB nvidia_files "${LASTFRAME_CUDA_SITE}/nvidia/*/lib/${name}")
    foreach(nvidia_file ${nvidia_files})
      file(RELATIVE_PATH place "${LASTFRAME_CUDA_SITE}" "${nvidia_file}")
      get_filename_component(place "${place}" DIRECTORY)
      install(FILES "${nvidia_file}" DESTINATION "lib/${place}" COMPONENT torch EXCLUDE_FROM_ALL)
    endforeach()
  endforeach()
endif()
