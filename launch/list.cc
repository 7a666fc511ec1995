// `lastframe list`: prints the tables that other parts own, one row of kTables each.
#include <algorithm>
#include <cctype>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "base/text.h"
#include "checkpoint/layouts/layout.h"
#include "config/config.h"
#include "data/recipe/corruption.h"
#include "data/sources/source.h"
#include "diffusion/noise_schedule.h"
#include "diffusion/sampler.h"
#include "eval/metrics.h"
#include "kernels/dispatch.h"
#include "launch/commands.h"
#include "launch/options/arguments.h"
#include "launch/options/describe.h"
#include "launch/output.h"
#include "launch/sample_task.h"

namespace lf {
namespace {

struct Row {
  std::string name;
  std::vector<std::pair<std::string, std::string>> facts;  // printed beside the name
  std::string help;
  const Command* command = nullptr;   // of commands: in JSON its options too
  std::vector<ValueDoc> values = {};  // of an option: what it may be
  bool basic = false;                 // of an option: one of --basic
};

std::vector<Row> rows_of_options(const std::vector<OptionDoc>& options) {
  std::vector<Row> rows;
  for (const OptionDoc& option : options) {
    rows.push_back({option.path,
                    {{"type", option.type},
                     {"default", option.fallback},
                     {"range", option.range},
                     {"only with", option.only_with}},
                    option.comment,
                    nullptr,
                    option.values,
                    option.basic});
  }
  return rows;
}

std::vector<Row> option_rows() { return rows_of_options(document_options()); }
std::vector<Row> sweep_rows() { return rows_of_options(document_sweep()); }

// The members of ModelConfig's `kind`.
std::vector<Row> model_rows() {
  const std::string prefix = "model.";
  std::vector<Row> rows;
  for (const OptionDoc& option : document_options(prefix)) {
    const std::string name = option.path.substr(prefix.size());
    if (name == "diffusion" || name.find('.') != std::string::npos) continue;
    rows.push_back({name, {}, option.comment});
  }
  return rows;
}

std::vector<Row> command_rows() {
  std::vector<Row> rows;
  for (const Command* command : command_table()) {
    rows.push_back(
        {command->name, {{"arguments", command->positional}}, command->summary, command});
  }
  return rows;
}

// For tables of {name, help, function}.
template <typename Table>
std::vector<Row> rows_of(const Table& table) {
  std::vector<Row> rows;
  for (const auto& row : table) rows.push_back({row.name, {}, row.help});
  return rows;
}

std::vector<Row> corruption_rows() { return rows_of(corruption_kinds()); }
std::vector<Row> sampler_rows() { return rows_of(sampler_kinds()); }
std::vector<Row> schedule_rows() { return rows_of(schedule_kinds()); }
std::vector<Row> source_rows() { return rows_of(source_kinds()); }
std::vector<Row> kernel_rows() {
  std::vector<Row> rows;
  for (const OperationRow& row : operation_table()) {
    rows.push_back({row.name,
                    {{"fused on", row.cuda  ? "CPU, and GPU with train.gpu_kernels"
                                  : row.cpu ? "CPU"
                                            : "nothing"}},
                    row.help});
  }
  return rows;
}
std::vector<Row> layout_rows() {
  std::vector<Row> rows;
  for (const NetworkLayout* layout : layout_table())
    rows.push_back({layout->name, {}, layout->help});
  return rows;
}
std::vector<Row> task_rows() { return rows_of(task_kinds()); }
std::vector<Row> metric_rows() { return rows_of(metric_table()); }

struct Listing {
  const char* name;
  const char* help;
  std::vector<Row> (*rows)();
};

constexpr Listing kTables[] = {
    {"commands", "what the program can do", command_rows},
    {"corruptions", "what one step of a recipe can do to an image", corruption_rows},
    {"kernels", "fused operations (train.kernels); elsewhere their plain form runs", kernel_rows},
    {"layouts", "networks of other programs, for lastframe export --layout and lastframe import",
     layout_rows},
    {"metrics", "what lastframe evaluate and evaluation.metrics can measure", metric_rows},
    {"models", "networks; model.NAME holds a model's options", model_rows},
    {"options", "every option a config file or --set may hold", option_rows},
    {"samplers", "how a diffusion model steps from noise to clips", sampler_rows},
    {"schedules", "how noise grows with diffusion time", schedule_rows},
    {"sources", "where images and videos come from; source.NAME holds a source's options",
     source_rows},
    {"sweep", "every option a sweep file may hold", sweep_rows},
    {"tasks", "what lastframe sample --task can ask of a model", task_rows},
};

// Whether one of the text's words begins with `word`, whatever the case of both.
bool has_word(const std::string& text, const std::string& word) {
  const auto is_letter = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0; };
  const auto same = [](char a, char b) {
    return std::tolower(static_cast<unsigned char>(a)) ==
           std::tolower(static_cast<unsigned char>(b));
  };
  for (auto at = text.begin(); at != text.end(); ++at) {
    at = std::search(at, text.end(), word.begin(), word.end(), same);
    if (at == text.end()) return false;
    if (at == text.begin() || !is_letter(at[-1]) || !is_letter(word.front())) return true;
  }
  return false;
}

bool has_words(const std::string& text, const std::vector<std::string>& words) {
  return std::all_of(words.begin(), words.end(),
                     [&](const std::string& word) { return has_word(text, word); });
}

// The rows whose names begin with the only word; if there are none, or several words, those in
// which all words occur, rows with all of them in their names first.
std::vector<Row> rows_found(const Listing& table, std::vector<Row> rows,
                            const std::vector<std::string>& words) {
  std::vector<std::string> names;
  for (const Row& row : rows) names.push_back(row.name);
  const auto begins = [&](const Row& row) { return row.name.starts_with(words.front()); };
  const bool prefix = words.size() == 1 && std::any_of(rows.begin(), rows.end(), begins);
  std::erase_if(rows, [&](const Row& row) {
    if (prefix) return !begins(row);
    std::string text = row.name + " " + row.help;
    for (const ValueDoc& value : row.values) text += " " + value.name + " " + value.comment;
    return !has_words(text, words);
  });
  if (rows.empty()) {
    const std::string wanted = join(words, " ");
    fail(Code::kUsage, "no ", table.name, " have '", printable(wanted), "' in name or text",
         did_you_mean(wanted, names), "; see lastframe list ", table.name);
  }
  std::stable_partition(rows.begin(), rows.end(),
                        [&](const Row& row) { return has_words(row.name, words); });
  return rows;
}

std::string text_of(const std::vector<Row>& rows) {
  std::string text;
  for (const Row& row : rows) {
    std::vector<std::string> facts;
    for (const auto& [key, value] : row.facts) {
      if (!value.empty()) facts.push_back(key == "type" ? value : key + " " + value);
    }
    text += row.name + (facts.empty() ? "" : "  (" + join(facts, ", ") + ")") + "\n";
    for (const std::string& line : split(row.help, '\n')) {
      if (!line.empty()) text += "    " + line + "\n";
    }
    for (const ValueDoc& value : row.values) {
      text += "      " + value.name + ": " + value.comment + "\n";
    }
  }
  return text;
}

void write_rows(Json& json, const std::string& table, const std::vector<Row>& rows) {
  json.array(table, [&] {
    for (const Row& row : rows) {
      json.object([&] {
        json.field("name", row.name);
        for (const auto& [key, value] : row.facts) json.field(key, value);
        json.field("help", row.help);
        if (!row.values.empty()) {
          json.object("values", [&] {
            for (const ValueDoc& value : row.values) json.field(value.name, value.comment);
          });
        }
        if (row.basic) json.field("basic", true);
        if (row.command != nullptr) describe(*row.command, json);
      });
    }
  });
}

std::vector<Row> table_rows() {
  std::vector<Row> rows;
  for (const Listing& table : kTables) {
    rows.push_back({table.name, {{"rows", str(table.rows().size())}}, table.help});
  }
  return rows;
}

// The table of that name. For a name that is none, those that speak of it are named: `recipes` is
// in the help of `corruptions`.
const Listing& table_named(const std::string& name) {
  std::vector<std::string> names, speaking;
  std::string word = name;
  if (word.ends_with('s')) word.pop_back();
  for (const Listing& table : kTables) {
    if (name == table.name) return table;
    names.emplace_back(table.name);
    if (word.size() > 2 && has_word(table.help, word)) speaking.push_back(str(table.name));
  }
  fail(Code::kUsage, "there is no table '", printable(name), "'",
       speaking.empty() ? did_you_mean(name, names)
                        : ", did you mean '" + join(speaking, "' or '") + "'?",
       "; the tables are ", join(names, ", "));
}

constexpr char kOfOptions[] = "of options";

const char* list_mode(const Arguments& arguments) {
  const std::vector<std::string>& words = arguments.positional();
  return !words.empty() && words[0] == "options" ? kOfOptions : "of other tables";
}

int run_list(const Arguments& arguments) {
  std::vector<std::string> words = split(join(arguments.positional(), " "), ' ');  // of quotes too
  std::erase(words, "");
  std::string name = "tables";
  std::vector<Row> rows;
  if (words.empty()) {
    rows = table_rows();
  } else {
    const Listing& table = table_named(words[0]);
    words.erase(words.begin());
    name = table.name;
    rows = table.rows();
    if (arguments.has("--basic")) std::erase_if(rows, [](const Row& row) { return !row.basic; });
    if (!words.empty()) rows = rows_found(table, std::move(rows), words);
  }
  if (!arguments.has("--json")) {
    print(text_of(rows));
    return 0;
  }
  Json json;
  json.object([&] { write_rows(json, name, rows); });
  print(json.text() + "\n");
  return 0;
}

constexpr Option kListOptions[] = {
    {"--basic", kNoValue, "only the few options that most runs set", {.only_with = kOfOptions}},
    kJsonOption,
};

}  // namespace

const Command kListCommand = {
    .name = "list",
    .positional = "[TABLE] [WORD]...",
    .summary = "prints what there is to choose from: options, sources, metrics, ...",
    .details =
        "Without an argument: the tables. With one: its rows, of those only the names that begin "
        "with WORD, or else the rows in whose name or text all words occur.",
    .example =
        "lastframe list\n"
        "lastframe list options --basic\n"
        "lastframe list options train.\n"
        "lastframe list options learning rate\n"
        "lastframe list options --json",
    .options = kListOptions,
    .run = run_list,
    .mode = list_mode,
};

}  // namespace lf
