#include "compiler/fastest.h"

#include <algorithm>
#include <chrono>
#include <list>
#include <numeric>
#include <utility>

#include "codegen/cost.h"
#include "codegen/kernel_traits.h"
#include "compiler/autodiff/trace.h"
#include "passes/recompute/fit.h"
#include "passes/step/register.h"
#include "passes/tile/tile.h"
#include "runtime/outvariant/out_variant.h"

namespace autospc {
namespace {

double MillisecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

class Search {
 public:
  Search(const ir::Graph& forward, PassContext& context, const std::string& machine, PassManager& manager)
      : forward_(forward), context_(context), manager_(manager), traits_(codegen::KernelTraits(context.ranks, HasOut)),
        cost_(codegen::KernelCosts(context.ranks, codegen::RatesOf(machine))) {}

  Result<ir::Graph> Run(bool weigh_all, std::vector<PlanPoint>* curve) {
    const bool any_zero = context_.zero < 0;
    if (any_zero) context_.zero = 0;
    // What nothing beats in time: all is saved, in the plain form. Where it fits, the others need not be looked at.
    const bool searched = context_.recompute == "auto";
    RETURN_IF_ERROR(Add(forward_, "", searched ? "none" : context_.recompute));
    ASSIGN_OR_RETURN(recompute::Choice choice, Choose());
    if (!choice.fits && any_zero && context_.ranks > 1 && context_.optimizer != "none") {
      // Sharded states and gradients send what the all-reduce sends, so they cost no time to speak of.
      context_.zero = 2;
      forms_.clear();
      joints_.clear();
      RETURN_IF_ERROR(Add(forward_, "", searched ? "none" : context_.recompute));
      ASSIGN_OR_RETURN(choice, Choose());
    }
    if (searched && (!choice.fits || weigh_all)) {
      RETURN_IF_ERROR(AddTiled());
      // A form can't be faster than with everything saved: one that is slower so than what fits need not be weighed.
      std::vector<size_t> order(forms_.size());
      std::iota(order.begin(), order.end(), size_t{0});
      std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return LeastSeconds(a) < LeastSeconds(b); });
      for (const size_t f : order) {
        if (!weigh_all && choice.fits && SecondsOf(choice) <= LeastSeconds(f)) break;
        RETURN_IF_ERROR(Weigh(forms_[f], "auto"));
        ASSIGN_OR_RETURN(choice, Choose());
      }
    }
    *curve = Curve(choice);
    RETURN_IF_ERROR(manager_.Observe(choice.graph, "recompute"));
    return std::move(choice.graph);
  }

 private:
  double LeastSeconds(size_t form) const { return forms_[form].all_saved_seconds; }
  double SecondsOf(const recompute::Choice& c) const { return forms_[c.form].candidates[c.candidate].schedule.seconds; }

  // The tiled forms, each level that differs from those before.
  Status AddTiled() {
    for (int level = 1; context_.tile != "off" && level <= tile::kMaxTileLevel; ++level) {
      ir::Graph tiled = forward_;
      context_.tile_level = level;
      const Status status = manager_.Run(tiled, context_, {"tile"});
      context_.tile_level = 0;
      RETURN_IF_ERROR(status);
      if (!manager_.timings().back().changed) continue;
      RETURN_IF_ERROR(Add(tiled, fmt::format("tile {}", level), "none"));
    }
    return Ok();
  }

  Status Add(const ir::Graph& forward, std::string label, const std::string& rule) {
    const auto start = std::chrono::steady_clock::now();
    ASSIGN_OR_RETURN(ir::Graph joint, autodiff::Trace(forward));
    RETURN_IF_ERROR(manager_.Observe(joint, "differentiate", MillisecondsSince(start)));
    RETURN_IF_ERROR(manager_.Run(joint, context_, {"accumulate-products"}));
    RETURN_IF_ERROR(manager_.Run(joint, context_, StepPipeline()));
    joints_.push_back(std::move(joint));
    recompute::Form form;
    form.label = std::move(label);
    form.graph = &joints_.back();
    form.problem = recompute::Describe(joints_.back(), traits_, cost_);
    for (const recompute::Item& item : form.problem.items) form.all_saved_seconds += item.seconds;
    RETURN_IF_ERROR(Weigh(form, rule));
    forms_.push_back(std::move(form));
    return Ok();
  }

  Status Weigh(recompute::Form& form, const std::string& rule) {
    const auto start = std::chrono::steady_clock::now();
    form.candidates = recompute::FindCandidates(*form.graph, form.problem, rule);
    return manager_.Observe(*form.graph, "find-candidates", MillisecondsSince(start), false);
  }

  Result<recompute::Choice> Choose() const { return recompute::ChooseWithin(forms_, context_.memory_budget, traits_); }

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
  std::list<ir::Graph> joints_;  // the forms point to them
  std::vector<recompute::Form> forms_;
};

}  // namespace

bool HasOut(const std::string& op) { return OutVariant(op).has_value(); }

Result<ir::Graph> FastestThatFits(const ir::Graph& forward, PassContext& context, const std::string& machine, bool weigh_all,
                                  PassManager& manager, std::vector<PlanPoint>* curve) {
  return Search(forward, context, machine, manager).Run(weigh_all, curve);
}

}  // namespace autospc
