#include "runtime/train/shared_batches.h"

#include <string>

#include "runtime/package/dtype.h"

namespace autospc::train {
namespace {

// What rank 0 has to say of a batch, before its bytes.
struct Message {
  data::BatchInfo info;
  data::DataPosition position;
  int64_t code = 0;        // of an error; 0: none
  int64_t text_bytes = 0;  // of its three texts, each behind a line end
};

}  // namespace

Status SharedBatches::Seek(const data::DataPosition& position) {
  position_ = position;
  return source_ ? source_->Seek(position) : Ok();
}

Result<data::BatchInfo> SharedBatches::Next(const std::vector<data::InputView>& inputs) {
  Message message{};
  std::string text;
  if (source_) {
    std::vector<data::InputView> whole = inputs;  // the others read other parts
    for (data::InputView& input : whole) input.slice = {};
    Result<data::BatchInfo> info = source_->Next(whole);
    message.position = source_->position();
    if (info.ok()) {
      message.info = *info;
    } else {
      message.code = static_cast<int64_t>(info.error().code);
      text = info.error().what + '\0' + info.error().where + '\0' + info.error().hint;
      message.text_bytes = static_cast<int64_t>(text.size());
    }
  }
  RETURN_IF_ERROR(communicator_->Broadcast(&message, sizeof(message), 0));
  position_ = message.position;
  if (message.code != 0) {
    text.resize(static_cast<size_t>(message.text_bytes));
    RETURN_IF_ERROR(communicator_->Broadcast(text.data(), message.text_bytes, 0));
    const size_t where = text.find('\0'), hint = text.find('\0', where + 1);
    return Error{static_cast<Code>(message.code), text.substr(0, where), text.substr(where + 1, hint - where - 1),
                 text.substr(hint + 1)};
  }
  if (message.info.end) return message.info;
  for (const data::InputView& input : inputs) {
    const int64_t bytes = CheckedNumel(input.sizes).value_or(0) * ByteSize(input.dtype);
    RETURN_IF_ERROR(communicator_->Broadcast(input.data, bytes, 0));
  }
  return message.info;
}

}  // namespace autospc::train
