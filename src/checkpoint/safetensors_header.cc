// The parser of a safetensors header: see parse_safetensors_header(). The grammar is so small that
// a parser of its own is shorter and stricter than a general JSON reader: one pass, no recursion,
// no tree.
#include <algorithm>
#include <limits>
#include <unordered_set>

#include "base/error.h"
#include "base/text.h"
#include "checkpoint/safetensors.h"

namespace lf {
namespace {

constexpr size_t kMostDimensions = 64;

class HeaderParser {
 public:
  HeaderParser(std::string_view json, uint64_t data_bytes, const std::string& path)
      : json_(json), data_bytes_(data_bytes), path_(path) {}

  SafetensorsHeader parse() {
    if (!valid_utf8(json_)) refuse("holds bytes that are not UTF-8");
    if (json_.empty() || json_.front() != '{') refuse("does not begin with '{'");
    members([&](std::string name) {
      if (name == "__metadata__") {
        if (std::exchange(has_metadata_, true)) refuse("has two '__metadata__' members");
        read_metadata();
      } else {
        read_tensor(std::move(name));
      }
    });
    skip_blanks();
    if (at_ != json_.size()) refuse("continues after its closing '}'");
    check_names();
    check_cover();
    return std::move(header_);
  }

 private:
  template <typename... Parts>
  [[noreturn]] void refuse(const Parts&... parts) const {
    fail(Code::kCheckpoint, printable(path_), ": its safetensors header ", str(parts...),
         "; the file is damaged or was not made by a safetensors writer, use another copy of it");
  }

  void skip_blanks() {
    while (at_ < json_.size() &&
           (json_[at_] == ' ' || json_[at_] == '\n' || json_[at_] == '\t' || json_[at_] == '\r')) {
      ++at_;
    }
  }
  char peek() {
    skip_blanks();
    return at_ < json_.size() ? json_[at_] : '\0';
  }
  bool take(char c) {
    if (peek() != c || at_ >= json_.size()) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!take(c)) refuse("lacks '", c, "' at byte ", at_);
  }

  // {"name": <body>, ...}
  template <typename Body>
  void members(Body&& body) {
    expect('{');
    if (take('}')) return;
    do {
      std::string name = read_string();
      expect(':');
      body(std::move(name));
    } while (take(','));
    expect('}');
  }

  std::string read_string() {
    expect('"');
    std::string text;
    while (true) {
      if (at_ >= json_.size()) refuse("ends within a text");
      const char c = json_[at_++];
      if (c == '"') return text;
      if (static_cast<unsigned char>(c) < 0x20) refuse("has a control character at byte ", at_ - 1);
      if (c == '\\') {
        read_escape(text);
      } else {
        text += c;
      }
    }
  }

