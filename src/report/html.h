// Writes HTML whose text and attribute values are escaped by construction: what a file holds can
// only become text. Names of elements and attributes, style and script are constants of the
// program, which the compiler enforces.
#pragma once

#include <concepts>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace lf {

// A string literal: nothing that was read can become one.
class Literal {
 public:
  consteval Literal(const char* text) : text_(text) {}  // NOLINT(google-explicit-constructor)
  std::string_view text() const { return text_; }

 private:
  std::string_view text_;
};

// Text as HTML shows it, in elements and in quoted attributes. Control characters and bytes that
// are not UTF-8 become U+FFFD.
std::string html_escaped(std::string_view text);

// Html page;
// page.element("p", {{"class", "note"}}, [&] { page.text(name).element("b", {}, "bold"); });
class Html {
 public:
  struct Attribute {
    Literal name;
    std::string value;
  };
  using Attributes = std::vector<Attribute>;

  template <typename Body>
  requires std::invocable<Body> Html& element(Literal name, const Attributes& attributes,
                                              Body&& body) {
    open(name, attributes);
    body();
    return close(name);
  }
  Html& element(Literal name, const Attributes& attributes, std::string_view text) {
    return open(name, attributes).text(text).close(name);
  }
  Html& empty(Literal name, const Attributes& attributes) { return open(name, attributes); }
  // Of SVG, where every element is closed.
  Html& shape(Literal name, const Attributes& attributes) {
    return open(name, attributes).close(name);
  }
  Html& text(std::string_view text);
  Html& constant(Literal html);
  Html& append(const Html& other) {
    html_ += other.html_;
    return *this;
  }

  const std::string& html() const { return html_; }

 private:
  Html& open(Literal name, const Attributes& attributes);
  Html& close(Literal name);

  std::string html_;
};

// Shorthands for what every page is made of.
inline Html::Attributes of_class(std::string name) { return {{"class", std::move(name)}}; }

// A table in a box that scrolls by itself where the screen is narrow. The first cell of a row is
// its heading, with what a second line says below it; cells of digits are set to the right, and
// columns without any text are left out.
void write_table(Html& html, const std::vector<std::string>& heads,
                 const std::vector<std::vector<std::string>>& rows);

// Names beside their values.
void write_facts(Html& html, const std::vector<std::pair<std::string, std::string>>& facts);

// A heading and what belongs to it.
template <typename Body>
void write_section(Html& html, std::string_view heading, Body&& body) {
  html.element("section", {}, [&] {
    html.element("h2", {}, heading);
    body();
  });
}

// What is folded until somebody asks.
template <typename Body>
void write_details(Html& html, std::string_view summary, Body&& body) {
  html.element("details", {}, [&] {
    html.element("summary", {}, summary);
    body();
  });
}

}  // namespace lf
