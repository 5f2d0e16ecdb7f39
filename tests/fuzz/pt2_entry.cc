#include <cstring>

#include "compiler/autodiff/check_shapes.h"
#include "compiler/import/embedding_ties.h"
#include "compiler/import/import.h"
#include "compiler/import/zip.h"
#include "tests/fuzz/compile_passes.h"
#include "tests/fuzz/entries.h"
#include "tests/fuzz/json_mutation.h"
#include "tests/import/pt2_builder.h"

namespace autospc::fuzz {
namespace {

// What an import accepts, at one length: bound and through the passes, constants read as the masks' reader does.
void Go(import::Model model, const import::Bindings& bindings) {
  const auto bound = import::BindSizes(&model, bindings);
  if (!bound.ok()) return CheckError(bound.error(), {Code::kBadInput, Code::kUsage, Code::kUnsupported});
  (void)import::TieCandidates(model.graph);
  if (!ir::Verify(model.graph).empty()) return;
  const Status shapes = autodiff::CheckShapes(model.graph, autodiff::Refused::kPassedOver);
  if (!shapes.ok()) return CheckError(shapes.error(), {Code::kBadInput});
  const ConstantReader constants = [&model](const std::string& name) -> Result<std::vector<uint8_t>> {
    const auto it = model.weights.find(name);
    if (it == model.weights.end()) return Error{Code::kBadInput, "no data", name, ""};
    return import::ReadWeight(it->second);
  };
  RunPasses(model.graph, 2, "ulysses", constants);
}

}  // namespace

void Pt2(std::string_view bytes) {
  const MemoryFile file(bytes);
  const auto model = import::ImportPt2(file.path());
  if (!model.ok()) return CheckError(model.error(), {Code::kBadInput, Code::kUnsupported, Code::kUsage});
  import::Bindings bindings;
  bindings.seq_len = 16;
  bindings.batch = 2;
  Go(*model, bindings);
  bindings.seq_len = 7;
  bindings.shard = {"x:0"};
  Go(*model, bindings);
  for (const auto& [name, source] : model->weights) {
    const auto data = import::ReadWeight(source);
    if (!data.ok()) CheckError(data.error(), {Code::kBadInput});
  }
}

// The archive's JSON changed, checksums made right again; once in a while a member goes or takes another's name.
size_t MutatePt2(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
  const MemoryFile file({reinterpret_cast<const char*>(data), size});
  const auto zip = import::ZipDirectory::Open(file.path());
  if (!zip.ok()) return 0;
  std::mt19937 random(seed);
  std::vector<std::pair<std::string, std::string>> members;
  std::vector<size_t> texts;
  for (const auto& [name, member] : zip->members()) {
    const auto content = zip->Read(name);
    if (!content.ok()) return 0;
    if (name.ends_with(".json")) {
      // The model itself is most of what can go wrong.
      for (int n = name.ends_with("model.json") ? 4 : 1; n > 0; --n) texts.push_back(members.size());
    }
    members.emplace_back(name, *content);
  }
  if (texts.empty()) return 0;
  if (random() % 32 == 0) {
    std::swap(members[random() % members.size()].first, members[random() % members.size()].first);
  } else {
    std::string& text = members[texts[random() % texts.size()]].second;
    nlohmann::json document = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (document.is_discarded()) return 0;
    JsonMutator(random()).Run(&document);
    text = document.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  }
  const std::string made = import::testing::Zip(members);
  if (made.size() > max_size) return 0;
  std::memcpy(data, made.data(), made.size());
  return made.size();
}

}  // namespace autospc::fuzz
