#include "config/meaning.h"

#include <algorithm>
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

  bool is_group() const { return field->message_type() != nullptr; }
  std::string value() const {
    if (is_group()) {
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

// The member that a oneof of the message has chosen; where it has chosen none, one that is unset.
const FieldDescriptor* member_of_oneof(const Message& message, const std::string& name) {
  const auto* oneof = message.GetDescriptor()->FindOneofByName(name);
  if (oneof == nullptr) return nullptr;
  const FieldDescriptor* chosen = message.GetReflection()->GetOneofFieldDescriptor(message, oneof);
  return chosen == nullptr ? oneof->field(0) : chosen;
}

// The option at a path of the whole config; below an unset group the defaults.
Place place_of(const Config& config, const std::string& path) {
  Place place{path, &config, nullptr};
  const std::vector<std::string> names = split(path, '.');
  for (size_t i = 0; i < names.size(); ++i) {
    place.field = place.message->GetDescriptor()->FindFieldByName(names[i]);
    if (place.field == nullptr) place.field = member_of_oneof(*place.message, names[i]);
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

// Why an option has no meaning in this config, by its condition or that of a group it is in.
std::optional<std::string> without_meaning(const Config& config, const std::string& path) {
  for (size_t end = path.find('.');; end = path.find('.', end + 1)) {
    const Place part = place_of(config, path.substr(0, end));
    std::optional<std::string> reason = unmet(config, part, only_if_of(*part.field));
    if (reason || end == std::string::npos) return reason;
  }
}

// The options, and behind those in them the groups that are chosen of several or are lists.
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
      continue;
    }
    if (!field->is_repeated() && (set || (all && field->containing_oneof() == nullptr))) {
      for_each_option(reflection.GetMessage(message, field), path + ".", all, body);
    }
    if (set && (field->is_repeated() || field->containing_oneof() != nullptr)) {
      body({path, &message, field});
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
    std::optional<std::string> reason = without_meaning(config, place.path);
    for (const CallCondition& condition : call) {
      if (!reason && below(place.path, condition.path)) {
        reason = unmet(config, place, condition.only_if);
      }
    }
    if (reason) {
      const std::string value = place.is_group() ? "{...}" : printable(place.value());
      fail(Code::kUsage, "--set ", place.path, "=", value,
           " would do nothing here: ", printable(*reason), "; leave it out, or set that too");
    }
  }
}

std::vector<std::string> replaced_choices(const Config& before, const Config& after) {
  std::vector<std::string> replaced, idle, sentences;
  for_each_option(before, "", false, [&](const Place& place) {
    const auto* oneof = place.field->containing_oneof();
    if (oneof == nullptr) return;
    const std::string group = place.path.substr(0, place.path.size() - place.field->name().size());
    const Place now = place_of(after, group + oneof->name());
    if (now.field == place.field || !now.is_true()) return;
    sentences.push_back(
        str("--set ", group, now.field->name(), " replaces ", place.path, " of the config"));
    replaced.push_back(place.path);
  });
  if (sentences.empty()) return {};
  for_each_option(before, "", false, [&](const Place& place) {
    const bool gone = std::any_of(replaced.begin(), replaced.end(),
                                  [&](const std::string& path) { return below(place.path, path); });
    if (!gone && !place.is_group() && !place.is_default() && !without_meaning(before, place.path) &&
        without_meaning(after, place.path)) {
      idle.push_back(place.path);
    }
  });
  if (!idle.empty()) {
    sentences.back() +=
        str("; ", join(idle, ", "), idle.size() == 1 ? " does" : " do", " nothing beside it");
  }
  return sentences;
}

std::string condition_text(const std::string& group, const std::string& only_if) {
  std::vector<std::string> alternatives;
  for (const std::string& alternative : split_at(only_if, " or ")) {
    std::vector<std::string> terms;
    for (std::string term : split_at(alternative, " and ")) {
      const bool contrary = term.starts_with('!');
      if (contrary) term = term.substr(1);
      if (term.find('.') == std::string::npos) term = group + term;
      const size_t equals = term.find('=');
      if (contrary && equals == std::string::npos) term = "no " + term;
      if (contrary && equals != std::string::npos) term.replace(equals, 1, " not ");
      terms.push_back(std::move(term));
    }
    alternatives.push_back(join(terms, " and "));
  }
  return join(alternatives, " or ");
}

std::vector<std::string> unread_options(const Config& config,
                                        const std::vector<std::string>& assignments) {
  std::vector<std::string> unread;
  for (const Place& place : changed_options(config, assignments)) {
    if (!place.is_group() && !was_read(place)) unread.push_back(place.path);
  }
  return unread;
}

std::string meanings_and_reads(const Config& config) {
  std::string text;
  for_each_option(config, "", true, [&](const Place& place) {
    if (place.is_group()) return;
    const bool has_meaning = !without_meaning(config, place.path);
    text += str(place.path, " ", has_meaning, " ", was_read(place), "\n");
  });
  return text;
}

}  // namespace lf