  void read_escape(std::string& text) {
    const char c = at_ < json_.size() ? json_[at_++] : '\0';
    constexpr std::string_view kNames = "\"\\/bfnrt", kValues = "\"\\/\b\f\n\r\t";
    if (const size_t known = kNames.find(c); c != '\0' && known != std::string_view::npos) {
      text += kValues[known];
      return;
    }
    if (c != 'u') refuse("has an unknown escape at byte ", at_);
    uint32_t code = read_hex();
    if (code >= 0xD800 && code < 0xDC00 && json_.substr(at_, 2) == "\\u") {
      at_ += 2;
      const uint32_t low = read_hex();
      if (low < 0xDC00 || low > 0xDFFF) refuse("has half a surrogate pair at byte ", at_);
      code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
    if (code >= 0xD800 && code < 0xE000) refuse("has half a surrogate pair at byte ", at_);
    append_utf8(code, text);
  }

  uint32_t read_hex() {
    uint32_t code = 0;
    for (int i = 0; i < 4; ++i) {
      const char c = at_ < json_.size() ? json_[at_++] : '\0';
      const int digit = c >= '0' && c <= '9'   ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
      if (digit < 0) refuse("has a bad \\u escape at byte ", at_);
      code = code * 16 + static_cast<uint32_t>(digit);
    }
    return code;
  }

  static void append_utf8(uint32_t code, std::string& text) {
    const auto add = [&](uint32_t byte) { text += static_cast<char>(byte); };
    if (code < 0x80) {
      add(code);
    } else if (code < 0x800) {
      add(0xC0 | code >> 6);
      add(0x80 | (code & 0x3F));
    } else if (code < 0x10000) {
      add(0xE0 | code >> 12);
      add(0x80 | (code >> 6 & 0x3F));
      add(0x80 | (code & 0x3F));
    } else {
      add(0xF0 | code >> 18);
      add(0x80 | (code >> 12 & 0x3F));
      add(0x80 | (code >> 6 & 0x3F));
      add(0x80 | (code & 0x3F));
    }
  }

  int64_t read_number() {
    const char first = peek();
    const size_t begin = at_;
    while (at_ < json_.size() && json_[at_] >= '0' && json_[at_] <= '9') ++at_;
    int64_t value = 0;
    if (at_ == begin || (first == '0' && at_ > begin + 1) ||
        !lf::parse(json_.substr(begin, at_ - begin), &value)) {
      refuse("has something other than a number from 0 to 2^63-1 at byte ", begin);
    }
    return value;
  }

  std::vector<int64_t> read_numbers(size_t most) {
    std::vector<int64_t> numbers;
    expect('[');
    if (take(']')) return numbers;
    do {
      if (numbers.size() == most) refuse("has a list of over ", most, " values at byte ", at_);
      numbers.push_back(read_number());
    } while (take(','));
    expect(']');
    return numbers;
  }

  void read_metadata() {
    members([&](std::string name) {
      std::string value = read_string();
      if (!header_.metadata.emplace(name, std::move(value)).second) {
        refuse("has the metadata '", printable(name), "' twice");
      }
    });
  }

  void read_tensor(std::string name) {
    TensorEntry entry;
    bool has_dtype = false, has_shape = false, has_offsets = false;
    std::vector<int64_t> offsets;
    const std::string shown = printable(name);
    members([&](const std::string& member) {
      const auto once = [&](bool& seen) {
        if (std::exchange(seen, true))
          refuse("gives '", shown, "' the member '", member, "' twice");
      };
      if (member == "dtype") {
        once(has_dtype);
        const std::string dtype = read_string();
        if (!parse_dtype(dtype, &entry.layout.dtype)) {
          refuse("gives '", shown, "' the type '", printable(dtype),
                 "', known are F64 F32 F16 BF16 I64 I32 I16 I8 U8 BOOL");
        }
      } else if (member == "shape") {
        once(has_shape);
        entry.layout.shape = read_numbers(kMostDimensions);
      } else if (member == "data_offsets") {
        once(has_offsets);
        offsets = read_numbers(2);
      } else {
        refuse("gives '", shown, "' the unknown member '", printable(member), "'");
      }
    });
    if (!has_dtype || !has_shape || offsets.size() != 2) {
      refuse("lacks the dtype, shape or two data_offsets of '", shown, "'");
    }
    check_size(entry.layout, offsets, shown);
    entry.layout.name = std::move(name);
    entry.begin = static_cast<uint64_t>(offsets[0]);
    header_.tensors.push_back(std::move(entry));
  }

  void check_size(const TensorLayout& layout, const std::vector<int64_t>& offsets,
                  const std::string& shown) {
    int64_t bytes = static_cast<int64_t>(size_of(layout.dtype));
    for (const int64_t extent : layout.shape) {
      if (__builtin_mul_overflow(bytes, extent, &bytes)) {
        refuse("gives '", shown, "' a shape whose size overflows 64 bits");
      }
    }
    if (offsets[1] < offsets[0] || static_cast<uint64_t>(offsets[1]) > data_bytes_) {
      refuse("places '", shown, "' at bytes ", offsets[0], " to ", offsets[1], " of ", data_bytes_);
    }
    if (offsets[1] - offsets[0] != bytes) {
      refuse("gives '", shown, "' ", offsets[1] - offsets[0], " bytes, its shape and type need ",
             bytes);
    }
  }

  void check_names() const {
    std::unordered_set<std::string_view> seen;
    seen.reserve(header_.tensors.size());
    for (const TensorEntry& entry : header_.tensors) {
      if (!seen.insert(entry.layout.name).second) {
        refuse("names '", printable(entry.layout.name), "' twice");
      }
    }
  }

  // Tensors must follow each other without hole or overlap up to the end of the file: nothing can
  // be hidden in between, and no two tensors share bytes.
  void check_cover() {
    auto& tensors = header_.tensors;
    std::sort(tensors.begin(), tensors.end(), [](const TensorEntry& a, const TensorEntry& b) {
      return std::pair(a.begin, a.layout.bytes()) < std::pair(b.begin, b.layout.bytes());
    });
    uint64_t end = 0;
    for (const TensorEntry& entry : tensors) {
      if (entry.begin != end) {
        refuse(entry.begin < end ? "lets tensors overlap" : "leaves a hole", " before '",
               printable(entry.layout.name), "'");
      }
      end += entry.layout.bytes();
    }
    if (end != data_bytes_) refuse("accounts for ", end, " bytes, the file holds ", data_bytes_);
  }

  std::string_view json_;
  uint64_t data_bytes_;
  const std::string& path_;
  size_t at_ = 0;
  bool has_metadata_ = false;
  SafetensorsHeader header_;
};

}  // namespace

SafetensorsHeader parse_safetensors_header(std::string_view json, uint64_t data_bytes,
                                           const std::string& path) {
  return HeaderParser(json, data_bytes, path).parse();
}

}  // namespace lf
