#include "runtime/train/agree.h"

namespace autospc::train {

Result<std::string> BroadcastText(Communicator* communicator, const std::string& text) {
  auto size = static_cast<int64_t>(text.size());
  RETURN_IF_ERROR(communicator->Broadcast(&size, sizeof(size), 0));
  std::string shared = text;
  shared.resize(static_cast<size_t>(size));
  if (size > 0) RETURN_IF_ERROR(communicator->Broadcast(shared.data(), size, 0));
  return shared;
}

Result<std::vector<std::string>> GatherTexts(Communicator* communicator, const std::string& mine, size_t width) {
  std::string padded = mine;
  padded.resize(width);
  std::string all(width * communicator->size(), '\0');
  RETURN_IF_ERROR(communicator->AllGather(padded.data(), all.data(), static_cast<int64_t>(width)));
  std::vector<std::string> texts;
  for (int r = 0; r < communicator->size(); ++r) {
    const std::string text = all.substr(r * width, width);
    texts.push_back(text.substr(0, text.find('\0')));
  }
  return texts;
}

Status AgreeOn(Communicator* communicator, const Status& mine) {
  const std::string text =
      mine.ok() ? "" : fmt::format("{}{}{}", mine.error().what, mine.error().where.empty() ? "" : " at ", mine.error().where);
  const auto texts = GatherTexts(communicator, text);
  if (!mine.ok()) return mine;  // also where the others have left already
  if (!texts.ok()) return texts.error();
  for (size_t r = 0; r < texts->size(); ++r) {
    if (!(*texts)[r].empty()) return Error{Code::kPeerFailed, fmt::format("rank {} failed: {}", r, (*texts)[r]), "", ""};
  }
  return Ok();
}

}  // namespace autospc::train
