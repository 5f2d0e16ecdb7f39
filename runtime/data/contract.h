// What a program asks of its data: which input holds tokens, which labels, and how a row of tokens fills them all.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "runtime/base/result.h"
#include "runtime/data/batch_source.h"
#include "runtime/package/program_generated.h"

namespace autospc::data {

enum class Role : uint8_t {
  kOther,       // known to the model alone: only a batch that names it can fill it
  kTokens,      // ids that an embedding looks up
  kLabels,      // targets of the loss
  kMask,        // 1 where a position holds a token, 0 in padding
  kPositions,   // 0, 1, 2, … along the sequence
  kTokenTypes,  // 0: one segment
};

// Who moves the targets by one: label t of a row is its token t where the model does ("unshifted"), its token t + 1
// where the data must ("shifted").
enum class Labels : uint8_t { kUnknown, kUnshifted, kShifted };

struct InputSpec {
  std::string name;
  program::DType dtype = program::DType::Int64;
  std::vector<int64_t> sizes;
  int seq_dim = -1;
  Role role = Role::kOther;
  int64_t limit = 0;  // of the ids: the embedding's rows; 0: not known
  // Rows of `length` positions; position t of row r is element Offset(r, t).
  int64_t length() const { return seq_dim < 0 ? 1 : sizes[seq_dim]; }
  int64_t inner() const;  // elements between neighbours along the sequence
  int64_t rows() const;
  int64_t Offset(int64_t row, int64_t t) const;
};

struct Contract {
  std::vector<InputSpec> inputs;  // in the program's order
  Labels labels = Labels::kUnknown;
  std::optional<int64_t> ignore_index;  // the label that the loss leaves out

  const InputSpec* Find(Role role) const;  // nullptr: no such input
  int64_t rows() const;                    // of the global batch
  int64_t length() const;                  // positions of a row
  // A row needs so many tokens: one more than positions where labels are shifted here.
  int64_t tokens_a_row() const { return length() + (shifts() ? 1 : 0); }
  // The input that allows the fewest ids to a file's tokens: they are its labels too. nullptr: any id goes.
  const InputSpec* Tightest() const;
  bool shifts() const { return labels == Labels::kShifted && Find(Role::kLabels) != nullptr; }
};

// "the embedding of 'input_ids' has 64 rows", "the loss on 'labels' has 64 classes".
std::string LimitText(const InputSpec& input);

// As the program records it. `labels` overrides what that says of labels.
Contract ContractOf(const program::ProgramT& program, Labels labels = Labels::kUnknown);

// Whether rows of tokens fill all inputs: kBadInput names the input that they can't, and says where labels would have
// to be known.
Status CheckFillable(const Contract& contract, const std::string& package);

// Where the contract's inputs are, in its order, and what of them is read.
struct Place {
  void* data = nullptr;
  Slice slice;
  bool HasRow(int64_t row) const { return row >= slice.row_begin && row < slice.row_end; }
};
using Places = std::vector<Place>;
// kFailed: not the program's inputs (a fault of our own).
Result<Places> PlacesOf(const Contract& contract, const std::vector<InputView>& views);

// Fills row `row` of every input from the first tokens of it: all tokens_a_row() of them, or fewer, where the rest is
// padding with ignored labels (contract.ignore_index is there then). Returns the row's valid labels as the loss counts
// them, or its positions where there are no labels.
int64_t FillRow(const Contract& contract, const Places& places, int64_t row, std::span<const int64_t> tokens);

// The valid labels of a whole batch as the loss counts them, from the labels' place; positions of the tokens where
// there are no labels, 0 where there are neither.
int64_t CountTokens(const Contract& contract, const Places& places);

// One integer as an element of that type.
void StoreInteger(program::DType dtype, void* base, int64_t index, int64_t value);

}  // namespace autospc::data
