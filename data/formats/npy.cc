#include "data/formats/npy.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"

namespace lf {
namespace {

constexpr size_t kMostDimensions = 8;

// Parses a header, a Python dictionary: {'descr': '|u1', 'fortran_order': False, 'shape': (3, 4),
// }, in any order and spacing.
class HeaderText {
 public:
  HeaderText(std::string_view text, const std::string& name) : text_(text), name_(name) {}

  void read(NpyHeader* header) {
    bool have_type = false, have_order = false, have_shape = false;
    expect('{');
    while (!accept('}')) {
      const std::string key = quoted();
      expect(':');
      if (key == "descr" && !have_type) {
        skip_spaces();
        if (at_ < text_.size() && text_[at_] == '[') refuse("it holds records, not one array");
        header->type = quoted();
        have_type = true;
      } else if (key == "fortran_order" && !have_order) {
        if (boolean()) refuse("it is in Fortran order; save numpy.ascontiguousarray(array)");
        have_order = true;
      } else if (key == "shape" && !have_shape) {
        header->shape = tuple();
        have_shape = true;
      } else {
        refuse(str("unexpected key '", printable(key, 40), "'"));
      }
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    skip_spaces();
    if (at_ != text_.size()) refuse("something follows the dictionary");
    if (!have_type || !have_order || !have_shape) {
      refuse("expected the keys descr, fortran_order and shape");
    }
  }

 private:
  [[noreturn]] void refuse(const std::string& why) {
    fail(Code::kData, name_, ": the .npy header is not usable: ", why);
  }
  void skip_spaces() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
  }
  bool accept(char c) {
    skip_spaces();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!accept(c)) refuse(str("expected '", c, "' at character ", at_));
  }
  std::string quoted() {
    skip_spaces();
    const char quote = at_ < text_.size() ? text_[at_] : '\0';
    if (quote != '\'' && quote != '"') refuse(str("expected a quoted word at character ", at_));
    const size_t end = text_.find(quote, at_ + 1);
    if (end == std::string_view::npos) refuse("a quote is not closed");
    std::string word(text_.substr(at_ + 1, end - at_ - 1));
    at_ = end + 1;
    return word;
  }
  bool boolean() {
    skip_spaces();
    for (const std::string_view word : {"True", "False"}) {
      if (text_.substr(at_).starts_with(word)) {
        at_ += word.size();
        return word == "True";
      }
    }
    refuse("fortran_order is neither True nor False");
  }
  std::vector<uint64_t> tuple() {
    std::vector<uint64_t> all;
    expect('(');
    while (!accept(')')) {
      skip_spaces();
      const size_t begin = at_;
      while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') ++at_;
      uint64_t value = 0;
      if (!parse(text_.substr(begin, at_ - begin), &value)) refuse("shape is not a tuple of sizes");
      if (all.size() == kMostDimensions) refuse("more than 8 dimensions");
      all.push_back(value);
      if (!accept(',')) {
        expect(')');
        break;
      }
    }
    return all;
  }

  std::string_view text_;
  const std::string& name_;
  size_t at_ = 0;
};

// Bytes of one element of a plain numeric type: an optional byte order, a kind, a size.
int bytes_of_type(const std::string& type) {
  size_t at = 0;
  if (!type.empty() && std::strchr("|<>=", type[0]) != nullptr) at = 1;
  if (type.size() != at + 2 || std::strchr("bifuc", type[at]) == nullptr) return 0;
  const char size = type[at + 1];
  return size == '1' || size == '2' || size == '4' || size == '8' ? size - '0' : 0;
}

}  // namespace

uint64_t NpyHeader::elements() const {
  uint64_t count = 1;
  for (const uint64_t size : shape) count *= size;
  return count;
}

NpyHeader parse_npy_header(std::span<const uint8_t> begin, uint64_t file_bytes,
                           const std::string& name) {
  const uint8_t magic[6] = {0x93, 'N', 'U', 'M', 'P', 'Y'};
  if (begin.size() < 12 || !std::equal(magic, magic + 6, begin.begin())) {
    fail(Code::kData, name, " is not a .npy file: it does not begin with \\x93NUMPY");
  }
  const int version = begin[6];
  if (version < 1 || version > 3) {
    fail(Code::kData, name, ": .npy format ", version, ", expected 1, 2 or 3");
  }
  const size_t prefix = version == 1 ? 10 : 12;
  uint64_t length = uint64_t{begin[8]} | uint64_t{begin[9]} << 8;
  if (version > 1) length |= uint64_t{begin[10]} << 16 | uint64_t{begin[11]} << 24;
  if (length > begin.size() - prefix) {
    fail(Code::kData, name, ": the .npy header claims ", length,
         " bytes, more than the file has or than are read");
  }
  NpyHeader header;
  header.data_offset = prefix + length;
  HeaderText(std::string_view(reinterpret_cast<const char*>(begin.data()) + prefix, length), name)
      .read(&header);
  header.item_bytes = bytes_of_type(header.type);
  if (header.item_bytes == 0) {
    fail(Code::kData, name, ": elements of type '", printable(header.type, 40),
         "', expected plain numbers; save array.astype('uint8')");
  }
  const uint64_t available =
      (file_bytes - header.data_offset) / static_cast<uint64_t>(header.item_bytes);
  uint64_t count = 1;
  for (const uint64_t size : header.shape) {
    if (size == 0) fail(Code::kData, name, ": the array is empty");
    if (count > available / size) {
      fail(Code::kData, name, ": the array's shape needs more than the file's ",
           human_bytes(file_bytes), "; truncated or damaged?");
    }
    count *= size;
  }
  const uint64_t end = header.data_offset + count * static_cast<uint64_t>(header.item_bytes);
  if (end != file_bytes) {
    fail(Code::kData, name, ": ", file_bytes - end, " bytes follow the array; damaged?");
  }
  return header;
}

std::string npy_header(const std::string& type, const std::vector<uint64_t>& shape) {
  std::string text = "{'descr': '" + type + "', 'fortran_order': False, 'shape': (";
  for (const uint64_t size : shape) text += std::to_string(size) + ", ";
  if (shape.size() > 1) text.resize(text.size() - 2);
  if (shape.size() == 1) text.pop_back();
  text += "), }";
  const size_t unpadded = 10 + text.size() + 1;
  text.append((64 - unpadded % 64) % 64, ' ');  // data begins at a multiple of 64
  text += '\n';
  std::string out("\x93NUMPY\x01\x00", 8);
  out += static_cast<char>(text.size() & 0xFF);
  out += static_cast<char>(text.size() >> 8);
  return out + text;
}

}  // namespace lf
