#include "runtime/train/restore.h"

#include <ATen/ops/from_blob.h>

#include <algorithm>
#include <optional>
#include <set>
#include <vector>

#include "runtime/base/listing.h"
#include "runtime/base/log.h"
#include "runtime/checkpoint/folder.h"
#include "runtime/checkpoint/layout.h"
#include "runtime/package/dtype.h"
#include "runtime/package/ties.h"
#include "runtime/train/agree.h"
#include "runtime/train/load.h"

namespace autospc::train {
namespace {

using checkpoint::Layout;
using checkpoint::Reader;
using checkpoint::SavedTensor;
using checkpoint::TensorEntry;

constexpr char kMaster[] = ".master";

// Where in a checkpoint the program's tensors are.
class Matcher {
 public:
  Matcher(const Reader& reader, const program::ProgramT& program) : reader_(reader), ties_(program.aliases) {}

  // The checkpoint's name for a tensor of the program; nullopt: it has none.
  std::optional<std::string> Find(const SavedTensor& want) const {
    if (want.weight) {
      const std::optional<std::string> own = Named(want.name, "");
      if (!own) return own;
      // The parameter of a 16-bit run is its master, rounded.
      const std::optional<std::string> master = Named(want.name, kMaster);
      const bool wider = master && ByteSize(want.dtype) > ByteSize(reader_.Find(*own)->dtype);
      return wider ? master : own;
    }
    const size_t dot = std::min(want.name.rfind('.'), want.name.size());
    const std::string base = want.name.substr(0, dot), suffix = want.name.substr(dot);
    if (std::optional<std::string> state = Named(base, suffix)) return state;
    return suffix == kMaster ? Named(base, "") : std::nullopt;
  }

 private:
  std::optional<std::string> Named(const std::string& name, const std::string& suffix) const {
    for (const std::string& tied : ties_.Names(name)) {
      if (reader_.Find(tied + suffix) != nullptr) return tied + suffix;
    }
    return std::nullopt;
  }

