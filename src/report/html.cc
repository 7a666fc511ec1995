#include "report/html.h"

#include <algorithm>
#include <cctype>

#include "base/text.h"

namespace lf {
namespace {

constexpr std::string_view kUnknown = "\xEF\xBF\xBD";

// Bytes of the UTF-8 character at `at`; 0 if there is none.
size_t character_at(std::string_view text, size_t at) {
  for (size_t length = 1; length <= 4 && at + length <= text.size(); ++length) {
    if (valid_utf8(text.substr(at, length))) return length;
  }
  return 0;
}

bool is_digits(const std::string& cell) {
  return !cell.empty() &&
         (std::isdigit(static_cast<unsigned char>(cell[0])) != 0 || cell[0] == '-' ||
          cell[0] == '+' || cell.starts_with("≤")) &&
         std::any_of(cell.begin(), cell.end(),
                     [](unsigned char c) { return std::isdigit(c) != 0; });
}

}  // namespace

std::string html_escaped(std::string_view text) {
  std::string out;
  out.reserve(text.size() + text.size() / 8);
  for (size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    const auto byte = static_cast<unsigned char>(c);
    if (c == '&') {
      out += "&amp;";
    } else if (c == '<') {
      out += "&lt;";
    } else if (c == '>') {
      out += "&gt;";
    } else if (c == '"') {
      out += "&quot;";
    } else if (c == '\'') {
      out += "&#39;";
    } else if ((byte < 0x20 && c != '\n' && c != '\t') || byte == 0x7F) {
      out += kUnknown;
    } else if (byte < 0x80) {
      out += c;
    } else if (const size_t length = character_at(text, at); length > 0) {
      out += text.substr(at, length);
      at += length - 1;
    } else {
      out += kUnknown;
    }
  }
  return out;
}

Html& Html::open(Literal name, const Attributes& attributes) {
  html_ += '<';
  html_ += name.text();
  for (const Attribute& attribute : attributes) {
    html_ += ' ';
    html_ += attribute.name.text();
    html_ += "=\"";
    html_ += html_escaped(attribute.value);
    html_ += '"';
  }
  html_ += '>';
  return *this;
}

Html& Html::close(Literal name) {
  html_ += "</";
  html_ += name.text();
  html_ += '>';
  return *this;
}

Html& Html::text(std::string_view text) {
  html_ += html_escaped(text);
  return *this;
}

Html& Html::constant(Literal html) {
  html_ += html.text();
  return *this;
}

namespace {

struct Column {
  size_t at;
  Html::Attributes attributes;
};

// Those with any text, but always the first.
std::vector<Column> columns_of(size_t count, const std::vector<std::vector<std::string>>& rows) {
  std::vector<Column> columns;
  for (size_t c = 0; c < count; ++c) {
    size_t cells = 0, numbers = 0;
    bool is_long = false;
    for (const std::vector<std::string>& row : rows) {
      if (c >= row.size() || row[c].empty()) continue;
      ++cells;
      if (is_digits(row[c])) ++numbers;
      is_long = is_long || row[c].size() > 28;
    }
    if (c > 0 && cells == 0 && !rows.empty()) continue;
    const bool digits = c > 0 && numbers * 4 > cells * 3;  // most of its cells
    columns.push_back({c, is_long  ? of_class("long")
                          : digits ? of_class("n")
                                   : Html::Attributes{}});
  }
  return columns;
}

void write_row_heading(Html& html, const Html::Attributes& attributes, const std::string& text) {
  const size_t end = text.find('\n');
  html.element("th", attributes, [&] {
    html.text(std::string_view(text).substr(0, end));
    if (end != std::string::npos) html.element("small", {}, text.substr(end + 1));
  });
}

}  // namespace

void write_table(Html& html, const std::vector<std::string>& heads,
                 const std::vector<std::vector<std::string>>& rows) {
  const std::vector<Column> columns = columns_of(heads.size(), rows);
  html.element("div", {{"class", "wide"}, {"tabindex", "0"}}, [&] {
    html.element("table", {}, [&] {
      html.element("thead", {}, [&] {
        html.element("tr", {}, [&] {
          for (const Column& column : columns) {
            html.element("th", column.attributes, heads[column.at]);
          }
        });
      });
      html.element("tbody", {}, [&] {
        for (const std::vector<std::string>& row : rows) {
          html.element("tr", {}, [&] {
            for (const Column& column : columns) {
              if (column.at == 0) {
                write_row_heading(html, column.attributes, row[0]);
              } else if (column.at < row.size()) {
                html.element("td", column.attributes, row[column.at]);
              }
            }
          });
        }
      });
    });
  });
}

void write_facts(Html& html, const std::vector<std::pair<std::string, std::string>>& facts) {
  html.element("dl", {}, [&] {
    for (const auto& [name, value] : facts) {
      if (value.empty()) continue;
      html.element("dt", {}, name);
      html.element("dd", {}, value);
    }
  });
}

}  // namespace lf
