#include "comm/collective.h"

#include <array>
#include <initializer_list>
#include <map>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "comm/world.h"

namespace lf {

int64_t CollectiveCall::fingerprint() const {
  uint64_t hash = 0x9E3779B97F4A7C15;
  for (const uint64_t part :
       {sequence, bytes, static_cast<uint64_t>(operation), static_cast<uint64_t>(element),
        static_cast<uint64_t>(reduction), static_cast<uint64_t>(root)}) {
    hash = (hash ^ part) * 0xBF58476D1CE4E5B9;
    hash ^= hash >> 29;
  }
  return static_cast<int64_t>(hash >> 1);
}

const char* CollectiveCall::name() const {
  switch (operation) {
    case c10d::OpType::ALLREDUCE:
      return "all-reduce";
    case c10d::OpType::BROADCAST:
      return "broadcast";
    case c10d::OpType::ALLGATHER:
      return "all-gather";
    case c10d::OpType::_ALLGATHER_BASE:
      return "flat all-gather";
    case c10d::OpType::BARRIER:
      return "backend barrier";
    default:
      return "collective";
  }
}

std::string CollectiveCall::describe() const {
  constexpr std::array<const char*, 5> kReductions = {"SUM", "AVG", "PRODUCT", "MIN", "MAX"};
  std::string text = str("#", sequence, " ", name());
  if (operation == c10d::OpType::BARRIER) return text;
  text += str(" of ", bytes, " bytes of ", c10::toString(element));
  if (reduction >= 0 && reduction < static_cast<int32_t>(kReductions.size())) {
    text += str(", ", kReductions[static_cast<size_t>(reduction)]);
  }
  return root >= 0 ? str(text, " from rank ", root) : text;
}

std::string describe_calls(const std::vector<CollectiveCall>& by_rank) {
  std::map<std::string, std::vector<int>> callers;
  for (size_t rank = 0; rank < by_rank.size(); ++rank) {
    callers[by_rank[rank].describe()].push_back(static_cast<int>(rank));
  }
  std::vector<std::string> parts;
  for (const auto& [call, ranks] : callers) parts.push_back(name_ranks(ranks) + " " + call);
  return join(parts, "; ");
}

at::Tensor only_tensor(const std::vector<at::Tensor>& tensors) {
  if (tensors.size() != 1 || !tensors[0].device().is_cpu() || tensors[0].layout() != at::kStrided) {
    fail(Code::kBug, "a collective over MPI with ", tensors.size(),
         " tensors; expected one dense tensor in host memory");
  }
  return tensors[0].detach();
}

CollectiveWork::CollectiveWork(int rank, const CollectiveCall& call,
                               const std::vector<at::Tensor>& inputs,
                               std::vector<at::Tensor> outputs)
    : Work(rank, call.operation, call.name(), inputs),
      outputs_(std::move(outputs)),
      sequence_(call.sequence),
      future_(
          c10::make_intrusive<c10::ivalue::Future>(c10::ListType::create(c10::TensorType::get()))) {
}

void CollectiveWork::complete(const std::exception_ptr& error) {
  if (claimed_.exchange(true)) return;
  // The future first: whoever returns from wait() may look at it.
  try {
    if (error) {
      future_->setError(error);
    } else {
      future_->markCompleted(c10::IValue(outputs_));
    }
  } catch (const std::exception& thrown) {  // by a callback, which runs here
    LF_ERROR("a callback of collective #", sequence_, " threw: ", thrown.what());
  }
  finish(error);
}

}  // namespace lf
