// What this rank is doing right now, kept for the watchdog: its step, its phase, its last
// collective, and a counter of changes that stands still when the rank does. One record a process.
#pragma once

#include <array>
#include <cstdint>
#include <string>

namespace lf {

// Plain bytes: it travels in a heartbeat as it is.
struct Activity {
  int64_t step = -1;         // -1: before the first
  int32_t part = 0;          // of the ranks, where these wait for one another only within parts
  uint64_t changes = 0;      // of anything here
  uint64_t began = 0;        // collectives begun, World's and the backend's together
  uint64_t bytes = 0;        // of the last one
  int32_t inside = 0;        // collectives begun and not ended
  double waited = 0;         // seconds spent so far waiting for other ranks to begin theirs
  double limit_seconds = 0;  // without a change before the phase counts as hanging; 0: the usual
  std::array<char, 32> phase{};
  std::array<char, 32> collective{};

  // "step 12, phase 'train', last collective #45, all-reduce of 4.0 MiB, not finished"
  std::string describe() const;
};

Activity current_activity();

void note_step(int64_t step);
void note_part(int part);
void note_progress();
void note_phase(const std::string& phase, double limit_seconds);

// Around every collective: inside from construction to destruction.
class CollectiveNote {
 public:
  CollectiveNote(const char* name, uint64_t bytes);
  ~CollectiveNote();
  CollectiveNote(const CollectiveNote&) = delete;
  CollectiveNote& operator=(const CollectiveNote&) = delete;
  void waited(double seconds);  // for the other ranks
};

}  // namespace lf
