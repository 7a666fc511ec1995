// TensorBoard event files, written directly: length, masked CRC-32C, a protobuf event, masked
// CRC-32C. Reading is only for cutting a file back to the point of a resume.
#pragma once

#include <string>

#include "base/file.h"
#include "record.pb.h"
#include "train/log_file.h"

namespace lf {

class TensorboardWriter {
 public:
  // Begins a new event file in `folder`; events of earlier files past `resume_step` are dropped.
  TensorboardWriter(const std::string& folder, int64_t resume_step);
  void scalar(int64_t step, const std::string& tag, double value);
  void image(int64_t step, const std::string& tag, const std::string& png, int height, int width);
  void flush() { file_.flush(); }

 private:
  void write(TensorboardEvent event);
  LogFile file_;
};

// One event framed as on disk, and back: reads the event at `at`, moves `at` on; false at the end
// or where the file is torn.
std::string frame_event(const TensorboardEvent& event);
bool read_event(const std::string& bytes, size_t* at, TensorboardEvent* event);

}  // namespace lf
