// The HDF5 part of a shard. Only this file uses the HDF5 library, and only to write, in memory: a
// hostile file never meets the library. Bytes are reproducible: no times, a fixed format version,
// no uninitialised memory.
#pragma once

#include <string>

#include "data/store/layout.h"

namespace lf {

// The bytes of an HDF5 file with the attributes of a shard and all its datasets, allocated but not
// written; the record in `trailer`, whose sizes are set, gets the addresses. The caller fills the
// datasets in, which saves a copy of the pixels through HDF5.
std::string make_hdf5_skeleton(const StoreIndex& plan, const Layout& layout, ShardTrailer& trailer);

}  // namespace lf
