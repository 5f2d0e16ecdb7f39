#include "runtime/data/open.h"

#include <algorithm>

#include "runtime/data/stream.h"
#include "runtime/data/tensor_batches.h"
#include "runtime/data/token_batches.h"

namespace autospc::data {

Result<bool> ReadsStream(const DataOptions& options) {
  const auto streams = std::count_if(options.files.begin(), options.files.end(), &IsStream);
  if (streams > 0 && options.files.size() > 1) {
    return Error{Code::kUsage, "a stream stands among several files", "--data", "give the stream alone, or files"};
  }
  return streams > 0;
}

Result<std::unique_ptr<BatchSource>> OpenData(const DataOptions& options, const program::ProgramT& program,
                                              const std::string& package, bool scan) {
  const Contract contract = ContractOf(program, options.labels);
  const auto tensors = std::count_if(options.files.begin(), options.files.end(),
                                     [](const std::string& file) { return file.ends_with(".safetensors"); });
  if (tensors > 0 && tensors < static_cast<int64_t>(options.files.size())) {
    return Error{Code::kUsage, "token files and safetensors files at once", "--data", "give files of one kind"};
  }
  if (tensors > 0) {
    ASSIGN_OR_RETURN(std::unique_ptr<TensorBatches> source,
                     TensorBatches::Open(contract, options.files, options.order, scan));
    return std::unique_ptr<BatchSource>(std::move(source));
  }
  ASSIGN_OR_RETURN(std::unique_ptr<TokenBatches> source,
                   TokenBatches::Open(contract, options.files, options.token_type, options.order, scan, package));
  return std::unique_ptr<BatchSource>(std::move(source));
}

Result<std::unique_ptr<BatchSource>> OpenStream(const DataOptions& options, const program::ProgramT& program,
                                                const std::string& package) {
  ASSIGN_OR_RETURN(
      std::unique_ptr<StreamBatches> source,
      StreamBatches::Open(ContractOf(program, options.labels), options.files.at(0), options.token_type, package));
  return std::unique_ptr<BatchSource>(std::move(source));
}

}  // namespace autospc::data
