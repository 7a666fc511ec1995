// NumPy's .npz format: a zip archive of .npy files, stored or deflated, as numpy.savez and
// savez_compressed write it. Reads untrusted archives whole into memory, every size checked before
// it is allocated; no archives of 4 GiB or more. Called by eval for the statistics of features.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>

namespace lf {

// The members by name, without their ".npy": each the bytes of one .npy file, compared with its
// checksum. Damage, and members over `limit` bytes together, are Code::kData.
std::map<std::string, std::string> unpack_npz(std::span<const uint8_t> archive, uint64_t limit,
                                              const std::string& name);

// An archive of these members, stored; equal members give equal bytes.
std::string pack_npz(const std::map<std::string, std::string>& members);

}  // namespace lf
