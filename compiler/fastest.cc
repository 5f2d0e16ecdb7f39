#include "compiler/fastest.h"

#include <algorithm>
#include <deque>
#include <future>
#include <limits>
#include <list>
#include <numeric>
#include <set>
#include <utility>

#include "codegen/cost.h"
#include "codegen/kernel_traits.h"
#include "compiler/autodiff/trace.h"
#include "passes/recompute/fit.h"
#include "passes/step/register.h"
#include "passes/tile/tile.h"
#include "runtime/base/stopwatch.h"
#include "runtime/outvariant/out_variant.h"

namespace autospc {
namespace {

class Search {
 public:
  Search(const ir::Graph& forward, PassContext& context, const Target& target, PassManager& manager)
      : forward_(forward), context_(context), manager_(manager), traits_(codegen::KernelTraits(context.mesh(), HasOut, target.device)),
        cost_(codegen::KernelCosts(context.mesh(), codegen::RatesOf(target.machine))) {}

  Result<Planned> Run(bool weigh_all, std::vector<PlanPoint>* curve) {
    const bool any_zero = context_.zero < 0;
    if (any_zero) context_.zero = 0;
    const bool searched = context_.recompute == "auto";
    const std::string first = searched ? "none" : context_.recompute;
    const bool may_shard = any_zero && context_.ranks > 1 && context_.optimizer != "none" && context_.memory_budget > 0;
    if (may_shard && LeastPersistentBytes() > context_.memory_budget) context_.zero = 2;
    RETURN_IF_ERROR(Build(forward_, "", first, /*seen=*/true));
    if (may_shard && context_.zero == 0) {
      ASSIGN_OR_RETURN(const recompute::Choice plain, recompute::ChooseWithin(forms_, context_.memory_budget, traits_));
      if (!plain.fits) {
        // Sharded states and gradients send what the all-reduce sends, so they cost no time to speak of.
        context_.zero = 2;
        entries_.clear();
        forms_.clear();
        joints_.clear();
        found_.clear();
        weighed_.clear();
        RETURN_IF_ERROR(Build(forward_, "", first, /*seen=*/true));
      }
    }
    if (!searched) weighed_[0] = true;
    levels_ = !searched || context_.tile == "off" ? std::vector<int>{} : LevelsFor(forms_[0].problem.items.size());
    if (weigh_all && searched) {
      while (!levels_.empty()) RETURN_IF_ERROR(BuildNext());
      for (size_t f = 0; f < forms_.size(); ++f) RETURN_IF_ERROR(Weigh(f));
    }
    ASSIGN_OR_RETURN(recompute::Choice choice, FirstThatFits());
    *curve = Curve(choice);
    RETURN_IF_ERROR(manager_.Observe(choice.graph, "recompute"));
    return Planned{std::move(choice.graph), std::move(choice.plan)};
  }

 private:
  struct Entry {
    double seconds;
    int64_t peak;
    int form, candidate;
    auto operator<=>(const Entry&) const = default;
  };

  // Candidates in one order that no budget changes: by seconds. A form is built, or its candidates found, only when all
  // that is faster than it can be has been seen not to fit: no candidate is faster than its form with all saved, and no
  // form faster than one with larger tiles, but for what tiles gain by caches.
  Result<recompute::Choice> FirstThatFits() {
    while (true) {
      const double next = entries_.empty() ? kNever : entries_.begin()->seconds;
      const double build = !levels_.empty() ? forms_.back().all_saved_seconds : kNever;
      const size_t least = LeastUnweighed();
      const double weigh = least < forms_.size() ? forms_[least].all_saved_seconds : kNever;
      if (build < next && build <= weigh) {
        RETURN_IF_ERROR(BuildNext());
      } else if (weigh < next) {
        RETURN_IF_ERROR(Weigh(least));
      } else if (next < kNever) {
        const Entry e = *entries_.begin();
        entries_.erase(entries_.begin());
        const int64_t budget = context_.memory_budget;
        if (!recompute::MayFit(forms_[e.form], forms_[e.form].candidates[e.candidate], budget)) continue;
        ASSIGN_OR_RETURN(recompute::Choice choice, recompute::PlanCandidate(forms_, e.form, e.candidate, traits_));
        if (budget > 0 && choice.peak_bytes > budget) continue;
        choice.fits = true;
        return choice;
      } else {
        return recompute::Smallest(forms_, traits_);
      }
    }
  }

  // What the step holds without ZeRO besides activations, at the least: parameters with the optimiser's states.
  int64_t LeastPersistentBytes() const {
    int64_t bytes = 0;
    for (const ir::GraphInput& in : forward_.inputs) {
      const ir::Value& v = forward_.value(in.value);
      if (in.kind != ir::InputKind::kParameter || !in.alias_of.empty()) continue;
      const bool narrow = ir::ByteSize(v.dtype) < 4;
      const int64_t wide = v.numel() * (narrow ? 4 : ir::ByteSize(v.dtype));
      bytes += v.bytes();
      if (in.requires_grad) bytes += (context_.optimizer == "adamw" ? 2 * wide : 0) + (narrow ? wide : 0);
    }
    return bytes;
  }

  size_t LeastUnweighed() const {
    size_t least = forms_.size();
    for (size_t f = 0; f < forms_.size(); ++f) {
      if (!weighed_[f] && (least == forms_.size() || forms_[f].all_saved_seconds < forms_[least].all_saved_seconds)) least = f;
    }
    return least;
  }

