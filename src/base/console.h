// stderr as people see it: whole lines and, on a terminal, a status line below them that is redrawn
// in place. All that is written to stderr goes through here, so that no line runs into another.
#pragma once

#include <cstddef>
#include <string>

namespace lf {

// Columns of the terminal that stderr is, or leads to: mpirun puts a pipe between, and launch/local
// says by LASTFRAME_COLUMNS how wide the terminal at its end is. 0: there is none.
size_t console_columns();

// What a line says of a message: who speaks, unless it is rank 0, and how grave it is ("warning",
// "" for news). The file, line and thread of a message stand in the log file.
std::string news_line(int rank, const std::string& severity, const std::string& message);

// Prints whole lines (a newline is added), above the status line if there is one.
void console_line(const std::string& text);

// Puts `text`, which must fit into the terminal's width, into the status line. Only for terminals.
void console_status(const std::string& text);

// The status line stays on the screen as it is, and what follows stands below it.
void console_end_status();

}  // namespace lf
