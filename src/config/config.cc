// Loading and checking. Overriding is in config_set.cc, printing and documentation in
// config_print.cc.
#include "config/config.h"

#include <google/protobuf/message.h>

#include <algorithm>
#include <filesystem>

#include "base/error.h"
#include "base/file.h"
#include "config/reflect.h"

namespace lf {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

constexpr uint64_t kLargestConfig = 1 << 20;
constexpr size_t kDeepestBase = 32;

// Values of `over` replace those of `under`; lists are replaced, not joined.
void merge_over(Message& under, const Message& over) {
  const Reflection* reflection = over.GetReflection();
  std::vector<const FieldDescriptor*> present;
  reflection->ListFields(over, &present);
  for (const FieldDescriptor* field : present) {
    if (field->is_repeated()) {
      under.GetReflection()->ClearField(&under, field);
    } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      merge_over(*under.GetReflection()->MutableMessage(&under, field),
                 reflection->GetMessage(over, field));
      continue;
    }
    copy_field(over, field, under);
  }
}

Config load_file(const std::string& path, std::vector<std::string>& chain) {
  std::error_code ignored;
  const std::string canonical = std::filesystem::weakly_canonical(path, ignored).string();
  if (std::find(chain.begin(), chain.end(), canonical) != chain.end()) {
    fail(Code::kUsage, "config ", printable(path), " includes itself: ", join(chain, " -> "),
         " -> ", canonical, "; remove one of these `base` lines");
  }
  if (chain.size() >= kDeepestBase) {
    fail(Code::kUsage, "config ", printable(path), ": more than ", kDeepestBase, " `base` levels");
  }
  chain.push_back(canonical);
  Config run = parse_config(read_file(real_file_system(), path, kLargestConfig),
                            "config " + printable(path));
  if (run.has_base()) {
    const std::filesystem::path base = run.base();
    const auto at = base.is_absolute() ? base : std::filesystem::path(path).parent_path() / base;
    Config under = load_file(at.string(), chain);
    under.clear_base();
    run.clear_base();
    merge_over(under, run);
    run.Swap(&under);
  }
  chain.pop_back();
  return run;
}

}  // namespace

Config parse_config(const std::string& text, const std::string& name) {
  if (!valid_utf8(text)) {
    fail(Code::kUsage, name,
         " is not text (it has bytes that are not UTF-8); expected protobuf's text "
         "format, as in configs/");
  }
  Config run;
  parse_message(text, name, run);
  return run;
}

Config load_config(const std::string& path, const std::vector<std::string>& sets) {
  Config run;
  std::vector<std::string> chain;
  if (!path.empty()) run = load_file(path, chain);
  set_options(run, sets);
  return run;
}

static void check_ranges_below(const Message& message, const std::string& prefix) {
  std::vector<const FieldDescriptor*> present;
  message.GetReflection()->ListFields(message, &present);
  for (const FieldDescriptor* field : present) {
    const std::string path = prefix + field->name();
    const int count = field->is_repeated() ? message.GetReflection()->FieldSize(message, field) : 1;
    for (int i = 0; i < count; ++i) {
      if (field->message_type()) {
        check_ranges_below(read_message(message, *field, i), path + ".");
      } else if (!range_of(*field).empty()) {
        const double value = read_number(message, *field, i);
        if (!in_range(range_of(*field), value)) {
          fail(Code::kUsage, path, " is ", read_text(message, *field, i), ", expected ",
               type_name(*field), " in ", range_of(*field));
        }
      }
    }
  }
}

void check_ranges(const Message& message) { check_ranges_below(message, ""); }

}  // namespace lf
