// A whole page: what it is titled, its one style sheet and its one script around a body. The page
// asks nothing of any other file or host, and shows everything without the script too.
#pragma once

#include <string>

#include "report/html.h"

namespace lf {

// `reloads`: it shows something that goes on, so the browser loads it anew now and then, keeping
// what was unfolded and where the reader was.
std::string page_of(const std::string& title, const Html& body, bool reloads);

}  // namespace lf