  // The next level of tiling, if it differs from those before.
  Status BuildNext() {
    StartWeighing();
    context_.tile_level = levels_.front();
    levels_.erase(levels_.begin());
    ir::Graph tiled = forward_;
    const Status status = manager_.RunUnseen(tiled, context_, {"tile"});
    const std::string label = fmt::format("tile {}", context_.tile_level);
    context_.tile_level = 0;
    RETURN_IF_ERROR(status);
    if (!manager_.timings().back().changed) return Ok();
    return Build(tiled, label, "none", /*seen=*/false);
  }

  // Levels of tiling that compete, by the instructions of the plain form: a deep model's layers are each little beside
  // the whole, so that it gains less by smaller tiles than the search would take.
  static std::vector<int> LevelsFor(size_t items) {
    if (items > 8000) return {1};
    if (items > 3000) return {2};
    std::vector<int> all(tile::kMaxTileLevel);
    std::iota(all.begin(), all.end(), 1);
    return all;
  }

  Status Build(const ir::Graph& forward, std::string label, const std::string& rule, bool seen) {
    const Stopwatch watch;
    ASSIGN_OR_RETURN(ir::Graph joint, autodiff::Trace(forward));
    std::vector<std::string> passes = {"widen-gradient-sums", "accumulate-products"};
    for (std::string& pass : StepPipeline(context_)) passes.push_back(std::move(pass));
    if (seen) {
      RETURN_IF_ERROR(manager_.Observe(joint, "differentiate", watch.Milliseconds()));
      RETURN_IF_ERROR(manager_.Run(joint, context_, passes));
    } else {
      manager_.Time("differentiate", watch.Milliseconds(), joint);
      RETURN_IF_ERROR(manager_.RunUnseen(joint, context_, passes));
    }
    joints_.push_back(std::move(joint));
    recompute::Form form;
    form.label = std::move(label);
    form.graph = &joints_.back();
    form.problem = recompute::Describe(joints_.back(), traits_, cost_);
    for (const recompute::Item& item : form.problem.items) form.all_saved_seconds += item.seconds;
    form.candidates = recompute::FindCandidates(*form.graph, form.problem, rule);
    forms_.push_back(std::move(form));
    weighed_.push_back(false);
    Enter(forms_.size() - 1);
    return Ok();
  }

  // Finds the candidates of forms that have none yet, on threads of their own: most are needed by the time they are.
  void StartWeighing() {
    for (size_t f = found_.size(); f < forms_.size(); ++f) {
      found_.push_back(std::async(std::launch::async, [&graph = *forms_[f].graph, &problem = forms_[f].problem] {
        return recompute::FindCandidates(graph, problem, "auto");
      }));
    }
  }

  // The form's candidates are had; "none", which it had before, is not entered again if it has been looked at.
  Status Weigh(size_t form) {
    const Stopwatch watch;
    StartWeighing();
    recompute::Form& f = forms_[form];
    const std::string had = f.candidates[0].label;
    f.candidates = found_[form].get();
    weighed_[form] = true;
    const size_t waiting = std::erase_if(entries_, [form](const Entry& e) { return e.form == static_cast<int>(form); });
    Enter(form, waiting > 0 ? "" : had);
    manager_.Time("find-candidates", watch.Milliseconds(), *f.graph);
    return Ok();
  }

  void Enter(size_t form, const std::string& but = "") {
    for (size_t c = 0; c < forms_[form].candidates.size(); ++c) {
      const recompute::Candidate& candidate = forms_[form].candidates[c];
      if (candidate.label == but) continue;
      entries_.insert({candidate.schedule.seconds, candidate.schedule.peak, static_cast<int>(form), static_cast<int>(c)});
    }
  }

  std::vector<PlanPoint> Curve(const recompute::Choice& choice) const {
    std::vector<PlanPoint> curve;
    for (size_t f = 0; f < forms_.size(); ++f) {
      const recompute::Form& form = forms_[f];
      for (size_t c = 0; c < form.candidates.size(); ++c) {
        const recompute::Schedule& s = form.candidates[c].schedule;
        const bool chosen = choice.form == static_cast<int>(f) && choice.candidate == static_cast<int>(c);
        const int64_t arena = chosen ? choice.arena_bytes : s.peak;
        const std::string& label = form.candidates[c].label;
        curve.push_back({form.label.empty() ? label : form.label + ", " + label, form.problem.persistent_bytes + arena, arena,
                         s.seconds, s.again_seconds, chosen});
      }
    }
    std::stable_sort(curve.begin(), curve.end(), [](const PlanPoint& a, const PlanPoint& b) {
      return a.peak_bytes != b.peak_bytes ? a.peak_bytes > b.peak_bytes : a.seconds < b.seconds;
    });
    return curve;
  }

  const ir::Graph& forward_;
  PassContext& context_;
  PassManager& manager_;
  const memory::OpTraitsFn traits_;
  const recompute::CostFn cost_;
  static constexpr double kNever = std::numeric_limits<double>::infinity();

  std::list<ir::Graph> joints_;  // the forms point to them
  std::deque<recompute::Form> forms_;  // stay where they are
  std::vector<std::future<std::vector<recompute::Candidate>>> found_;  // by form; after what its threads read
  std::vector<bool> weighed_;    // by form: its candidates are found
  std::set<Entry> entries_;      // candidates that were not looked at
  std::vector<int> levels_;      // of tiling that were not built yet
};

}  // namespace

bool HasOut(const std::string& op) { return OutVariant(op).has_value(); }

Result<Planned> FastestThatFits(const ir::Graph& forward, PassContext& context, const Target& target, bool weigh_all,
                                  PassManager& manager, std::vector<PlanPoint>* curve) {
  return Search(forward, context, target, manager).Run(weigh_all, curve);
}

}  // namespace autospc
