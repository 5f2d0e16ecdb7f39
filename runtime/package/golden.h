// Golden files: what one device computed for a batch, and how far a run is from it.
//
// A golden file is a safetensors file: `in.NAME` the batch's inputs (whole, as the model takes them), `loss` [], and
// `grad.PARAMETER` for each parameter that has a gradient; the metadata "tied" lists, separated by commas, parameter
// names that share another's tensor. Float64 where a float64 reference fits.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "runtime/base/result.h"
#include "runtime/package/safetensors.h"

namespace autospc {

struct GoldenTensor {
  std::string name;  // without "in." or "grad."
  program::DType dtype = program::DType::Float64;
  std::vector<int64_t> sizes;
  const std::byte* data = nullptr;  // contiguous; valid as long as the file is open
};

class GoldenFile {
 public:
  // kBadInput: no safetensors file, or none of this kind (no loss, an entry of another name, a gradient that
  // is not of a float type).
  static Result<GoldenFile> Open(const std::string& path);

  const std::string& path() const { return file_.path(); }
  const std::vector<GoldenTensor>& inputs() const { return inputs_; }        // by name
  const std::vector<GoldenTensor>& gradients() const { return gradients_; }  // by name
  const std::vector<std::string>& tied() const { return tied_; }
  double loss() const { return loss_; }

 private:
  SafetensorsFile file_;
  std::vector<GoldenTensor> inputs_, gradients_;
  std::vector<std::string> tied_;
  double loss_ = 0;
};

// The part of a file's input that is micro-batch `index` of `count`, by the sizes that the program's input has: rows of
// its first dim, or all of it where it has those sizes already (positions that all share). nullptr: neither fits.
const std::byte* MicroBatchOf(const GoldenTensor& input, const std::vector<int64_t>& sizes, int64_t index, int64_t count);

// Whether the file is of this program's model, batch and length: every input there with the program's dtype and
// sizes (of all its micro-batches together, one behind the other along the first dim), every gradient of the file a parameter of the program's (under any of its tied names), every gradient of
// the program in the file, sizes equal. kBadInput lists all that is not so. To be asked before anything runs.
Status CheckGolden(const GoldenFile& golden, const program::ProgramT& program);

// A gradient that a run has computed: any float type, any strides.
struct ComputedGradient {
  std::string name;  // the parameter's
  program::DType dtype = program::DType::Float32;
  std::vector<int64_t> sizes, strides;
  const void* data = nullptr;
};

struct GoldenComparison {
  struct Row {
    std::string name;  // as in the golden file
    double error = 0;  // ||g - r|| / max(||r||, 1e-4 ||G||): G all reference gradients; NaN where g has one
    double norm = 0, reference_norm = 0;
  };
  std::vector<Row> rows;  // the worst first, NaN before all; then by name
  double loss = 0, reference_loss = 0, loss_error = 0;      // |l - r| / |r|, or |l| where r is 0
  double grad_norm = 0, reference_grad_norm = 0, grad_norm_error = 0;  // relative in the same way
  double rtol = 0;

  double worst_error() const;  // of gradients, loss and norm; NaN if one is
  bool passed() const;         // every error is a number and at most rtol
  // The worst rows (at most `max_rows`), loss and norm, and the verdict; 100 columns.
  std::string Table(size_t max_rows = 10) const;
};

// In float64. A tied name counts once, and a reference gradient without a computed one (a parameter that the program
// does not use) is compared with zeros. `program` gives parameters and ties. kBadInput where
// CheckGolden would say so of names or sizes.
Result<GoldenComparison> CompareWithGolden(const GoldenFile& golden, double loss,
                                           const std::vector<ComputedGradient>& gradients,
                                           const program::ProgramT& program, double rtol);

// Writes a golden file from a run. Inputs and gradients keep their element types, the loss becomes float64. A
// parameter's tied names (from program.aliases) go into the metadata.
Status WriteGolden(const std::string& path, const std::vector<GoldenTensor>& inputs, double loss,
                   const std::vector<ComputedGradient>& gradients, const program::ProgramT& program);

}  // namespace autospc
