// NumPy's .npz format: a zip archive of .npy files, stored or deflated, as numpy.savez and
// savez_compressed write it. Reads untrusted archives whole into memory and checks every size
// before allocating it. No archives of 4 GiB or more.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>

namespace lf {

// The members by name without ".npy", each the bytes of one .npy file, checked against its CRC.
// Throws Code::kData on damage, or if the members have more than `limit` bytes together.
std::map<std::string, std::string> unpack_npz(std::span<const uint8_t> archive, uint64_t limit,
                                              const std::string& name);

// An archive of these members, not compressed; equal members give equal bytes.
std::string pack_npz(const std::map<std::string, std::string>& members);

}  // namespace lf
