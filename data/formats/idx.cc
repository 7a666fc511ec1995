#include "data/formats/idx.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/error.h"

namespace lf {
namespace {

constexpr uint64_t kLargestGzip = uint64_t{1} << 30, kLargestInflated = uint64_t{4} << 30;
constexpr uint64_t kMostInflation = 1032;  // bytes deflate makes of one, at best
constexpr size_t kLongestHeader = 4 + 4 * 4;

// A gzip stream of one or more members, inflated piece by piece.
class Inflater {
 public:
  Inflater(std::span<const uint8_t> gzip, const std::string& name) : left_(gzip), name_(name) {
    LF_CHECK(::inflateInit2(&stream_, 16 + MAX_WBITS) == Z_OK);
  }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;
  ~Inflater() { ::inflateEnd(&stream_); }

  // Up to `size` bytes; fewer only at the end.
  size_t read(uint8_t* into, size_t size) {
    size_t done = 0;
    while (done < size && !ended_) {
      const size_t out = std::min<size_t>(size - done, 1 << 30);
      const size_t in = std::min<size_t>(left_.size(), 1 << 30);
      stream_.next_in = const_cast<Bytef*>(left_.data());
      stream_.avail_in = static_cast<uInt>(in);
      stream_.next_out = into + done;
      stream_.avail_out = static_cast<uInt>(out);
      const int result = ::inflate(&stream_, Z_NO_FLUSH);
      left_ = left_.subspan(in - stream_.avail_in);
      done += out - stream_.avail_out;
      if (result == Z_STREAM_END) {
        ended_ = left_.empty();
        if (!ended_) ::inflateReset(&stream_);
      } else if (result != Z_OK) {
        fail(Code::kData, name_, ": the gzip stream is damaged or ends early (",
             stream_.msg ? stream_.msg : "no more bytes", "); fetch the file again");
      }
    }
    return done;
  }

 private:
  z_stream stream_{};
  std::span<const uint8_t> left_;
  const std::string& name_;
  bool ended_ = false;
};

uint64_t big_endian(const uint8_t* at) {
  return uint64_t{at[0]} << 24 | uint64_t{at[1]} << 16 | uint64_t{at[2]} << 8 | at[3];
}

}  // namespace

IdxHeader parse_idx_header(std::span<const uint8_t> begin, const std::string& name) {
  if (begin.size() < 4 || begin[0] != 0 || begin[1] != 0) {
    fail(Code::kData, name, " is not an IDX file: expected two zero bytes, a type and a rank");
  }
  if (begin[2] != 0x08) {
    fail(Code::kData, name, ": IDX type ", static_cast<int>(begin[2]),
         ", expected 8, unsigned bytes");
  }
  const size_t rank = begin[3];
  if (rank < 1 || rank > 4) fail(Code::kData, name, ": IDX rank ", rank, ", expected 1 to 4");
  IdxHeader header;
  header.header_bytes = 4 + 4 * rank;
  if (begin.size() < header.header_bytes) fail(Code::kData, name, " ends inside its IDX header");
  header.item_bytes = 1;
  for (size_t i = 0; i < rank; ++i) {
    const uint64_t size = big_endian(begin.data() + 4 + 4 * i);
    header.sizes.push_back(size);
    // Items of over 2^28 bytes are nonsense; the product then stays below 2^60.
    if (i > 0) header.item_bytes *= std::min<uint64_t>(size, uint64_t{1} << 29);
    if (size == 0 || header.item_bytes > uint64_t{1} << 28) {
      fail(Code::kData, name, ": IDX dimension ", i, " has size ", size,
           "; is the header damaged?");
    }
  }
  return header;
}

std::vector<uint8_t> inflate_idx(std::span<const uint8_t> gzip, const std::string& name,
                                 IdxHeader* header) {
  Inflater inflater(gzip, name);
  std::array<uint8_t, kLongestHeader> begin;
  // The rank first, then exactly the header it asks for.
  size_t have = inflater.read(begin.data(), 4);
  const size_t rank = have == 4 ? std::min<size_t>(begin[3], 4) : 0;
  have += inflater.read(begin.data() + have, 4 * rank);
  *header = parse_idx_header({begin.data(), have}, name);
  const uint64_t bytes = header->items() * header->item_bytes;
  if (bytes > kLargestInflated || bytes > kMostInflation * gzip.size()) {
    fail(Code::kData, name, ": the header promises ", human_bytes(bytes), ", more than ",
         bytes > kLargestInflated ? "we inflate (4 GiB); gunzip it first"
                                  : "a gzip file of this length can hold; damaged?");
  }
  std::vector<uint8_t> payload(bytes);
  const size_t got = inflater.read(payload.data(), payload.size());
  uint8_t extra = 0;
  if (got < bytes || inflater.read(&extra, 1) != 0) {
    fail(Code::kData, name, ": the header promises ", bytes, " bytes, the file holds ",
         got < bytes ? str(got) : "more", "; truncated or damaged?");
  }
  return payload;
}

IdxFile::IdxFile(const std::string& path)
    : name_(printable(path)), file_(real_file_system().open_read(path)) {
  std::array<uint8_t, kLongestHeader> begin{};
  const size_t have = static_cast<size_t>(std::min<uint64_t>(begin.size(), file_->size()));
  file_->read(0, begin.data(), have);
  if (have >= 2 && begin[0] == 0x1F && begin[1] == 0x8B) {
    const std::string gzip = read_file(real_file_system(), path, kLargestGzip);
    inflated_ =
        inflate_idx({reinterpret_cast<const uint8_t*>(gzip.data()), gzip.size()}, name_, &header_);
    file_.reset();
    return;
  }
  header_ = parse_idx_header({begin.data(), have}, name_);
  const uint64_t expected = header_.header_bytes + header_.items() * header_.item_bytes;
  if (file_->size() != expected) {
    fail(Code::kData, name_, " has ", file_->size(), " bytes, its header promises ", expected,
         "; truncated or damaged?");
  }
}

void IdxFile::read(uint64_t item, uint8_t* into) const {
  LF_CHECK(item < header_.items());
  const uint64_t at = item * header_.item_bytes;
  if (file_) return file_->read(header_.header_bytes + at, into, header_.item_bytes);
  std::memcpy(into, inflated_.data() + at, header_.item_bytes);
}

std::string labels_beside(const std::string& images) {
  const size_t slash = images.rfind('/');
  const size_t at = images.find("images", slash == std::string::npos ? 0 : slash + 1);
  if (at == std::string::npos) return "";
  std::string labels = images;
  labels.replace(at, 6, "labels");
  const size_t rank = labels.find("idx3", at);
  if (rank != std::string::npos) labels.replace(rank, 4, "idx1");
  const std::string other =
      labels.ends_with(".gz") ? labels.substr(0, labels.size() - 3) : labels + ".gz";
  FileSystem& files = real_file_system();
  return files.exists(labels) ? labels : files.exists(other) ? other : "";
}

}  // namespace lf
