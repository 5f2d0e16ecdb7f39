#include "runtime/data/tensor_batch.h"

#include <algorithm>

#include "runtime/package/dtype.h"

namespace autospc::data {
namespace {

using program::DType;

// The dim along which an input's rows lie; -1: it has none.
int BatchDim(const InputSpec& input) {
  if (input.sizes.empty() || (input.sizes.size() == 1 && input.seq_dim == 0)) return -1;
  return input.seq_dim == 0 ? 1 : 0;
}

bool Converts(DType from, DType to) {
  if (IsFloat(from) || IsFloat(to)) return IsFloat(from) && IsFloat(to);
  return from != DType::Complex64 && from != DType::Complex128 && to != DType::Complex64 && to != DType::Complex128;
}

int64_t PaddingOf(const Contract& contract, Role role, int64_t t) {
  return role == Role::kLabels ? contract.ignore_index.value_or(0) : role == Role::kPositions ? t : 0;
}

}  // namespace

Result<TensorBatch> TensorBatch::Make(const Contract& contract, SafetensorsFile file, const std::string& where,
                                      bool scan) {
  TensorBatch batch;
  batch.contract_ = contract;
  batch.file_ = std::move(file);
  batch.where_ = where;
  const InputSpec* const labels = contract.Find(Role::kLabels);
  batch.derives_ = contract.shifts() && batch.file_.Find(labels->name) == nullptr &&
                   batch.file_.Find("in." + labels->name) == nullptr;
  for (size_t i = 0; i < contract.inputs.size(); ++i) {
    const std::string& name = contract.inputs[i].name;
    const SafetensorsEntry* entry = batch.file_.Find(name);
    if (entry == nullptr) entry = batch.file_.Find("in." + name);
    if (entry != nullptr) RETURN_IF_ERROR(batch.Add(i, *entry));
  }
  RETURN_IF_ERROR(batch.CheckRoles());
  if (scan) RETURN_IF_ERROR(batch.Scan());
  return batch;
}

// Checks a tensor against its input and says where its elements go.
Status TensorBatch::Add(size_t index, const SafetensorsEntry& entry) {
  const InputSpec& input = contract_.inputs[index];
  const int batch_dim = BatchDim(input);
  std::vector<int64_t> sizes = entry.sizes;
  const auto misfit = [&](const char* why) {
    return Bad(fmt::format("'{}' is {} {}, and the model's input is {} {}: {}", entry.name, Name(entry.dtype),
                           FormatSizes(entry.sizes), Name(input.dtype), FormatSizes(input.sizes), why),
               "");
  };
  if (!Converts(entry.dtype, input.dtype)) return misfit("the types do not convert");
  if (sizes.size() != input.sizes.size()) return misfit("another number of dims");
  // Derived labels may need the token after a row's last position.
  const bool derived = input.role == Role::kTokens && derives_;
  for (size_t d = 0; d < sizes.size(); ++d) {
    const int dim = static_cast<int>(d);
    if (dim == batch_dim) continue;
    const int64_t most = input.sizes[d] + (dim == input.seq_dim && derived ? 1 : 0);
    if (dim == input.seq_dim ? sizes[d] > most || sizes[d] < 1 : sizes[d] != most) {
      return misfit(dim == input.seq_dim ? "its sequence is longer than the package's"
                                         : "another size beside batch and sequence");
    }
  }
  const int64_t rows = batch_dim < 0 ? 1 : sizes[batch_dim];
  if (batch_dim >= 0 || input.seq_dim >= 0) {
    if (rows_ >= 0 && rows != rows_) return misfit("another number of rows than the tensors before it");
    if (rows == 0) return misfit("it has no row");
    rows_ = rows;
  }
  Column column;
  column.input = index;
  column.data = file_.data(entry);
  column.dtype = entry.dtype;
  const std::vector<int64_t> from = ContiguousStrides(sizes), to = ContiguousStrides(input.sizes);
  if (batch_dim >= 0) {
    column.file_row = from[batch_dim];
    column.row = to[batch_dim];
  }
  if (input.seq_dim >= 0) {
    column.length = sizes[input.seq_dim];
    column.file_step = from[input.seq_dim];
    column.step = to[input.seq_dim];
  }
  column.runs = {{0, 0}};
  for (size_t d = 0; d < sizes.size(); ++d) {
    if (static_cast<int>(d) == batch_dim || static_cast<int>(d) == input.seq_dim) continue;
    std::vector<std::pair<int64_t, int64_t>> more;
    for (const auto& [a, b] : column.runs) {
      for (int64_t i = 0; i < sizes[d]; ++i) more.emplace_back(a + i * from[d], b + i * to[d]);
    }
    column.runs = std::move(more);
  }
  columns_.push_back(std::move(column));
  return Ok();
}

const TensorBatch::Column* TensorBatch::Find(Role role) const {
  for (const Column& column : columns_) {
    if (contract_.inputs[column.input].role == role) return &column;
  }
  return nullptr;
}

Status TensorBatch::CheckRoles() const {
  const Column* const tokens = Find(Role::kTokens);
  std::vector<bool> have(contract_.inputs.size(), false);
  for (const Column& column : columns_) have[column.input] = true;
  for (size_t i = 0; i < contract_.inputs.size(); ++i) {
    const InputSpec& input = contract_.inputs[i];
    const bool like_tokens = tokens != nullptr && input.seq_dim >= 0 && input.length() == contract_.length() &&
                             input.rows() == contract_.rows();
    if (have[i]) continue;
    if (input.role == Role::kOther || input.role == Role::kTokens || !like_tokens) {
      return Bad(fmt::format("it lacks the model's input '{}'", input.name), "name the tensor as the input");
    }
    if (input.role == Role::kLabels && contract_.labels == Labels::kUnknown) {
      return Bad(
          fmt::format("it lacks '{}', and the package does not say whether its model shifts labels itself", input.name),
          "--labels unshifted: it does; --labels shifted: label t is to be token t + 1");
    }
  }
  if (rows_ < 0) return Bad("it holds none of the model's inputs", "name its tensors as the inputs");
  for (const Column& column : columns_) {
    const InputSpec& input = contract_.inputs[column.input];
    if (input.seq_dim < 0) continue;
    const bool derived = input.role == Role::kTokens && derives_;
    const int64_t needed = input.length() + (derived ? 1 : 0);
    if (column.length < needed && !(contract_.ignore_index && contract_.Find(Role::kLabels) != nullptr)) {
      return Bad(fmt::format("'{}' has {} positions a row and a row needs {}: the model's loss can ignore no padding",
                             input.name, column.length, needed),
                 "give rows of the whole length, or compile with a shorter --seq-len");
    }
    if (tokens != nullptr && input.role == Role::kLabels && column.length != std::min(tokens->length, input.length())) {
      return Bad(
          fmt::format("'{}' has {} positions a row and the tokens have {}", input.name, column.length, tokens->length),
          "");
    }
  }
  return Ok();
}

int64_t TensorBatch::Integer(const Column& column, int64_t row, int64_t t) const {
  const int64_t element = row * column.file_row + t * column.file_step;
  return static_cast<int64_t>(LoadAsDouble(column.dtype, column.data + element * ByteSize(column.dtype)));
}

Status TensorBatch::Scan() const {
  for (const Column& column : columns_) {
    const InputSpec& input = contract_.inputs[column.input];
    const bool label = input.role == Role::kLabels;
    if (input.limit <= 0 || column.runs.size() != 1) continue;
    for (int64_t row = 0; row < rows_; ++row) {
      for (int64_t t = 0; t < column.length; ++t) {
        const int64_t id = Integer(column, row, t);
        if ((id >= 0 && id < input.limit) || (label && contract_.ignore_index && id == *contract_.ignore_index))
          continue;
        return Bad(fmt::format("'{}' holds {} at row {}, position {}, and {}", input.name, id, row, t, LimitText(input)),
                   "was it made with this model's tokenizer?");
      }
    }
  }
  return Ok();
}

int64_t TensorBatch::Fill(const Places& places, int64_t from, int64_t to) const {
  int64_t valid = 0;
  if (const Column* const tokens = Find(Role::kTokens)) {
    std::vector<int64_t> ids(static_cast<size_t>(tokens->length));
    for (int64_t t = 0; t < tokens->length; ++t) ids[t] = Integer(*tokens, from, t);
    valid = FillRow(contract_, places, to, ids);
  }
  for (const Column& column : columns_) {
    const InputSpec& input = contract_.inputs[column.input];
    if (input.role == Role::kTokens) continue;
    auto* const place = static_cast<std::byte*>(places[column.input].data);
    const Slice& slice = places[column.input].slice;
    for (const auto& [file_first, first] : column.runs) {
      if (!places[column.input].HasRow(to)) break;
      for (int64_t t = slice.begin; t < std::min(input.length(), slice.end); ++t) {
        const int64_t target = to * column.row + first + t * column.step;
        if (t >= column.length) {
          StoreInteger(input.dtype, place, target, PaddingOf(contract_, input.role, t));
          continue;
        }
        const int64_t source = from * column.file_row + file_first + t * column.file_step;
        const std::byte* element = column.data + source * ByteSize(column.dtype);
        if (IsFloat(input.dtype)) {
          (void)ConvertTo(input.dtype, place + target * ByteSize(input.dtype), column.dtype, element, 1);
        } else {
          StoreInteger(input.dtype, place, target, static_cast<int64_t>(LoadAsDouble(column.dtype, element)));
        }
      }
    }
    if (input.role != Role::kLabels) continue;
    valid = 0;
    for (int64_t t = contract_.labels == Labels::kUnshifted ? 1 : 0; t < column.length; ++t) {
      valid += contract_.ignore_index && Integer(column, from, t) == *contract_.ignore_index ? 0 : 1;
    }
  }
  return valid;
}

}  // namespace autospc::data
