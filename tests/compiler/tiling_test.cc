// Tiled programs against one device in float64: random graphs with all tiled that can be, and real exports.
// AUTOSPC_RANDOM_GRAPHS=N runs N graphs, AUTOSPC_RANDOM_SEED=S the one of seed S.
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "compiler/autodiff/bridge.h"
#include "compiler/import/import.h"
#include "passes/ir/printer.h"
#include "passes/ir/verifier.h"
#include "passes/tile/accumulate.h"
#include "passes/tile/hoist.h"
#include "passes/tile/tile.h"
#include "runtime/package/golden.h"
#include "runtime/package/safetensors.h"
#include "tests/compiler/faults.h"
#include "tests/compiler/random_graph.h"
#include "tests/compiler/random_ops.h"
#include "tests/compiler/run_ranks.h"

namespace autospc::testing {
namespace {

// Tiles of `rows(region)` rows in every region of a partitioned graph; how many regions.
int TileAll(ir::Graph& graph, int ranks, bool narrow, const std::function<int64_t(const tile::Region&)>& rows) {
  tile::HoistRowSelections(graph);
  tile::TileChoice choice;
  for (const tile::Region& region : tile::FindRegions(graph, narrow)) choice.push_back({region, rows(region)});
  PassContext context;
  context.ranks = ranks;
  const auto changed = tile::Tile(graph, context, choice);
  EXPECT_TRUE(changed.ok() && *changed == !choice.empty());
  for (const std::string& violation : ir::Verify(graph)) ADD_FAILURE() << violation;
  for (const std::string& violation : ir::VerifyPlacements(graph)) ADD_FAILURE() << violation;
  return static_cast<int>(choice.size());
}

TEST(Tiling, RandomGraphsTiledEqualTheWholeOnes) {
  int graphs = 0, tiled = 0, taken = 0;
  double worst = 0;
  const int64_t only = Environment("AUTOSPC_RANDOM_SEED", -1), count = Environment("AUTOSPC_RANDOM_GRAPHS", 120);
  for (int64_t seed = only < 0 ? 0 : only; seed < (only < 0 ? count : only + 1); ++seed) {
    std::mt19937_64 random(static_cast<uint64_t>(seed) + 7);
    RandomGraph graph(static_cast<uint64_t>(seed), 3 + static_cast<int>(random() % 9));
    Case c;
    c.graph = graph.builder().graph;
    c.stored = graph.builder().parameters;
    c.inputs = graph.builder().inputs;
    c.loss = graph.builder().loss();
    c.gradients = graph.builder().Gradients();
    const int ranks = 1 + static_cast<int>(random() % 4);
    const std::string what = fmt::format("seed {}, P = {}: {}", seed, ranks, graph.story());
    int regions = 0;
    CompileHooks hooks;
    hooks.joint = [&](ir::Graph& g) { taken += tile::AccumulateProducts(g); };
    hooks.partitioned = [&](ir::Graph& g) {
      regions = TileAll(g, ranks, true,
                        [&](const tile::Region& r) { return 1 + static_cast<int64_t>(random() % (r.block - 1)); });
    };
    auto compiled = CompileGraph(c.graph, ranks, random() % 2 ? "ulysses" : "allgather-kv", hooks);
    ASSERT_TRUE(compiled.ok()) << what << "\n" << compiled.error().Format() << "\n" << ir::Print(c.graph);
    const auto results = RunRanks(compiled->program, c.stored, c.inputs);
    ASSERT_TRUE(results.ok()) << what << "\n" << results.error().Format();
    const double error = WorstError(c, *results);
    // float64 on both sides; gradients below 1e-4 of the whole count absolutely, as in golden files.
    EXPECT_LE(error, 1e-10) << what << "\n" << ir::Print(c.graph);
    worst = std::max(worst, error);
    ++graphs;
    tiled += regions > 0;
  }
  fmt::print("{} graphs, {} tiled, {} products added in place; worst error {:.1e}\n", graphs, tiled, taken, worst);
  if (only < 0 && count >= 100) {
    EXPECT_GT(tiled * 2, graphs);
    EXPECT_GT(taken, graphs);
  }
}

// A real export, its weights and its golden batch.
struct Export {
  std::string pt2, golden;
  int64_t length = 0, batch = 0;  // batch 0: the export's own
};
void PrintTo(const Export& e, std::ostream* out) { *out << std::filesystem::path(e.golden).stem().string(); }

std::vector<Export> Exports() {
  std::vector<Export> exports;
  const std::filesystem::path root = AUTOSPC_SOURCE_DIR;
  const auto add = [&](const std::filesystem::path& folder, const std::string& name, const std::string& golden,
                       int64_t length, int64_t batch = 0) {
    exports.push_back({(folder / name / (name + ".pt2")).string(),
                       (folder / name / (name + ".golden_" + golden + ".safetensors")).string(), length, batch});
  };
  for (const std::string name : {"encoder", "gpt", "llama", "padded", "shifted", "window"})
    add(root / "models", name, "s61", 61);
  add(root / "models", "batched", "s61", 61, 1);
  add(root / "models", "encoder", "s3", 3);
  add(root / "models", "llama", "s61_few_labels", 61);  // a shard has no valid label
  for (const std::string name :
       {"nanogpt", "llamastyle", "hf_llama", "hf_qwen3", "hf_mistral", "hf_gemma3", "hf_gpt2", "hf_bert"}) {
    add(root / "../shared/zoo", name, "s61", 61);
  }
  return exports;
}

at::Tensor TensorOf(program::DType dtype, const std::vector<int64_t>& sizes, const void* data) {
  const at::Tensor t =
      at::empty(sizes, at::TensorOptions().dtype(autodiff::ToScalarType(static_cast<ir::DType>(dtype))));
  std::memcpy(t.mutable_data_ptr(), data, static_cast<size_t>(t.nbytes()));
  return t;
}

class TiledExport : public ::testing::TestWithParam<Export> {};

// At level 2, and with all that can be tiled in tiles of 5 rows: every gradient within 1e-5 of float64.
TEST_P(TiledExport, MatchesItsGolden) {
  const Export& e = GetParam();
  if (!std::filesystem::exists(e.golden)) GTEST_SKIP() << "no zoo here";
  const GoldenFile golden = OrThrow(GoldenFile::Open(e.golden));
  import::Model model = OrThrow(import::ImportPt2(e.pt2));
  import::Bindings bindings;
  bindings.seq_len = e.length;
  if (e.batch > 0) bindings.batch = e.batch;
  OrThrow(import::BindSizes(&model, bindings));
  Tensors stored, inputs;
  for (const auto& [name, source] : model.weights) {
    const std::vector<uint8_t> bytes = OrThrow(import::ReadWeight(source));
    stored[name] = TensorOf(source.dtype, source.sizes, bytes.data());
  }
  for (const GoldenTensor& t : golden.inputs()) inputs[t.name] = TensorOf(t.dtype, t.sizes, t.data);
  CompileHooks hooks;
  hooks.constants = [&](const std::string& name) -> Result<std::vector<uint8_t>> {
    const auto it = model.weights.find(name);
    if (it == model.weights.end()) return Error{Code::kBadInput, "no data", name, ""};
    return import::ReadWeight(it->second);
  };
  hooks.joint = [](ir::Graph& g) { tile::AccumulateProducts(g); };
  int regions = 0;
  for (const int ranks : {1, 2, 3}) {
    for (const bool all : {false, true}) {
      hooks.partitioned = [&](ir::Graph& g) {
        const auto rows = [&](const tile::Region& r) {
          return all ? std::min<int64_t>(5, r.block - 1) : tile::ChooseTiles({r}, 2).at(0).rows;
        };
        regions += TileAll(g, ranks, all, rows);
      };
      auto compiled = CompileGraph(model.graph, ranks, ranks == 3 ? "allgather-kv" : "ulysses", hooks);
      ASSERT_TRUE(compiled.ok()) << compiled.error().Format();
      for (const auto& [alias, name] : model.ties) {
        compiled->program.aliases.push_back(alias);
        compiled->program.aliases.push_back(name);
      }
      const auto results = RunRanks(compiled->program, stored, inputs);
      ASSERT_TRUE(results.ok()) << results.error().Format();
      for (const RankResult& rank : *results) {
        std::vector<ComputedGradient> gradients;
        for (const auto& [name, g] : rank.gradients) {
          gradients.push_back({name, static_cast<program::DType>(OrThrow(autodiff::ToDType(g.scalar_type()))),
                               g.sizes().vec(), g.strides().vec(), g.const_data_ptr()});
        }
        const GoldenComparison compared =
            OrThrow(CompareWithGolden(golden, rank.loss, gradients, compiled->program, 1e-5));
        EXPECT_TRUE(compared.passed()) << "P = " << ranks << (all ? ", tiles of 5 rows\n" : ", level 2\n")
                                       << compared.Table();
      }
    }
  }
  EXPECT_GE(regions, 1);
}

INSTANTIATE_TEST_SUITE_P(Models, TiledExport, ::testing::ValuesIn(Exports()), [](const auto& info) {
  std::string name = std::filesystem::path(info.param.golden).stem().string();
  for (char& c : name) c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  return name;
});

}  // namespace
}  // namespace autospc::testing
