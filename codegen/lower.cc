#include "codegen/lower.h"

#include <map>
#include <set>
#include <utility>

#include "codegen/check_program.h"
#include "codegen/collectives.h"
#include "codegen/flops.h"
#include "passes/ir/micro_batches.h"
#include "passes/memory/plan.h"
#include "runtime/base/predicate.h"
#include "runtime/package/oci.h"

namespace autospc::codegen {
namespace {

using ir::Arg;
using ir::Graph;
using ir::GraphInput;
using ir::GraphOutput;
using ir::kNoValue;
using ir::Node;
using ir::Value;
using ir::ValueId;

static_assert(static_cast<int>(ir::DType::kComplex128) == static_cast<int>(program::DType::Complex128));
static_assert(static_cast<int>(memory::StorageKind::kCommunication) == static_cast<int>(program::StorageKind::Communication));

bool IsScalar(const GraphInput& input) {
  return input.kind == ir::InputKind::kState && (input.name == "lr" || input.name == "step");
}

program::ArgKind KindOf(Arg::Kind kind) {
  switch (kind) {
    case Arg::Kind::kNone: return program::ArgKind::None;
    case Arg::Kind::kValue: return program::ArgKind::Tensor;
    case Arg::Kind::kValueList: return program::ArgKind::TensorList;
    case Arg::Kind::kInt: return program::ArgKind::Int;
    case Arg::Kind::kIntList: return program::ArgKind::IntList;
    case Arg::Kind::kFloat: return program::ArgKind::Float;
    case Arg::Kind::kFloatList: return program::ArgKind::FloatList;
    case Arg::Kind::kBool: return program::ArgKind::Bool;
    case Arg::Kind::kBoolList: return program::ArgKind::BoolList;
    case Arg::Kind::kString: return program::ArgKind::String;
    case Arg::Kind::kDType: return program::ArgKind::DType;
    case Arg::Kind::kLayout: return program::ArgKind::Layout;
    case Arg::Kind::kDevice: return program::ArgKind::Device;
    case Arg::Kind::kMemoryFormat: return program::ArgKind::MemoryFormat;
  }
  return program::ArgKind::None;
}

program::OutputKind KindOf(const Graph& graph, const GraphOutput& output) {
  switch (output.kind) {
    case ir::OutputKind::kLoss: return program::OutputKind::Loss;
    case ir::OutputKind::kGradient: return program::OutputKind::Gradient;
    case ir::OutputKind::kBufferUpdate: return program::OutputKind::BufferUpdate;
    case ir::OutputKind::kParameterUpdate: return program::OutputKind::ParameterUpdate;
    case ir::OutputKind::kStateUpdate: return program::OutputKind::StateUpdate;
    case ir::OutputKind::kUser: break;
  }
  const Node* producer = graph.producer(output.value);
  return producer != nullptr && producer->op == "autosp.grad_norm" ? program::OutputKind::GradNorm
                                                                   : program::OutputKind::User;
}

class Lowering {
 public:
  Lowering(const Graph& graph, const PassContext& context, const LowerOptions& options)
      : graph_(graph), context_(context), options_(options), flops_(options.mesh) {}

  Result<program::ProgramT> Run() {
    if (options_.plan) {
      plan_ = *options_.plan;
    } else {
      ASSIGN_OR_RETURN(plan_, memory::PlanMemory(graph_, KernelTraits(options_.mesh, options_.has_out, options_.device)));
    }
    tensor_of_.assign(graph_.num_values(), -1);
    Header();
    Storages();
    Inputs();
    for (size_t i = 0; i < plan_.instructions.size(); ++i) {
      RETURN_IF_ERROR(Instruction(static_cast<int>(i)));
    }
    Outputs();
    Notes();
    const std::vector<std::string> violations = CheckProgram(program_);
    if (!violations.empty()) {
      return Error{Code::kFailed, fmt::format("the program breaks {} rules: {}", violations.size(), violations[0]),
                   graph_.name, "this is a bug of the compiler; please report it with the graph"};
    }
    return std::move(program_);
  }

 private:
  void Header() {
    program_.format_version = kFormatVersion;
    program_.name = graph_.name;
    program_.world_size = options_.mesh.ranks();
    program_.dp = options_.mesh.dp;
    program_.seq_len = options_.seq_len;
    program_.batch = options_.batch;
    program_.strategy = context_.strategy;
    program_.optimizer = context_.optimizer;
    program_.device = options_.device;
    program_.arena_bytes = plan_.arena_bytes;
    program_.compiler = options_.compiler;
    program_.options = options_.options;
  }

