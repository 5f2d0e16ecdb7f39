#include <string>
#include <vector>

#include "runtime/data/stream.h"
#include "runtime/data/tensor_batches.h"
#include "runtime/data/token_batches.h"
#include "tests/data/batch.h"
#include "tests/fuzz/check.h"
#include "tests/fuzz/entries.h"

namespace autospc::fuzz {
namespace {

using data::BatchSource;

// Batches of the source until it ends, a few of them; what they hold are ids that the embedding has.
void Draw(BatchSource* source, const data::Contract& contract, bool scanned) {
  const data::Memory memory(contract);
  for (int step = 0; step < 4; ++step) {
    const Result<data::BatchInfo> info = source->Next(memory.views());
    if (!info.ok()) return CheckError(info.error(), {Code::kBadInput});
    if (info->end) return;
    for (const double id : memory.Get("input_ids")) {
      if (scanned && !(id >= 0 && id < 1000)) Broken("a token that was looked at lies within the embedding");
    }
  }
  const data::DataPosition position = source->position();
  const auto again = data::ParseDataPosition(data::ToJson(position));
  if (!again.ok() || !(*again == position)) Broken("a position reads back as written");
}

template <typename Source>
void Drive(const Result<Source>& source, const data::Contract& contract, bool scanned) {
  if (!source.ok()) return CheckError(source.error(), {Code::kBadInput});
  Draw(source->get(), contract, scanned);
}

}  // namespace

// The first byte says how the rest is read.
void Tokens(std::string_view bytes) {
  if (bytes.empty()) return;
  const auto how = static_cast<unsigned char>(bytes[0]);
  const MemoryFile file(bytes.substr(1));
  const auto labels = how & 1 ? data::Labels::kShifted : data::Labels::kUnshifted;
  const std::optional<int64_t> ignore = how & 2 ? std::optional<int64_t>(-100) : std::nullopt;
  const data::Contract contract = data::Causal(2, 5, labels, ignore);
  std::optional<data::TokenType> type;
  if (const unsigned kind = how >> 2 & 7; kind < 5) type = static_cast<data::TokenType>(kind);
  data::OrderOptions order;
  order.shuffle = how & 32;
  order.once = how & 64;
  Drive(data::TokenBatches::Open(contract, {file.path()}, type, order, /*scan=*/true, "package"), contract, true);
  Drive(data::TensorBatches::Open(contract, {file.path()}, order, /*scan=*/true), contract, true);
  Drive(data::StreamBatches::Open(contract, file.path(), type, "package"), contract, false);
  (void)data::ParseDataPosition(bytes.substr(1));
}

}  // namespace autospc::fuzz
