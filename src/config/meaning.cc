#include "config/meaning.h"

#include <functional>
#include <optional>

#include "base/error.h"
#include "config/config.h"
#include "config/option_reads.h"
#include "config/reflect.h"

namespace lf {
namespace {

using google::protobuf::Message;

// An option at its place in a config.
struct Place {
  std::string path;  // "train.batch"
  const Message* message;
  const FieldDescriptor* field;

  std::string value() const {
    if (field->message_type() != nullptr) {
      const bool set = field->is_repeated() ? size() > 0 : has();
      return set ? "set" : "unset";
    }
    if (!field->is_repeated()) return read_text(*message, *field, 0);
    std::vector<std::string> values;
    for (int i = 0; i < size(); ++i) values.push_back(read_text(*message, *field, i));
    return "[" + join(values, ", ") + "]";
  }
  bool is_true() const {
    if (field->is_repeated()) return size() > 0;
    if (field->message_type() != nullptr) return has();
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_STRING) return value() != "\"\"";
    return read_number(*message, *field, 0) != 0 || value() == "true";
  }
  bool is_default() const {
    if (field->is_repeated()) return size() == 0;
    if (field->message_type() != nullptr) return !has();
    const Message* none = google::protobuf::MessageFactory::generated_factory()->GetPrototype(
        message->GetDescriptor());
    return value() == read_text(*none, *field, 0);
  }

 private:
  int size() const { return message->GetReflection()->FieldSize(*message, field); }
  bool has() const { return message->GetReflection()->HasField(*message, field); }
};

// The option at a path of the whole config; below an unset group the defaults.
Place place_of(const Config& config, const std::string& path) {
  Place place{path, &config, nullptr};
  const std::vector<std::string> names = split(path, '.');
  for (size_t i = 0; i < names.size(); ++i) {
    place.field = place.message->GetDescriptor()->FindFieldByName(names[i]);
    LF_CHECK(place.field != nullptr, "a condition names ", path);
    if (i + 1 < names.size()) {
      place.message = &read_message(*place.message, *place.field, 0);
    }
  }
  return place;
}

// One term of a condition: "kind=DDIM|HEUN", "churn", "!train.store".
struct Term {
  Place place;
  bool contrary = false;
  std::vector<std::string> values;

  bool holds() const {
    if (values.empty()) return place.is_true() != contrary;
    const std::string value = place.value();
    for (const std::string& one : values) {
      if (value == one || value == "\"" + one + "\"") return !contrary;
    }
    return contrary;
  }
  // "model.diffusion.sampler.kind is ANCESTRAL, not DDIM"
  std::string why_not() const {
    const std::string is = str(place.path, " is ", place.value());
    return values.empty() || contrary ? is : str(is, ", not ", join(values, " or "));
  }
};

Term term_of(const Config& config, const Place& of, std::string text) {
  Term term;
  if (text.starts_with('!')) {
    term.contrary = true;
    text = text.substr(1);
  }
  if (const size_t equals = text.find('='); equals != std::string::npos) {
    term.values = split(text.substr(equals + 1), '|');
    text = text.substr(0, equals);
  }
  if (text.find('.') != std::string::npos) {
    term.place = place_of(config, text);
    return term;
  }
  const FieldDescriptor* beside = of.message->GetDescriptor()->FindFieldByName(text);
  LF_CHECK(beside != nullptr, "the condition of ", of.path, " names ", text);
  term.place = {of.path.substr(0, of.path.size() - of.field->name().size()) + text, of.message,
                beside};
  return term;
}

std::vector<std::string> split_at(std::string text, const std::string& word) {
  std::vector<std::string> parts;
  for (size_t at = text.find(word); at != std::string::npos; at = text.find(word)) {
    parts.push_back(text.substr(0, at));
    text = text.substr(at + word.size());
  }
  parts.push_back(text);
  return parts;
}

// Why the condition does not hold; nullopt if it does. " or " joins alternatives of terms joined by
// " and ".
std::optional<std::string> unmet(const Config& config, const Place& of, const std::string& text) {
  if (text.empty()) return {};
  std::vector<std::string> reasons;
  for (const std::string& alternative : split_at(text, " or ")) {
    std::optional<std::string> reason;
    for (const std::string& part : split_at(alternative, " and ")) {
      const Term term = term_of(config, of, part);
      if (!term.holds() && !reason) reason = term.why_not();
    }
    if (!reason) return {};
    reasons.push_back(*reason);
  }
  return join(reasons, ", and ");
}

void for_each_option(const Message& message, const std::string& prefix, bool all,
                     const std::function<void(const Place&)>& body) {
  const auto& type = *message.GetDescriptor();
  const google::protobuf::Reflection& reflection = *message.GetReflection();
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor* field = type.field(i);
    const bool set = field->is_repeated() ? reflection.FieldSize(message, field) > 0
                                          : reflection.HasField(message, field);
    const std::string path = prefix + field->name();
    if (field->message_type() == nullptr) {
      if (all || set) body({path, &message, field});
    } else if (!field->is_repeated() && (set || (all && field->containing_oneof() == nullptr))) {
      for_each_option(reflection.GetMessage(message, field), path + ".", all, body);
    }
  }
}

bool below(const std::string& path, const std::string& prefix) {
  return path == prefix || path.starts_with(prefix + ".");
}

// The options that assignments set to another value than their default.
std::vector<Place> changed_options(const Config& config,
                                   const std::vector<std::string>& assignments) {
  std::vector<std::string> paths;
  for (const std::string& text : assignments) {
    std::string path = text.substr(0, text.find('='));
    if (path.ends_with('+')) path.pop_back();
    paths.push_back(path);
  }
  std::vector<Place> places;
  for_each_option(config, "", false, [&](const Place& place) {
    for (const std::string& path : paths) {
      if ((below(place.path, path) || (place.field->is_repeated() && below(path, place.path))) &&
          !place.is_default()) {
        places.push_back(place);
        return;
      }
    }
  });
  return places;
}

bool was_read(const Place& place) {
  const std::string type = place.message->GetDescriptor()->full_name();
  for (const MessageReads* reads = all_message_reads; reads != nullptr; reads = reads->next) {
    if (type == reads->name().ToString()) {
      return (reads->read->load(std::memory_order_relaxed) >> place.field->index() & 1) != 0;
    }
  }
  return false;
}

}  // namespace

void check_meaning(const Config& config, const std::vector<std::string>& assignments,
                   const std::vector<CallCondition>& call) {
  for (const Place& place : changed_options(config, assignments)) {
    std::optional<std::string> reason = unmet(config, place, only_if_of(*place.field));
    for (const CallCondition& condition : call) {
      if (!reason && below(place.path, condition.path)) {
        reason = unmet(config, place, condition.only_if);
      }
    }
    if (reason) {
      fail(Code::kUsage, "--set ", place.path, "=", printable(place.value()),
           " would do nothing here: ", printable(*reason), "; leave it out, or set that too");
    }
  }
}

std::vector<std::string> unread_options(const Config& config,
                                        const std::vector<std::string>& assignments) {
  std::vector<std::string> unread;
  for (const Place& place : changed_options(config, assignments)) {
    if (!was_read(place)) unread.push_back(place.path);
  }
  return unread;
}

std::string meanings_and_reads(const Config& config) {
  std::string text;
  for_each_option(config, "", true, [&](const Place& place) {
    const bool has_meaning = !unmet(config, place, only_if_of(*place.field));
    text += str(place.path, " ", has_meaning, " ", was_read(place), "\n");
  });
  return text;
}

}  // namespace lf
