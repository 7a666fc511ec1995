// Which options have been read: the accessors that protoc generates for run.proto note it here.
// Printing, hashing and comparing go by reflection and note nothing. run.pb.h includes this, so it
// includes little itself; config/reads.h asks.
// No #pragma once: it goes by the file's time, which a precompiled header from a cache has
// otherwise.
#ifndef LF_CONFIG_OPTION_READS_H_
#define LF_CONFIG_OPTION_READS_H_

#include <google/protobuf/message_lite.h>

#include <atomic>
#include <cstdint>

namespace lf {

// The options of one message type, by their index in it.
struct MessageReads {
  google::protobuf::StringPiece (*name)();
  std::atomic<uint64_t>* read;
  MessageReads* next;
};
inline MessageReads* all_message_reads = nullptr;  // made before main()

}  // namespace lf

namespace google::protobuf {

// protoc's inject_field_listener_events calls this type by this name.
template <typename Proto>
class AccessListener {
 public:
  explicit AccessListener(StringPiece (*name)()) : entry_{name, &read_, lf::all_message_reads} {
    lf::all_message_reads = &entry_;
  }

  template <int kField>
  static void OnGet(const MessageLite*, const void*) {
    static_assert(kField < 64);
    constexpr uint64_t kBit = uint64_t{1} << kField;
    if ((read_.load(std::memory_order_relaxed) & kBit) == 0) {
      read_.fetch_or(kBit, std::memory_order_relaxed);
    }
  }
  template <int kField>
  static void OnList(const MessageLite* message, const void* field) {
    OnGet<kField>(message, field);
  }
  template <int kField>
  static void OnSize(const MessageLite* message, const void* field) {
    OnGet<kField>(message, field);
  }

  static void OnSerialize(const MessageLite*) {}
  static void OnDeserialize(const MessageLite*) {}
  static void OnByteSize(const MessageLite*) {}
  static void OnMergeFrom(const MessageLite*, const MessageLite*) {}
  static void OnGetMetadata() {}
  template <int kField>
  static void OnAdd(const MessageLite*, const void*) {}
  template <int kField>
  static void OnAddMutable(const MessageLite*, const void*) {}
  template <int kField>
  static void OnClear(const MessageLite*, const void*) {}
  template <int kField>
  static void OnHas(const MessageLite*, const void*) {}
  template <int kField>
  static void OnMutable(const MessageLite*, const void*) {}
  template <int kField>
  static void OnMutableList(const MessageLite*, const void*) {}
  template <int kField>
  static void OnRelease(const MessageLite*, const void*) {}
  template <int kField>
  static void OnSet(const MessageLite*, const void*) {}

 private:
  lf::MessageReads entry_;
  static inline std::atomic<uint64_t> read_ = 0;
};

}  // namespace google::protobuf

#endif  // LF_CONFIG_OPTION_READS_H_
