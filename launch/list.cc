// `lastframe list`: prints the tables that other parts own, one row of kTables each.
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "base/text.h"
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
  const Command* command = nullptr;  // of commands: in JSON its options too
};

std::vector<Row> option_rows() {
  std::vector<Row> rows;
  for (const OptionDoc& option : document_options()) {
    rows.push_back({option.path,
                    {{"type", option.type}, {"default", option.fallback}, {"range", option.range}},
                    option.comment});
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
    {"metrics", "what lastframe evaluate and evaluation.metrics can measure", metric_rows},
    {"options", "every option a config file or --set may hold", option_rows},
    {"samplers", "how a diffusion model steps from noise to clips", sampler_rows},
    {"schedules", "how noise grows with diffusion time", schedule_rows},
    {"sources", "where images and videos come from; source.NAME holds a source's options",
     source_rows},
    {"tasks", "what lastframe sample --task can ask of a model", task_rows},
};

std::vector<Row> rows_with_prefix(const Listing& table, const std::string& prefix) {
  std::vector<Row> kept;
  std::vector<std::string> names;
  for (Row& row : table.rows()) {
    names.push_back(row.name);
    if (row.name.starts_with(prefix)) kept.push_back(std::move(row));
  }
  if (kept.empty()) {
    fail(Code::kUsage, "no name in the table of ", table.name, " begins with '", printable(prefix),
         "'", did_you_mean(prefix, names), "; see lastframe list ", table.name);
  }
  return kept;
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

int run_list(const Arguments& arguments) {
  const std::vector<std::string>& words = arguments.positional();
  std::string name = "tables";
  std::vector<Row> rows;
  if (words.empty()) {
    rows = table_rows();
  } else {
    const Listing* chosen = nullptr;
    std::vector<std::string> names;
    for (const Listing& table : kTables) {
      names.emplace_back(table.name);
      if (words[0] == table.name) chosen = &table;
    }
    if (chosen == nullptr) {
      fail(Code::kUsage, "there is no table '", printable(words[0]), "'",
           did_you_mean(words[0], names), "; the tables are ", join(names, ", "));
    }
    name = chosen->name;
    rows = rows_with_prefix(*chosen, words.size() > 1 ? words[1] : "");
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

constexpr Option kListOptions[] = {kJsonOption};

}  // namespace

const Command kListCommand = {
    .name = "list",
    .positional = "[TABLE] [PREFIX]",
    .summary = "prints what there is to choose from: options, sources, metrics, ...",
    .details =
        "Without an argument: the tables. With one: its rows, of those only the names that begin "
        "with PREFIX.",
    .example = "lastframe list\nlastframe list options train.\nlastframe list options --json",
    .options = kListOptions,
    .run = run_list,
};

}  // namespace lf