  void Storages() {
    std::map<ValueId, const GraphInput*> inputs;
    for (const GraphInput& in : graph_.inputs) inputs.emplace(in.value, &in);
    for (const memory::Storage& s : plan_.storages) {
      auto storage = std::make_unique<program::StorageT>();
      storage->kind = static_cast<program::StorageKind>(s.kind);
      storage->bytes = s.bytes;
      storage->arena_offset = s.offset;
      storage->first = s.first;
      storage->last = s.last;
      if (s.node != ir::kNoNode) storage->source = graph_.node(s.node).source;
      if (s.value == kNoValue) {
        storage->name = graph_.node(s.node).op;
      } else if (const auto in = inputs.find(s.value); in != inputs.end()) {
        storage->name = in->second->name;
      } else {
        storage->name = graph_.value(s.value).name;
      }
      program_.storages.push_back(std::move(storage));
    }
  }

  void Inputs() {
    for (const GraphInput& in : graph_.inputs) {
      const int tensor = Tensor(in.value);
      if (in.kind == ir::InputKind::kState) MarkBlock(in.value, tensor);
      if (in.kind == ir::InputKind::kUser) {
        auto input = std::make_unique<program::InputT>();
        input->name = in.name;
        input->tensor = tensor;
        input->seq_dim = in.seq_dim;
        program_.inputs.push_back(std::move(input));
      }
      if (IsScalar(in)) {
        auto scalar = std::make_unique<program::ScalarT>();
        scalar->name = in.name;
        scalar->tensor = tensor;
        program_.scalars.push_back(std::move(scalar));
      }
      if (!in.alias_of.empty()) {
        program_.aliases.push_back(in.name);
        program_.aliases.push_back(in.alias_of);
      }
      if (in.kind == ir::InputKind::kParameter && !in.requires_grad) program_.frozen.push_back(in.name);
    }
  }

  // The tensor of a value, made at its first use: views that no instruction reads leave no trace.
  int Tensor(ValueId v) {
    if (v == kNoValue) return -1;
    int& index = tensor_of_[v];
    if (index >= 0) return index;
    index = static_cast<int>(program_.tensors.size());
    const Value& value = graph_.value(v);
    TensorMeta meta = MetaOf(value);
    auto tensor = std::make_unique<program::TensorT>();
    tensor->dtype = meta.dtype;
    tensor->sizes = std::move(meta.sizes);
    tensor->strides = std::move(meta.strides);
    tensor->storage = plan_.locations[v].storage;
    tensor->byte_offset = plan_.locations[v].byte_offset;
    tensor->name = value.name;
    program_.tensors.push_back(std::move(tensor));
    return index;
  }

  // Whether the value is a rank's block of a flattened tensor (ZeRO); the tensor then says of how many elements.
  bool MarkBlock(ValueId v, int tensor) {
    const ir::Value& value = graph_.value(v);
    const ir::Placement& placement = value.placement.is_sharded() ? value.placement : value.dp_placement;
    if (placement.is_sharded()) program_.tensors[tensor]->block_of = placement.valid;
    return placement.is_sharded();
  }

  std::vector<int64_t> SizesOf(const std::string& parameter) const {
    for (const GraphInput& in : graph_.inputs) {
      if (in.kind == ir::InputKind::kParameter && in.name == parameter) return graph_.value(in.value).int_sizes();
    }
    return {};
  }

  Result<std::unique_ptr<program::ArgT>> LowerArg(const Arg& a, const Node& node) {
    auto arg = std::make_unique<program::ArgT>();
    arg->kind = KindOf(a.kind);
    switch (a.kind) {
      case Arg::Kind::kNone: break;
      case Arg::Kind::kValue: arg->tensor = Tensor(a.value); break;
      case Arg::Kind::kValueList:
        for (ValueId v : a.values) arg->ints.push_back(Tensor(v));
        break;
      case Arg::Kind::kInt:
        if (!a.i.is_const()) return Symbolic(a.i, node);
        arg->i = a.i.value();
        break;
      case Arg::Kind::kIntList:
        for (const ir::Expr& e : a.ints) {
          if (!e.is_const()) return Symbolic(e, node);
          arg->ints.push_back(e.value());
        }
        break;
      case Arg::Kind::kFloat: arg->f = a.f; break;
      case Arg::Kind::kFloatList: arg->floats = a.floats; break;
      case Arg::Kind::kBool: arg->b = a.b; break;
      case Arg::Kind::kBoolList: arg->ints.assign(a.bools.begin(), a.bools.end()); break;
      case Arg::Kind::kString: case Arg::Kind::kLayout: case Arg::Kind::kDevice: case Arg::Kind::kMemoryFormat:
        arg->s = a.s;
        break;
      case Arg::Kind::kDType: arg->dtype = static_cast<program::DType>(a.dtype); break;
    }
    return arg;
  }

