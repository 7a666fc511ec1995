// Versions come from the loaded files, by symbol, not from the headers we were compiled with: the
// two differ exactly when it matters.
#include "launch/libraries.h"

#include <dlfcn.h>
#include <google/protobuf/stubs/common.h>
#include <link.h>

#include <algorithm>
#include <array>
#include <climits>
#include <cstdlib>
#include <map>

#include "base/text.h"

namespace lf {
namespace {

template <typename Function>
Function* find(void* library, const char* symbol) {
  return reinterpret_cast<Function*>(::dlsym(library, symbol));
}

std::string version_of_torch(void* library) {
  auto* abi = find<uint64_t()>(library, "aoti_torch_abi_version");
  if (abi == nullptr) return "";
  const uint64_t packed = abi();  // a byte each: major, minor, patch
  return str(packed >> 56, ".", packed >> 48 & 255, ".", packed >> 40 & 255);
}

std::string version_of_mpi(void* library) {
  auto* ask = find<int(char*, int*)>(library, "MPI_Get_library_version");
  if (ask == nullptr) return "";
  std::array<char, 8192> text{};  // MPI_MAX_LIBRARY_VERSION_STRING is less in every MPI
  int length = 0;
  if (ask(text.data(), &length) != 0) return "";
  const std::string whole(text.data());
  return whole.substr(0, whole.find(','));  // "Open MPI v4.1.4"; then follows who built it
}

std::string version_of_hdf5(void* library) {
  auto* ask = find<int(unsigned*, unsigned*, unsigned*)>(library, "H5get_libversion");
  unsigned major = 0, minor = 0, patch = 0;
  if (ask == nullptr || ask(&major, &minor, &patch) < 0) return "";
  return str(major, ".", minor, ".", patch);
}

std::string version_of_nccl(void* library) {
  auto* ask = find<int(int*)>(library, "ncclGetVersion");
  int packed = 0;
  if (ask == nullptr || ask(&packed) != 0) return "";
  return str(packed / 10000, ".", packed / 100 % 100, ".", packed % 100);
}

std::string cuda_version(void* library, const char* symbol) {
  auto* ask = find<int(int*)>(library, symbol);
  int packed = 0;
  if (ask == nullptr || ask(&packed) != 0) return "";
  return str(packed / 1000, ".", packed % 1000 / 10);
}
std::string version_of_cudart(void* library) {
  return cuda_version(library, "cudaRuntimeGetVersion");
}
std::string version_of_driver(void* library) { return cuda_version(library, "cuDriverGetVersion"); }

std::string version_of_cudnn(void* library) {
  auto* ask = find<size_t()>(library, "cudnnGetVersion");
  if (ask == nullptr) return "";
  const size_t packed = ask();
  return str(packed / 10000, ".", packed / 100 % 100, ".", packed % 100);
}

std::string version_of_webp(void* library) {
  auto* ask = find<int()>(library, "WebPGetDecoderVersion");
  if (ask == nullptr) return "";
  const int packed = ask();  // a byte each: major, minor, patch
  return str(packed >> 16, ".", packed >> 8 & 255, ".", packed & 255);
}

std::string version_of_zlib(void* library) {
  auto* ask = find<const char*()>(library, "zlibVersion");
  return ask == nullptr ? "" : ask();
}

// The headers' version is the library's: protobuf aborts where they differ.
std::string version_of_protobuf(void* /*library*/) {
  return google::protobuf::internal::VersionString(GOOGLE_PROTOBUF_VERSION);
}

std::string version_of_libc(void* library) {
  auto* ask = find<const char*()>(library, "gnu_get_libc_version");
  return ask == nullptr ? "" : ask();
}

struct Known {
  const char* name;  // the file's name up to a digit, '-' or ".so"
  const char* kind;  // only one file of a kind may be loaded
  std::string (*version)(void*);
};

constexpr Known kKnown[] = {
    {"libtorch_cpu", "libtorch_cpu", version_of_torch},
    {"libc10", "libc10", nullptr},
    {"libtorch_cuda", "libtorch_cuda", nullptr},
    {"libc10_cuda", "libc10_cuda", nullptr},
    {"liblastframe_cuda", "liblastframe_cuda", nullptr},
    {"libmpi", "MPI", version_of_mpi},
    {"libopen-pal", "libopen-pal", nullptr},
    {"libpmix", "libpmix", nullptr},
    {"libucp", "libucp", nullptr},
    {"libhdf5", "HDF5", version_of_hdf5},
    {"libhdf5_serial", "HDF5", version_of_hdf5},
    {"libprotobuf", "libprotobuf", version_of_protobuf},
    {"libglog", "libglog", nullptr},
    {"libgomp", "OpenMP", nullptr},
    {"libiomp", "OpenMP", nullptr},
    {"libomp", "OpenMP", nullptr},
    {"libjpeg", "libjpeg", nullptr},
    {"libpng", "libpng", nullptr},
    {"libwebp", "libwebp", version_of_webp},
    {"libz", "zlib", version_of_zlib},
    {"libcuda", "libcuda", version_of_driver},
    {"libcudart", "libcudart", version_of_cudart},
    {"libnccl", "NCCL", version_of_nccl},
    {"libcublas", "libcublas", nullptr},
    {"libcudnn", "libcudnn", version_of_cudnn},
    {"libstdc++", "libstdc++", nullptr},
    {"libc", "libc", version_of_libc},
};

// "/a/libgomp-a34b.so.1" is libgomp, "/a/libpng16.so.16" libpng, "/a/libc10_cuda.so" is not libc10.
bool is_called(const std::string& file, const std::string& name) {
  if (!file.starts_with(name)) return false;
  std::string rest = file.substr(name.size(), file.find(".so") - name.size());
  if (rest.empty()) return file.compare(name.size(), 3, ".so") == 0;
  if (rest[0] == '-') return name != "libc";
  // libc10 is not version 10 of libc, nor libiomp5 one of anything else.
  return name != "libc" &&
         std::all_of(rest.begin(), rest.end(), [](char c) { return c >= '0' && c <= '9'; });
}

std::string base_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

// "libglog.so.0.6.0" -> "0.6.0".
std::string version_in_name(const std::string& path) {
  const std::string file = base_name(path);
  const size_t at = file.find(".so.");
  return at == std::string::npos ? "" : file.substr(at + 4);
}

std::vector<std::string> loaded_paths() {
  std::vector<std::string> paths;
  ::dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* into) {
        if (info->dlpi_name != nullptr && *info->dlpi_name != 0) {
          static_cast<std::vector<std::string>*>(into)->emplace_back(info->dlpi_name);
        }
        return 0;
      },
      &paths);
  return paths;
}

