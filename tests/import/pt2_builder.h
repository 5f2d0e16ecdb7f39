// Small .pt2 files made by hand, so that each way in which one can be broken has a test.
#pragma once

#include <boost/crc.hpp>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "compiler/import/import.h"

namespace autospc::import::testing {

using nlohmann::json;

// A folder that is gone with its owner.
class TempFolder {
 public:
  TempFolder() {
    std::string path = (std::filesystem::temp_directory_path() / "autospc-import-XXXXXX").string();
    path_ = mkdtemp(path.data());
  }
  ~TempFolder() { std::filesystem::remove_all(path_); }
  TempFolder(const TempFolder&) = delete;
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

inline void WriteFile(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

// A zip archive of stored members. `method` and `flags` stand in every header, to break it.
inline std::string Zip(const std::vector<std::pair<std::string, std::string>>& members, int method = 0, int flags = 0) {
  std::string out, directory;
  const auto put = [](std::string* to, uint64_t value, int bytes) {
    for (int i = 0; i < bytes; ++i) to->push_back(i < 8 ? static_cast<char>(value >> (8 * i)) : 0);
  };
  for (const auto& [name, data] : members) {
    boost::crc_32_type crc;
    crc.process_bytes(data.data(), data.size());
    const size_t start = out.size();
    for (std::string* to : {&out, &directory}) {
      put(to, to == &out ? 0x04034b50 : 0x02014b50, 4);
      if (to == &directory) put(to, 0, 2);
      put(to, 0, 2);
      put(to, flags, 2);
      put(to, method, 2);
      put(to, 0, 4);
      put(to, crc.checksum(), 4);
      put(to, data.size(), 4);
      put(to, data.size(), 4);
      put(to, name.size(), 2);
      put(to, 0, 2);
      if (to == &directory) {
        put(to, 0, 10);
        put(to, start, 4);
      }
      *to += name;
    }
    out += data;
  }
  const size_t at = out.size();
  out += directory;
  put(&out, 0x06054b50, 4);
  put(&out, 0, 4);
  put(&out, members.size(), 2);
  put(&out, members.size(), 2);
  put(&out, directory.size(), 4);
  put(&out, at, 4);
  put(&out, 0, 2);
  return out;
}

// Sizes: an int, or the srepr of an expression.
inline json Size(const json& size) {
  return size.is_string() ? json{{"as_expr", {{"expr_str", size}}}} : json{{"as_int", size}};
}
inline const std::string kS = "Symbol('s0', positive=True, integer=True)";
inline const std::string kB = "Symbol('s1', positive=True, integer=True)";

constexpr int kInt64 = 5, kFloat16 = 6, kFloat32 = 7, kFloat64 = 8, kBool = 12, kBFloat16 = 13;

// Contiguous where all sizes are numbers; a symbolic one makes the strides before it 1, which nothing here reads.
inline json Meta(const std::vector<json>& sizes, int dtype = kFloat32, const std::string& device = "cpu",
                 bool requires_grad = false) {
  json meta = {{"dtype", dtype},
               {"sizes", json::array()},
               {"strides", json::array()},
               {"requires_grad", requires_grad},
               {"device", {{"type", device}, {"index", nullptr}}},
               {"storage_offset", {{"as_int", 0}}},
               {"layout", 7}};
  int64_t stride = 1;
  std::vector<json> strides;
  for (size_t i = sizes.size(); i-- > 0;) {
    strides.insert(strides.begin(), Size(stride));
    stride = sizes[i].is_string() ? 1 : stride * std::max<int64_t>(sizes[i].get<int64_t>(), 1);
  }
  for (const json& s : sizes) meta["sizes"].push_back(Size(s));
  for (json& s : strides) meta["strides"].push_back(s);
  return meta;
}

inline json T(const std::string& name) { return {{"as_tensor", {{"name", name}}}}; }
inline json In(const std::string& name, json arg) { return {{"name", name}, {"arg", std::move(arg)}, {"kind", 1}}; }

inline json MakeNode(const std::string& op, const std::vector<json>& inputs, const std::vector<json>& outputs,
                     const std::string& name = "") {
  const std::string label = !name.empty() ? name
                            : !outputs.empty() && outputs[0].contains("as_tensor")
                                ? outputs[0]["as_tensor"]["name"].get<std::string>()
                                : op;
  return {{"target", "torch.ops." + op},
          {"inputs", inputs},
          {"outputs", outputs},
          {"name", label},
          {"metadata",
           {{"stack_trace",
             "  File \"model/net.py\", line 7, in forward\n    y = f(x)\n  File \"torch/nn/functional.py\", line 9, in "
             "f\n    return g(x)"},
            {"nn_module_stack", "L__self__,,Net;L__self__block,block,Block"}}}};
}

inline json MakeGraph() {
  return {{"inputs", json::array()},
          {"outputs", json::array()},
          {"nodes", json::array()},
          {"tensor_values", json::object()},
          {"sym_int_values", json::object()},
          {"sym_bool_values", json::object()},
          {"sym_float_values", json::object()},
          {"is_single_tensor_return", false},
          {"custom_obj_values", json::object()}};
}

// A model: inputs, nodes, outputs are added one by one.
class Pt2Builder {
 public:
  Pt2Builder() {
    program = {
        {"graph_module",
         {{"graph", MakeGraph()}, {"signature", {{"input_specs", json::array()}, {"output_specs", json::array()}}}}},
        {"opset_version", {{"aten", 10}}},
        {"range_constraints", json::object()},
        {"schema_version", {{"major", 8}, {"minor", 17}}},
        {"verifiers", {"TRAINING"}},
        {"torch_version", "2.11.0"},
        {"guards_code", json::array()}};
  }

  json& graph() { return program["graph_module"]["graph"]; }
  json& input_specs() { return program["graph_module"]["signature"]["input_specs"]; }
  json& output_specs() { return program["graph_module"]["signature"]["output_specs"]; }

  Pt2Builder& Input(const std::string& name, const json& meta, const json& spec) {
    graph()["inputs"].push_back(T(name));
    graph()["tensor_values"][name] = meta;
    input_specs().push_back(spec);
    return *this;
  }
  Pt2Builder& User(const std::string& name, const json& meta) {
    return Input(name, meta, {{"user_input", {{"arg", T(name)}}}});
  }
  // `data`: the member's bytes; the same member may hold several parameters.
  Pt2Builder& Parameter(const std::string& fqn, json meta, const std::string& member, int64_t offset = 0,
                        bool grad = true) {
    std::string placeholder = "p_" + fqn;
    std::replace(placeholder.begin(), placeholder.end(), '.', '_');
    meta["requires_grad"] = grad;
    Input(placeholder, meta, {{"parameter", {{"arg", {{"name", placeholder}}}, {"parameter_name", fqn}}}});
    meta["storage_offset"] = Size(offset);
    weights[fqn] = {{"path_name", member}, {"is_param", true}, {"use_pickle", false}, {"tensor_meta", meta}};
    return *this;
  }
  Pt2Builder& Buffer(const std::string& fqn, const json& meta, const std::string& member, bool persistent) {
    const std::string placeholder = "b_" + fqn;
    Input(placeholder, meta,
          {{"buffer", {{"arg", {{"name", placeholder}}}, {"buffer_name", fqn}, {"persistent", persistent}}}});
    (persistent ? weights : constants)[fqn] = {
        {"path_name", member}, {"is_param", false}, {"use_pickle", false}, {"tensor_meta", meta}};
    return *this;
  }
  Pt2Builder& Node(const std::string& op, const std::vector<json>& inputs, const std::string& result,
                   const json& meta) {
    graph()["nodes"].push_back(MakeNode(op, inputs, {T(result)}));
    graph()["tensor_values"][result] = meta;
    return *this;
  }
  Pt2Builder& Output(const std::string& name) {
    graph()["outputs"].push_back(T(name));
    output_specs().push_back({{"user_output", {{"arg", T(name)}}}});
    return *this;
  }
  Pt2Builder& Data(const std::string& path, const std::string& bytes) {
    members.emplace_back("m/data/" + path, bytes);
    return *this;
  }

  std::vector<std::pair<std::string, std::string>> Members() const {
    std::vector<std::pair<std::string, std::string>> all = members;
    all.emplace_back("m/models/model.json", program.dump());
    all.emplace_back("m/data/weights/model_weights_config.json", json{{"config", weights}}.dump());
    all.emplace_back("m/data/constants/model_constants_config.json", json{{"config", constants}}.dump());
    return all;
  }
  Result<Model> Import(const ImportOptions& options = {}) const {
    const TempFolder folder;
    WriteFile(folder / "m.pt2", Zip(Members()));
    return ImportPt2(folder / "m.pt2", options);
  }

  json program;
  json weights = json::object(), constants = json::object();
  std::vector<std::pair<std::string, std::string>> members;
};

// x [2, S] -> linear -> sum: the smallest model with a parameter and a dynamic sequence.
inline Pt2Builder SmallModel() {
  Pt2Builder b;
  b.program["range_constraints"]["s0"] = {{"min_val", 2}, {"max_val", 256}};
  b.Parameter("lin.weight", Meta({4, 4}), "weight_0").Data("weights/weight_0", std::string(64, '\1'));
  b.User("x", Meta({2, kS, 4}));
  b.Node("aten.linear.default", {In("input", T("x")), In("weight", T("p_lin_weight"))}, "linear", Meta({2, kS, 4}));
  b.Node("aten.sum.default", {In("self", T("linear"))}, "loss", Meta({}));
  b.Output("loss");
  return b;
}

}  // namespace autospc::import::testing