  static Error Symbolic(const ir::Expr& e, const Node& node) {
    return Error{Code::kFailed, fmt::format("{} has the symbolic argument {}", node.op, e.ToString()), node.source,
                 "bind all sizes before lowering"};
  }

  static Status CheckPredicate(const Node& node) {
    const size_t at = node.op == "autosp.attention" ? 4 : node.op == "autosp.attention_backward" ? 7 : 0;
    if (at == 0) return Ok();
    const Result<Predicate> predicate = Predicate::Parse(node.args.size() > at ? node.args[at].s : "");
    if (predicate.ok()) return Ok();
    Error error = predicate.error();
    error.where = error.where.empty() || node.source.empty() ? node.source + error.where
                                                             : fmt::format("{}, {}", node.source, error.where);
    return error;
  }

  Status Instruction(int index) {
    const Node& node = graph_.node(plan_.instructions[index]);
    RETURN_IF_ERROR(CheckPredicate(node));
    auto instruction = std::make_unique<program::InstructionT>();
    instruction->op = node.op;
    for (const Arg& a : node.args) {
      ASSIGN_OR_RETURN(std::unique_ptr<program::ArgT> arg, LowerArg(a, node));
      instruction->args.push_back(std::move(arg));
    }
    if (!ir::IsEffectful(node.op)) {
      for (ValueId v : node.results) instruction->outputs.push_back(Tensor(v));
    }
    instruction->workspace = plan_.scratch_of[node.id];
    instruction->source = Source(node.source);
    instruction->phase = static_cast<uint8_t>(node.phase);
    program_.instructions.push_back(std::move(instruction));
    program_.flops += times_ * flops_.Count(graph_, node);
    times_ = ir::TimesBehind(node, times_);
    if (const auto sent = BytesSent(graph_, node, options_.mesh)) {
      auto collective = std::make_unique<program::CollectiveT>();
      collective->instruction = index;
      collective->op = node.op;
      collective->bytes = *sent;
      collective->why = Why(node);
      collective->axis = Name(ir::AxisOf(node));
      program_.collectives.push_back(std::move(collective));
    }
    return Ok();
  }

  static std::string Why(const Node& node) {
    if (node.op == "autosp.all_reduce_" || node.op == "autosp.all_reduce_coalesced_" ||
        node.op == "autosp.reduce_scatter_coalesced") {
      return "gradients";
    }
    if (node.op == "autosp.all_gather_coalesced_") return "updated parameters";
    const char* phase = node.phase == ir::Phase::kForward ? "forward" : node.phase == ir::Phase::kBackward ? "backward" : "step";
    return node.module.empty() ? phase : fmt::format("{} of {}", phase, node.module);
  }

  int Source(const std::string& source) {
    if (source.empty()) return -1;
    const auto [it, added] = sources_.emplace(source, static_cast<int>(program_.sources.size()));
    if (added) program_.sources.push_back(source);
    return it->second;
  }

  void Outputs() {
    for (size_t i = 0; i < graph_.outputs.size(); ++i) {
      const GraphOutput& out = graph_.outputs[i];
      if (out.value == kNoValue) continue;
      auto output = std::make_unique<program::OutputT>();
      output->kind = KindOf(graph_, out);
      output->name = out.name;
      output->tensor = Tensor(out.value);
      if (out.kind == ir::OutputKind::kGradient && MarkBlock(out.value, output->tensor)) output->sizes = SizesOf(out.name);
      output->after = plan_.output_after[i];
      program_.outputs.push_back(std::move(output));
    }
  }

  void Notes() {
    for (const Note& n : context_.notes) {
      auto note = std::make_unique<program::NoteT>();
      note->what = n.what;
      note->why = n.why;
      note->source = n.source;
      note->bytes = n.bytes;
      note->flops = n.flops;
      program_.notes.push_back(std::move(note));
    }
  }

  const Graph& graph_;
  const PassContext& context_;
  const LowerOptions& options_;
  memory::MemoryPlan plan_;
  FlopCounter flops_;
  int times_ = 1;  // that the next instruction runs in a step
  program::ProgramT program_;
  std::vector<int> tensor_of_;         // by value id
  std::map<std::string, int> sources_;
};

}  // namespace

Result<program::ProgramT> Lower(const Graph& graph, const PassContext& context, const LowerOptions& options) {
  const Mesh& mesh = options.mesh;
  if (mesh.sp < 1 || mesh.dp < 1) return Error{Code::kUsage, fmt::format("a mesh of dp {} and sp {}", mesh.dp, mesh.sp), "", "give at least 1"};
  return Lowering(graph, context, options).Run();
}

}  // namespace autospc::codegen
