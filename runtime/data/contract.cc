#include "runtime/data/contract.h"

#include <algorithm>
#include <cstring>

#include "runtime/package/dtype.h"

namespace autospc::data {
namespace {

using program::DType;

Labels Recorded(program::LabelShift shift) {
  return shift == program::LabelShift::ByModel  ? Labels::kUnshifted
         : shift == program::LabelShift::ByData ? Labels::kShifted
                                                : Labels::kUnknown;
}

template <typename T>
void Store(void* base, int64_t index, T value) {
  std::memcpy(static_cast<std::byte*>(base) + index * static_cast<int64_t>(sizeof(T)), &value, sizeof(T));
}

}  // namespace

int64_t InputSpec::inner() const {
  int64_t inner = 1;
  for (size_t d = seq_dim < 0 ? sizes.size() : static_cast<size_t>(seq_dim) + 1; d < sizes.size(); ++d)
    inner *= sizes[d];
  return inner;
}

int64_t InputSpec::rows() const {
  int64_t numel = 1;
  for (int64_t s : sizes) numel *= s;
  return length() == 0 ? 0 : numel / length();
}

int64_t InputSpec::Offset(int64_t row, int64_t t) const {
  const int64_t in = inner();
  return row / in * length() * in + t * in + row % in;
}

const InputSpec* Contract::Find(Role role) const {
  for (const InputSpec& input : inputs) {
    if (input.role == role) return &input;
  }
  return nullptr;
}

const InputSpec* Contract::Tightest() const {
  const InputSpec* tightest = nullptr;
  for (const InputSpec& input : inputs) {
    if (input.limit <= 0 || (input.role != Role::kTokens && input.role != Role::kLabels)) continue;
    if (tightest == nullptr || input.limit < tightest->limit) tightest = &input;
  }
  return tightest;
}

std::string LimitText(const InputSpec& input) {
  return input.role == Role::kLabels ? fmt::format("the loss on '{}' has {} classes", input.name, input.limit)
                                     : fmt::format("the embedding of '{}' has {} rows", input.name, input.limit);
}

int64_t Contract::rows() const {
  if (const InputSpec* const tokens = Find(Role::kTokens)) return tokens->rows();
  for (const InputSpec& input : inputs) {
    if (!input.sizes.empty() && !(input.sizes.size() == 1 && input.seq_dim == 0))
      return input.sizes[input.seq_dim == 0 ? 1 : 0];
  }
  return 1;
}

int64_t Contract::length() const {
  if (const InputSpec* const tokens = Find(Role::kTokens)) return tokens->length();
  for (const InputSpec& input : inputs) {
    if (input.seq_dim >= 0) return input.length();
  }
  return 1;
}

Contract ContractOf(const program::ProgramT& program, Labels labels) {
  Contract contract;
  contract.labels = labels == Labels::kUnknown ? Recorded(program.label_shift) : labels;
  if (program.ignores_label) contract.ignore_index = program.ignore_index;
  for (const auto& input : program.inputs) {
    const program::TensorT& t = *program.tensors[input->tensor];
    InputSpec spec;
    spec.name = input->name;
    spec.dtype = t.dtype;
    spec.sizes = t.sizes;
    spec.seq_dim = input->seq_dim;
    spec.role = static_cast<Role>(input->role);  // the same in the same order
    spec.limit = input->limit;
    contract.inputs.push_back(std::move(spec));
  }
  return contract;
}

Status CheckFillable(const Contract& contract, const std::string& package) {
  const InputSpec* const tokens = contract.Find(Role::kTokens);
  if (tokens == nullptr) {
    return Error{Code::kBadInput, "none of the model's inputs is known to hold token ids", package,
                 "give batches as safetensors, their tensors named as the inputs"};
  }
  for (const InputSpec& input : contract.inputs) {
    const bool twice = &input != contract.Find(input.role);
    if (input.role == Role::kOther || twice) {
      return Error{Code::kBadInput, fmt::format("a token file cannot fill the model's input '{}'", input.name), package,
                   "give batches as safetensors, their tensors named as the inputs"};
    }
    if (input.seq_dim < 0 || input.length() != tokens->length() || input.rows() != tokens->rows()) {
      return Error{Code::kBadInput,
                   fmt::format("the model's input '{}' is {} and its tokens '{}' are {}: a token file fills inputs of "
                               "one size",
                               input.name, FormatSizes(input.sizes), tokens->name, FormatSizes(tokens->sizes)),
                   package, "give batches as safetensors, their tensors named as the inputs"};
    }
  }
  if (contract.Find(Role::kLabels) != nullptr && contract.labels == Labels::kUnknown) {
    return Error{Code::kBadInput, "the package does not say whether its model shifts the labels itself", package,
                 "--labels unshifted: it does; --labels shifted: label t is to be token t + 1"};
  }
  return Ok();
}

Result<Places> PlacesOf(const Contract& contract, const std::vector<InputView>& views) {
  Places places;
  for (const InputSpec& input : contract.inputs) {
    const auto it = std::find_if(views.begin(), views.end(), [&](const InputView& v) { return v.name == input.name; });
    if (it == views.end() || it->dtype != input.dtype || it->sizes != input.sizes) {
      return Error{Code::kFailed, fmt::format("'{}' is no place of this program", input.name), "", "report it"};
    }
    places.push_back({it->data, it->slice});
  }
  return places;
}

int64_t CountTokens(const Contract& contract, const Places& places) {
  const InputSpec* const labels = contract.Find(Role::kLabels);
  if (labels == nullptr) return contract.Find(Role::kTokens) != nullptr ? contract.rows() * contract.length() : 0;
  const auto* const data =
      static_cast<const std::byte*>(places[static_cast<size_t>(labels - contract.inputs.data())].data);
  int64_t valid = 0;
  for (int64_t row = 0; row < labels->rows(); ++row) {
    for (int64_t t = contract.labels == Labels::kUnshifted ? 1 : 0; t < labels->length(); ++t) {
      const double label = LoadAsDouble(labels->dtype, data + labels->Offset(row, t) * ByteSize(labels->dtype));
      valid += contract.ignore_index && label == static_cast<double>(*contract.ignore_index) ? 0 : 1;
    }
  }
  return valid;
}

void StoreInteger(DType dtype, void* base, int64_t index, int64_t value) {
  switch (dtype) {
    case DType::Bool:
      return Store<uint8_t>(base, index, value != 0);
    case DType::UInt8:
      return Store<uint8_t>(base, index, static_cast<uint8_t>(value));
    case DType::Int8:
      return Store<int8_t>(base, index, static_cast<int8_t>(value));
    case DType::Int16:
      return Store<int16_t>(base, index, static_cast<int16_t>(value));
    case DType::Int32:
      return Store<int32_t>(base, index, static_cast<int32_t>(value));
    case DType::Int64:
      return Store<int64_t>(base, index, value);
    case DType::Float64:
      return Store<double>(base, index, static_cast<double>(value));
    default: {
      const auto number = static_cast<float>(value);
      std::byte* to = static_cast<std::byte*>(base) + index * ByteSize(dtype);
      (void)ConvertTo(dtype, to, DType::Float32, &number, 1);
    }
  }
}

int64_t FillRow(const Contract& contract, const Places& places, int64_t row, std::span<const int64_t> tokens) {
  const int64_t length = contract.length(), shift = contract.shifts() ? 1 : 0;
  const auto have = std::min<int64_t>(length, static_cast<int64_t>(tokens.size()));
  const int64_t labelled = std::clamp<int64_t>(static_cast<int64_t>(tokens.size()) - shift, 0, length);
  const int64_t ignore = contract.ignore_index.value_or(0);
  // The model that shifts labels itself has no use for a row's first one.
  const int64_t first = contract.labels == Labels::kUnshifted ? 1 : 0;
  for (size_t i = 0; i < contract.inputs.size(); ++i) {
    const InputSpec& input = contract.inputs[i];
    // Others are filled by who knows them.
    const bool like_tokens = input.seq_dim >= 0 && input.length() == length && input.rows() == contract.rows();
    if (!like_tokens || input.role == Role::kOther || !places[i].HasRow(row)) continue;
    const int64_t end = std::min(length, places[i].slice.end);
    for (int64_t t = places[i].slice.begin; t < end; ++t) {
      int64_t value = 0;
      switch (input.role) {
        case Role::kTokens:
          value = t < have ? tokens[t] : 0;
          break;
        case Role::kLabels:
          value = t < labelled ? tokens[t + shift] : ignore;
          break;
        case Role::kMask:
          value = t < have ? 1 : 0;
          break;
        case Role::kPositions:
          value = t;
          break;
        case Role::kTokenTypes:
        case Role::kOther:
          break;
      }
      StoreInteger(input.dtype, places[i].data, input.Offset(row, t), value);
    }
  }
  if (contract.Find(Role::kLabels) == nullptr) return have;
  int64_t valid = 0;
  for (int64_t t = first; t < labelled; ++t) valid += contract.ignore_index && tokens[t + shift] == ignore ? 0 : 1;
  return valid;
}

}  // namespace autospc::data
