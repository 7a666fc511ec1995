# The libraries that need neither torch nor MPI. HDF5 must be a serial build: the store's bytes are
# made with the core driver, and a parallel build writes other bytes and drags MPI into `data`.
find_package(Threads REQUIRED)
find_package(Protobuf REQUIRED)
find_package(PNG REQUIRED)
find_package(JPEG REQUIRED)
find_package(ZLIB REQUIRED)
set(HDF5_PREFER_PARALLEL OFF)
find_package(HDF5 REQUIRED COMPONENTS C)
if(HDF5_IS_PARALLEL)
  message(FATAL_ERROR "HDF5 at ${HDF5_INCLUDE_DIRS} is a parallel build; Last Frame needs a serial "
                      "one (Debian: libhdf5-dev). Point -DHDF5_ROOT at it.")
endif()
add_library(lf_hdf5 INTERFACE)
target_include_directories(lf_hdf5 SYSTEM INTERFACE ${HDF5_INCLUDE_DIRS})
target_link_libraries(lf_hdf5 INTERFACE ${HDF5_C_LIBRARIES})

find_path(GLOG_INCLUDE_DIR glog/logging.h REQUIRED)
find_library(GLOG_LIBRARY glog REQUIRED)
add_library(lf_glog INTERFACE)
target_include_directories(lf_glog SYSTEM INTERFACE "${GLOG_INCLUDE_DIR}")
target_link_libraries(lf_glog INTERFACE "${GLOG_LIBRARY}")

# Optional: without it WebP pictures are refused (data/image/webp.cc).
add_library(lf_webp INTERFACE)
find_path(WEBP_INCLUDE_DIR webp/decode.h)
find_library(WEBP_LIBRARY webp)
if(LASTFRAME_WEBP AND WEBP_INCLUDE_DIR AND WEBP_LIBRARY)
  target_include_directories(lf_webp SYSTEM INTERFACE "${WEBP_INCLUDE_DIR}")
  target_link_libraries(lf_webp INTERFACE "${WEBP_LIBRARY}")
  set(LASTFRAME_WEBP_FOUND ON)
else()
  set(LASTFRAME_WEBP_FOUND OFF)
  message(STATUS "no libwebp (Debian: libwebp-dev): WebP pictures will be refused")
endif()

# Of FFmpeg only headers are needed: data/video/ffmpeg.cc opens the libraries themselves.
if(LASTFRAME_VIDEOS)
  find_path(LASTFRAME_FFMPEG_INCLUDE libavformat/version_major.h)
  set(_found "not found")
  if(LASTFRAME_FFMPEG_INCLUDE)
    file(STRINGS "${LASTFRAME_FFMPEG_INCLUDE}/libavformat/version_major.h" _found
         REGEX "define LIBAVFORMAT_VERSION_MAJOR +[0-9]+")
    string(REGEX REPLACE ".* ([0-9]+)$" "\\1" _found "${_found}")
  endif()
  if(NOT _found MATCHES "^(59|60)$")
    message(STATUS "SKIPPED: videos (libavformat 59 or 60, of FFmpeg 5.1 or 6: ${_found})")
    set(LASTFRAME_FFMPEG_INCLUDE "")
  endif()
else()
  set(LASTFRAME_FFMPEG_INCLUDE "")
endif()

# Torch wheels carry protobuf headers of their own version. This folder, searched before torch's,
# holds one link: to the protobuf whose protoc we run.
set(LASTFRAME_PROTOBUF_FIRST "${CMAKE_BINARY_DIR}/protobuf_first")
file(MAKE_DIRECTORY "${LASTFRAME_PROTOBUF_FIRST}")
list(GET Protobuf_INCLUDE_DIRS 0 _protobuf_include)
file(CREATE_LINK "${_protobuf_include}/google" "${LASTFRAME_PROTOBUF_FIRST}/google" SYMBOLIC)

if(LASTFRAME_TESTS)
  find_package(GTest REQUIRED)
endif()
