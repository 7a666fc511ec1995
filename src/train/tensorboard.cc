#include "train/tensorboard.h"

#include <unistd.h>

#include <cstring>

#include "base/clock.h"
#include "base/crc32c.h"
#include "base/error.h"
#include "base/host.h"

namespace lf {
namespace {

constexpr uint64_t kLargestEvents = uint64_t{4} << 30;

uint32_t masked_crc(const void* data, size_t size) {
  const uint32_t crc = crc32c(data, size);
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8;
}

template <typename T>
void append(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

template <typename T>
T load(const std::string& bytes, size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof(value));
  return value;
}

// Rewrites one earlier event file without what lies past the resume point and a torn tail.
void cut_back(const std::string& path, int64_t resume_step) {
  FileSystem& files = real_file_system();
  const std::string bytes = read_file(files, path, kLargestEvents);
  std::string kept;
  size_t at = 0;
  TensorboardEvent event;
  for (size_t begin = 0; read_event(bytes, &at, &event); begin = at) {
    if (event.step() <= resume_step) kept.append(bytes, begin, at - begin);
  }
  publish_file(files, path, kept);  // even if nothing is cut, as metrics.jsonl is (run_log.cc)
}

// The name TensorBoard looks for, unique among this machine's processes.
std::string new_event_file(const std::string& folder, int64_t resume_step) {
  for (const std::string& name : real_file_system().list(folder)) {
    if (name.starts_with("events.out.tfevents.")) cut_back(folder + "/" + name, resume_step);
  }
  return str(folder, "/events.out.tfevents.", static_cast<int64_t>(unix_now()), ".", host_name(),
             ".", ::getpid());
}

}  // namespace

std::string frame_event(const TensorboardEvent& event) {
  const std::string payload = event.SerializeAsString();
  std::string out;
  append(out, static_cast<uint64_t>(payload.size()));
  append(out, masked_crc(out.data(), 8));
  out += payload;
  append(out, masked_crc(payload.data(), payload.size()));
  return out;
}

bool read_event(const std::string& bytes, size_t* at, TensorboardEvent* event) {
  if (bytes.size() - *at < 16) return false;
  const auto size = load<uint64_t>(bytes, *at);
  if (load<uint32_t>(bytes, *at + 8) != masked_crc(bytes.data() + *at, 8)) return false;
  if (size > bytes.size() - *at - 16) return false;
  const char* payload = bytes.data() + *at + 12;
  if (load<uint32_t>(bytes, *at + 12 + size) != masked_crc(payload, size)) return false;
  if (!event->ParseFromArray(payload, static_cast<int>(size))) return false;
  *at += 16 + size;
  return true;
}

TensorboardWriter::TensorboardWriter(const std::string& folder, int64_t resume_step)
    : file_(new_event_file(folder, resume_step)) {
  TensorboardEvent version;
  version.set_file_version("brain.Event:2");
  write(version);
  if (resume_step > 0) {  // makes TensorBoard drop what it has from this step on
    TensorboardEvent restart;
    restart.set_step(resume_step + 1);
    restart.mutable_session_log()->set_status(TensorboardSession::START);
    write(restart);
  }
  flush();
}

void TensorboardWriter::scalar(int64_t step, const std::string& tag, double value) {
  TensorboardEvent event;
  event.set_step(step);
  TensorboardSummary::Value* entry = event.mutable_summary()->add_value();
  entry->set_tag(tag);
  entry->set_simple_value(static_cast<float>(value));
  write(event);
}

void TensorboardWriter::image(int64_t step, const std::string& tag, const std::string& png,
                              int height, int width) {
  TensorboardEvent event;
  event.set_step(step);
  TensorboardSummary::Value* entry = event.mutable_summary()->add_value();
  entry->set_tag(tag);
  entry->mutable_image()->set_height(height);
  entry->mutable_image()->set_width(width);
  entry->mutable_image()->set_colorspace(3);
  entry->mutable_image()->set_encoded_image_string(png);
  write(event);
}

void TensorboardWriter::write(TensorboardEvent event) {
  event.set_wall_time(unix_now());
  file_.append(frame_event(event));
}

}  // namespace lf
