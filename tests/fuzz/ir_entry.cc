#include "compiler/autodiff/check_shapes.h"
#include "compiler/import/check_calls.h"
#include "passes/ir/parser.h"
#include "passes/ir/printer.h"
#include "passes/ir/verifier.h"
#include "runtime/base/predicate.h"
#include "tests/fuzz/compile_passes.h"
#include "tests/fuzz/entries.h"

namespace autospc::fuzz {
namespace {

// A predicate is a text in a string argument: it prints and parses to itself.
void Predicates(const ir::Graph& graph) {
  for (const ir::NodeId id : graph.nodes()) {
    for (const ir::Arg& arg : graph.node(id).args) {
      if (arg.kind != ir::Arg::Kind::kString) continue;
      const Result<Predicate> p = Predicate::Parse(arg.s);
      if (!p.ok()) continue;
      const Result<Predicate> again = Predicate::Parse(p->ToString());
      if (!again.ok() || again->ToString() != p->ToString()) Broken("a predicate reads back as printed");
    }
  }
}

}  // namespace

void Ir(std::string_view bytes) {
  const Result<ir::Graph> graph = ir::Parse(bytes, "input");
  if (!graph.ok()) return CheckError(graph.error(), {Code::kBadInput});
  const bool sound = ir::Verify(*graph).empty();
  const std::string printed = ir::Print(*graph);
  if (!sound) return;
  const Result<ir::Graph> again = ir::Parse(printed, "printed");
  if (!again.ok()) Broken("a printed graph parses: " + again.error().Format());
  if (ir::Print(*again) != printed) Broken("a graph prints as it was printed");
  Predicates(*graph);
  if (!import::WrongCalls(*graph).empty() || !ir::VerifyPlacements(*graph).empty()) return;
  const Status shapes = autodiff::CheckShapes(*graph, autodiff::Refused::kAnError);
  if (!shapes.ok()) return CheckError(shapes.error(), {Code::kBadInput});
  const ConstantReader none;
  RunPasses(*graph, 1, "ulysses", none);
  RunPasses(*graph, 3, "ulysses", none);
  RunPasses(*graph, 2, "allgather-kv", none);
}

}  // namespace autospc::fuzz
