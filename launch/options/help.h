// The texts of --help, made from the tables of options.
#pragma once

#include <span>
#include <string>

#include "launch/options/command.h"

namespace lf {

std::string help_of_program(std::span<const Command* const> commands);
std::string help_of_command(const Command& command);

}  // namespace lf
