// --data: whatever its files are, as one source of batches.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/base/result.h"
#include "runtime/data/batch_source.h"
#include "runtime/data/contract.h"
#include "runtime/data/sample_order.h"
#include "runtime/data/token_file.h"

namespace autospc::data {

struct DataOptions {
  std::vector<std::string> files;
  std::optional<TokenType> token_type;  // of bare token files; uint16 where it is not given
  Labels labels = Labels::kUnknown;     // unknown: as the package says
  OrderOptions order;
};

// Whether it is a stream, which one rank reads and none may look into beforehand. kUsage: a stream among other files.
Result<bool> ReadsStream(const DataOptions& options);

// Of files. `scan`: every token is compared with the embedding's rows first. kBadInput says what is wrong with which
// file.
Result<std::unique_ptr<BatchSource>> OpenData(const DataOptions& options, const program::ProgramT& program,
                                              const std::string& package, bool scan);

// Of a stream, by the one rank that reads it.
Result<std::unique_ptr<BatchSource>> OpenStream(const DataOptions& options, const program::ProgramT& program,
                                                const std::string& package);

}  // namespace autospc::data