std::string resolved(const std::string& path) {
  std::array<char, PATH_MAX> real{};
  return ::realpath(path.c_str(), real.data()) == nullptr ? path : std::string(real.data());
}

}  // namespace

std::vector<LoadedLibrary> loaded_libraries() {
  const std::vector<std::string> paths = loaded_paths();
  std::vector<LoadedLibrary> found;
  for (const Known& known : kKnown) {
    for (const std::string& path : paths) {
      if (!is_called(base_name(path), known.name)) continue;
      LoadedLibrary library{.name = known.name, .version = "", .path = resolved(path)};
      if (known.version != nullptr) {
        // RTLD_NOLOAD: only a handle of what is loaded.
        void* handle = ::dlopen(path.c_str(), RTLD_NOW | RTLD_NOLOAD);
        if (handle != nullptr) {
          library.version = known.version(handle);
          ::dlclose(handle);
        }
      }
      if (library.version.empty()) library.version = version_in_name(library.path);
      found.push_back(library);
    }
  }
  return found;
}

std::vector<std::string> double_libraries(const std::vector<LoadedLibrary>& libraries) {
  std::map<std::string, std::vector<std::string>> by_kind;
  for (const LoadedLibrary& library : libraries) {
    for (const Known& known : kKnown) {
      if (library.name != known.name) continue;
      std::vector<std::string>& paths = by_kind[known.kind];
      if (std::find(paths.begin(), paths.end(), library.path) == paths.end()) {
        paths.push_back(library.path);
      }
    }
  }
  std::vector<std::string> sentences;
  for (const auto& [kind, paths] : by_kind) {
    if (paths.size() > 1) {
      sentences.push_back(
          str("two copies of ", kind, " are loaded, expected one: ", join(paths, " and "),
              "; a library path set in the environment, or a module, brings the second"));
    }
  }
  return sentences;
}

}  // namespace lf
