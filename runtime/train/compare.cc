#include "runtime/train/compare.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "runtime/package/dtype.h"

namespace autospc::train {

Result<data::BatchInfo> GoldenBatch::Next(const std::vector<data::InputView>& inputs) {
  data::BatchInfo info;
  for (const data::InputView& input : inputs) {
    const auto found = std::find_if(golden_.inputs().begin(), golden_.inputs().end(),
                                    [&](const GoldenTensor& t) { return t.name == input.name; });
    const bool there = found != golden_.inputs().end() && found->dtype == input.dtype;
    const std::byte* data = there ? MicroBatchOf(*found, input.sizes, position_.epoch % micro_batches_, micro_batches_) : nullptr;
    if (data == nullptr) {
      return Error{Code::kBadInput, fmt::format("the batch has no in.{} of the program's sizes", input.name),
                   golden_.path(), ""};
    }
    const int64_t numel = CheckedNumel(input.sizes).value_or(0);
    std::memcpy(input.data, data, static_cast<size_t>(numel * ByteSize(input.dtype)));
  }
  ASSIGN_OR_RETURN(const data::Places places, data::PlacesOf(contract_, inputs));
  info.tokens = data::CountTokens(contract_, places);
  ++position_.epoch;
  return info;
}

Status GoldenBatch::Seek(const data::DataPosition& position) {
  position_ = position;
  return Ok();
}

Result<int> Compare(Rank* rank, const GoldenFile& golden) {
  const RunOptions& options = rank->options();
  GoldenBatch batch(golden, rank->program());
  for (int64_t m = 0; m < rank->micro_batches(); ++m) {
    RETURN_IF_ERROR(batch.Next(rank->Inputs()));
    RETURN_IF_ERROR(rank->Step(options.learning_rate.lr));
  }
  if (!rank->first()) return 0;
  const Capture& capture = rank->capture();
  const program::ProgramT& program = rank->program();
  if (!options.write_golden.empty()) {
    RETURN_IF_ERROR(WriteGolden(options.write_golden, golden.inputs(), capture.loss(), capture.gradients(), program));
    fmt::print("wrote {}\n", options.write_golden);
  }
  ASSIGN_OR_RETURN(const GoldenComparison comparison,
                   CompareWithGolden(golden, capture.loss(), capture.gradients(), program, options.rtol));
  if (options.json) {
    fmt::print("{{\"loss\": {:.9g}, \"worst_error\": {:.3e}, \"rtol\": {:g}, \"passed\": {}}}\n", comparison.loss,
               comparison.worst_error(), options.rtol, comparison.passed());
  } else {
    fmt::print("{}", comparison.Table());
  }
  std::fflush(stdout);
  return comparison.passed() ? 0 : static_cast<int>(Code::kFailed);
}

}  // namespace autospc::train
