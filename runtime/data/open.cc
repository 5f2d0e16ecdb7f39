#include "runtime/data/open.h"

namespace autospc::data {

Result<std::unique_ptr<BatchSource>> OpenData(const DataOptions& options, const program::ProgramT& program,
                                              const std::string& package, bool scan) {
  const Contract contract = ContractOf(program, options.labels);
  ASSIGN_OR_RETURN(std::unique_ptr<TokenBatches> tokens,
                   TokenBatches::Open(contract, options.files, options.token_type, options.order, scan, package));
  return std::unique_ptr<BatchSource>(std::move(tokens));
}

}  // namespace autospc::data
