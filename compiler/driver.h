// The compiler's phases in order, from a .pt2 to a package.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "codegen/cost.h"
#include "compiler/import/import.h"
#include "compiler/plan.h"
#include "passes/framework/manager.h"
#include "passes/framework/pass.h"
#include "runtime/package/program_generated.h"

namespace autospc {

struct CompileOptions {
  std::string model;                // a .pt2
  import::Bindings bindings;
  std::vector<std::string> log_outputs;  // further scalar outputs that the program keeps
  std::string loss;                 // name of the loss among several scalar outputs; empty: the only one
  PassContext context;              // ranks, strategy, strict, optimizer, clip_norm, …
  std::string weights;              // safetensors file or checkpoint folder; empty: the export's own
  std::string weights_prefix;
  bool tie_embeddings = false;      // the head is the embedding of its shape, which a weightless export does not say
  std::string device = "cpu";       // whose kernels run the package: "cpu" or "cuda"
  std::string machine = "cpu";      // whose rates estimate time: "cpu" or "h100" (codegen/rates.h)
  PassManagerOptions passes;
  bool smallest_anyway = false;     // where nothing fits the budget: the program of the lowest peak, not kDoesNotFit
  bool curve = false;               // weigh all candidates, also where the fastest fits: for reports
};

struct Compiled {
  program::ProgramT program;
  std::map<std::string, WeightSource> weights;    // parameters and buffers, by storage name; may be empty
  std::map<std::string, WeightSource> constants;
  std::vector<std::string> warnings;
  std::vector<PassTiming> timings;                // phases and passes, in order
  std::vector<PlanPoint> curve;                   // the candidates weighed, by falling peak; one is marked as chosen
  codegen::StepCost cost;                         // estimated time, FLOPs and traffic of a rank's step
};

// The export as a graph, and everything after it but writing: one import serves many lengths and rank counts.
Result<import::Model> ImportModel(const CompileOptions& options);
Result<Compiled> CompileModel(const import::Model& model, const CompileOptions& options);

// Everything but writing. Errors as of import, the passes, differentiation and lowering; exit codes in Error::code.
Result<Compiled> Compile(const CompileOptions& options);

// Writes the package (see runtime/package/oci.h): kUsage where `path` exists and force is not set.
Status WriteCompiled(const Compiled& compiled, const std::string& path, bool force);

}  // namespace autospc
