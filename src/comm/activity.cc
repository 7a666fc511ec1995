#include "comm/activity.h"

#include <algorithm>
#include <cstring>
#include <mutex>

#include "base/text.h"

namespace lf {
namespace {

std::mutex g_mutex;
Activity g_activity;

void copy_text(const char* text, std::array<char, 32>& into) {
  into.fill('\0');
  std::strncpy(into.data(), text, into.size() - 1);
}

template <typename Change>
void change(Change&& apply) {
  const std::lock_guard<std::mutex> lock(g_mutex);
  apply(g_activity);
  ++g_activity.changes;
}

}  // namespace

std::string Activity::describe() const {
  std::string text = step < 0 ? "before the first step" : str("step ", step);
  text += str(", phase '", phase[0] == '\0' ? "start" : printable(phase.data()), "'");
  if (began == 0) return text + ", no collective yet";
  text += str(", last collective #", began, ", ", printable(collective.data()));
  if (bytes > 0) text += " of " + human_bytes(bytes);
  return text + (inside > 0 ? ", not finished" : ", finished");
}

Activity current_activity() {
  const std::lock_guard<std::mutex> lock(g_mutex);
  return g_activity;
}

void note_step(int64_t step) {
  change([&](Activity& now) { now.step = step; });
}

void note_part(int part) {
  change([&](Activity& now) { now.part = part; });
}

void note_progress() {
  change([](Activity&) {});
}

void note_phase(const std::string& phase, double limit_seconds) {
  change([&](Activity& now) {
    copy_text(phase.c_str(), now.phase);
    now.limit_seconds = limit_seconds;
  });
}

CollectiveNote::CollectiveNote(const char* name, uint64_t bytes) {
  change([&](Activity& now) {
    ++now.began;
    ++now.inside;
    now.bytes = bytes;
    copy_text(name, now.collective);
  });
}

CollectiveNote::~CollectiveNote() {
  change([](Activity& now) { --now.inside; });
}

void CollectiveNote::waited(double seconds) {
  change([&](Activity& now) { now.waited += seconds; });
}

}  // namespace lf