  const Reader& reader_;
  const TieGroups ties_;
};

// Parameters and buffers lie in the model's files.
bool IsWeight(const Reader& reader, const TensorEntry& entry) {
  return reader.manifest().files[entry.file].name.starts_with("model");
}

bool Fits(const TensorEntry& held, const SavedTensor& want) {
  const bool convertible = held.dtype == want.dtype || (IsFloat(held.dtype) && IsFloat(want.dtype));
  return convertible && (want.weight ? held.sizes == want.sizes : held.numel() == want.numel());
}

// Open, and of this program's model: `wrong_model` says whether that alone is why not.
Result<Reader> OpenFitting(const checkpoint::Listed& candidate, const program::ProgramT& program, bool* wrong_model) {
  *wrong_model = false;
  ASSIGN_OR_RETURN(Reader reader, Reader::Open(candidate.path));
  Status fits = CheckRestore(reader, program);
  *wrong_model = !fits.ok();
  if (!fits.ok()) return std::move(fits).error();
  return reader;
}

Result<checkpoint::Candidates> CandidatesOf(const std::string& resume, const std::string& dir) {
  if (resume != kResumeAuto) return checkpoint::FindCandidates(resume);
  checkpoint::Candidates candidates;
  ASSIGN_OR_RETURN(candidates.checkpoints, checkpoint::ListCheckpoints(dir));
  return candidates;
}

Error NoneIsWhole(const std::string& where) {
  return {Code::kBadInput, "no checkpoint here is whole", where,
          "move the damaged ones away to start from the beginning, or continue from another folder"};
}

// The ranks share the files out between them.
Status VerifyShare(const Reader& reader, Communicator* communicator) {
  for (size_t i = communicator->rank(); i < reader.manifest().files.size(); i += communicator->size()) {
    RETURN_IF_ERROR(reader.Verify(i));
  }
  return Ok();
}

}  // namespace

Status CheckRestore(const Reader& reader, const program::ProgramT& program) {
  const Matcher matcher(reader, program);
  std::vector<std::string> missing, misshapen, extra, states;
  std::set<std::string> used;
  const Layout layout = checkpoint::MakeLayout(program, WrittenStorages(program));
  for (const SavedTensor& want : layout.tensors) {
    const std::optional<std::string> name = matcher.Find(want);
    if (!name) {
      (want.weight ? missing : states).push_back(fmt::format("{} {} {}", want.name, Name(want.dtype), FormatSizes(want.sizes)));
      continue;
    }
    used.insert(*name);
    if (want.weight) used.insert(want.name);
    const TensorEntry& held = *reader.Find(*name);
    if (!Fits(held, want))
      misshapen.push_back(fmt::format("{}: {} {} is wanted, the checkpoint holds {} {}", want.name, Name(want.dtype),
                                      FormatSizes(want.sizes), Name(held.dtype), FormatSizes(held.sizes)));
  }
  const TieGroups ties(program.aliases);
  for (const auto& [name, entry] : reader.manifest().tensors) {
    const std::vector<std::string> names = ties.Names(name);
    const bool wanted = std::any_of(names.begin(), names.end(), [&](const auto& n) { return used.contains(n); });
    if (!wanted && IsWeight(reader, entry)) extra.push_back(name);
  }
  if (!missing.empty() || !misshapen.empty() || !extra.empty()) {
    std::string what = fmt::format("the checkpoint is of another model ('{}'; the package holds '{}')", reader.manifest().model, program.name);
    if (!missing.empty()) what += fmt::format("\n  {} missing:", missing.size()) + Listing(missing);
    if (!misshapen.empty()) what += fmt::format("\n  {} of other shape or type:", misshapen.size()) + Listing(misshapen);
    if (!extra.empty()) what += fmt::format("\n  {} that nobody wants:", extra.size()) + Listing(extra);
    return Error{Code::kBadInput, what, reader.path(), "give a package of the model that wrote it"};
  }
  if (states.empty()) return Ok();
  return Error{Code::kBadInput,
               fmt::format("the checkpoint was made with --optimizer {}, it lacks states of --optimizer {}:{}",
                           reader.manifest().optimizer, program.optimizer, Listing(states)),
               reader.path(), fmt::format("to start this optimiser from its parameters: --weights {}", reader.path())};
}

Result<std::optional<int64_t>> CheckResume(const std::string& resume, const std::string& dir, const program::ProgramT& program) {
  if (resume.empty()) return std::optional<int64_t>();
  ASSIGN_OR_RETURN(const checkpoint::Candidates candidates, CandidatesOf(resume, dir));
  for (const checkpoint::Listed& candidate : candidates.checkpoints) {
    bool wrong_model = false;
    Result<Reader> reader = OpenFitting(candidate, program, &wrong_model);
    if (reader.ok()) return std::optional<int64_t>(reader->manifest().step);
    if (wrong_model || candidates.chosen) return std::move(reader).error();
  }
  if (candidates.checkpoints.empty()) return std::optional<int64_t>();
  return NoneIsWhole(resume == kResumeAuto ? dir : resume);
}

Result<std::shared_ptr<const Reader>> ChooseCheckpoint(const std::string& resume, const std::string& dir,
                                                       const program::ProgramT& program, Communicator* communicator) {
  std::shared_ptr<const Reader> none;
  if (resume.empty()) return none;
  const bool first = communicator->rank() == 0;
  checkpoint::Candidates candidates;
  Status found = Ok();
  if (first) {
    auto all = CandidatesOf(resume, dir);
    if (all.ok()) candidates = std::move(all).value();
    else found = std::move(all).error();
  }
  RETURN_IF_ERROR(AgreeOn(communicator, found));
  ASSIGN_OR_RETURN(const std::string chosen, BroadcastText(communicator, candidates.chosen ? "chosen" : ""));
  for (size_t i = 0;; ++i) {
    // Rank 0 names it: machines need not see the same folder in the same moment.
    const bool left = first && i < candidates.checkpoints.size();
    const auto named = BroadcastText(communicator, left ? candidates.checkpoints[i].path : "");
    // A rank that knows the cause says it also where the others have left already.
    if (first && !left && i > 0) return NoneIsWhole(resume == kResumeAuto ? dir : resume);
    if (!named.ok()) return named.error();
    const std::string& path = *named;
    if (path.empty() && i == 0) return none;
    if (path.empty()) return Error{Code::kPeerFailed, "rank 0 finds no checkpoint that is whole", "", ""};
    bool wrong_model = false;
    Result<Reader> reader = OpenFitting({0, path}, program, &wrong_model);
    const Status verified = reader.ok() ? VerifyShare(*reader, communicator) : Status(reader.error());
    const std::string fault =
        verified.ok() ? "" : fmt::format("{}{} at {}", wrong_model ? '!' : '?', verified.error().what, verified.error().where);
    const auto gathered = GatherTexts(communicator, fault);
    if (!gathered.ok() && !verified.ok() && (wrong_model || !chosen.empty())) return verified.error();
    if (!gathered.ok()) return gathered.error();
    const std::vector<std::string>& faults = *gathered;
    const auto worst = std::max_element(faults.begin(), faults.end(), [](const std::string& a, const std::string& b) {
      return a.substr(0, 1) < b.substr(0, 1);  // "" < "!" < "?"
    });
    if (worst->empty()) return std::make_shared<const Reader>(std::move(reader).value());
    if (!chosen.empty() || worst->front() == '!') {
      if (!verified.ok()) return verified.error();
      return Error{Code::kPeerFailed, fmt::format("rank {} failed: {}", worst - faults.begin(), worst->substr(1)), "", ""};
    }
    if (first) Log(LogLevel::kWarning, fmt::format("skipped the checkpoint {}: {}", path, worst->substr(1)));
  }
}

Status Restore(const Reader& reader, exec::Executor* executor) {
  const program::ProgramT& program = executor->program();
  const Matcher matcher(reader, program);
  const Layout layout = checkpoint::MakeLayout(program, WrittenStorages(program));
  for (const SavedTensor& want : layout.tensors) {
    const std::optional<std::string> name = matcher.Find(want);
    if (!name) return Error{Code::kFailed, fmt::format("'{}' is not in the checkpoint", want.name), reader.path(), ""};
    const int64_t n = want.numel();
    const int64_t begin = want.block > 0 ? std::min(n, executor->context().rank * want.block) : 0;
    const int64_t end = want.block > 0 ? std::min(n, begin + want.block) : n;
    if (begin == end) continue;
    at::Tensor to = executor->tensor(want.tensor);
    if (want.block > 0) to = to.narrow(0, 0, end - begin);
    if (to.is_contiguous() && to.is_cpu()) {
      RETURN_IF_ERROR(reader.Read(*name, begin, end, want.dtype, to.data_ptr()));
      continue;
    }
    std::vector<char> rows(static_cast<size_t>((end - begin) * ByteSize(want.dtype)));
    RETURN_IF_ERROR(reader.Read(*name, begin, end, want.dtype, rows.data()));
    to.copy_(at::from_blob(rows.data(), to.sizes(), at::TensorOptions().dtype(to.scalar_type())));
  }
  executor->ResumeAt(reader.manifest().step);
  return Ok();
}

}  // namespace autospc::train
