#include "compiler/import/archive.h"

#include <array>
#include <nlohmann/json.hpp>

#include "runtime/base/json_text.h"
#include "runtime/package/dtype.h"

namespace autospc::import {
namespace {

using nlohmann::json;

constexpr std::string_view kModel = "/models/model.json";

Error Bad(const std::string& path, std::string what,
          std::string hint = "export the model again with torch.export.save") {
  return {Code::kBadInput, std::move(what), path, std::move(hint)};
}

Result<std::string> FindRoot(const ZipDirectory& zip) {
  std::string root, other;
  for (const auto& [name, member] : zip.members()) {
    if (name.ends_with(kModel)) {
      if (!root.empty())
        return Bad(zip.path(),
                   fmt::format("the archive holds two models: '{}' and '{}'", root + std::string(kModel), name));
      root = name.substr(0, name.size() - kModel.size());
    } else if (name.find("/models/") != name.npos && name.ends_with(".json")) {
      other = name;
    }
  }
  if (!root.empty()) return root;
  if (!other.empty())
    return Bad(zip.path(), fmt::format("the archive has no models/model.json, only '{}'", other),
               "save one model named 'model', as torch.export.save does");
  if (zip.members().contains("version") || zip.Find("data.pkl")) {
    return Bad(zip.path(), "this is a torch.save or older torch.export file, not a .pt2 archive",
               "export with torch 2.9 or later and torch.export.save");
  }
  for (const auto& [name, member] : zip.members()) {
    if (name.ends_with("/data.pkl")) {
      return Bad(zip.path(), "this is a torch.save or TorchScript file, not a .pt2 archive",
                 "save the result of torch.export.export with torch.export.save");
    }
  }
  return Bad(zip.path(), "the archive has no models/model.json", "give a file written by torch.export.save");
}

int64_t ConcreteInt(const json& v) { return Integer(v.at("as_int")); }

// Elements from the first to the last of a strided view, so what it reads; -1 for an overflow or a negative entry.
int64_t Span(const std::vector<int64_t>& sizes, const std::vector<int64_t>& strides) {
  if (sizes.size() != strides.size()) return -1;
  int64_t last = 0;
  bool empty = false;
  for (size_t i = 0; i < sizes.size(); ++i) {
    int64_t step = 0;
    if (sizes[i] < 0 || strides[i] < 0) return -1;
    if (sizes[i] == 0)
      empty = true;
    else if (__builtin_mul_overflow(sizes[i] - 1, strides[i], &step) || __builtin_add_overflow(last, step, &last))
      return -1;
  }
  return empty ? 0 : last + 1;
}

Result<Payload> ReadPayload(const ZipDirectory& zip, const std::string& folder, const std::string& name,
                            const json& entry) {
  const std::string member_name = folder + entry.at("path_name").get<std::string>();
  if (entry.at("use_pickle").get<bool>()) {
    return Bad(zip.path(), fmt::format("'{}' is pickled (a tensor subclass), which can't be read", name),
               "convert it to a plain torch.Tensor before exporting");
  }
  if (!entry.contains("tensor_meta") || entry.at("tensor_meta").is_null()) {
    return Bad(zip.path(), fmt::format("'{}' is no tensor", name), "export a model without script objects");
  }
  const json& meta = entry.at("tensor_meta");
  Payload p;
  const auto known = ExportDType(Integer(meta.at("dtype")));
  if (!known.ok()) {
    Error e = known.error();
    e.where = fmt::format("'{}' in {}", name, zip.path());
    return e;
  }
  const ir::DType dtype = *known;
  p.member = member_name.substr(member_name.find('/') + 1);
  p.source.name = name;
  p.source.dtype = ToProgram(dtype);
  p.source.file = zip.path();
  for (const json& v : meta.at("sizes")) p.source.sizes.push_back(ConcreteInt(v));
  for (const json& v : meta.at("strides")) p.source.strides.push_back(ConcreteInt(v));
  p.requires_grad = meta.at("requires_grad").get<bool>();
  const int64_t span = Span(p.source.sizes, p.source.strides);
  p.storage_offset = ConcreteInt(meta.at("storage_offset"));
  int64_t skip = 0, needed = 0;
  const std::optional<int64_t> numel = CheckedNumel(p.source.sizes);
  int64_t all = 0;
  if (span < 0 || p.storage_offset < 0 || !numel || __builtin_mul_overflow(*numel, ir::ByteSize(dtype), &all) || __builtin_mul_overflow(p.storage_offset, ir::ByteSize(dtype), &skip) ||
      __builtin_mul_overflow(span, ir::ByteSize(dtype), &needed) || __builtin_add_overflow(needed, skip, &needed)) {
    return Bad(zip.path(), fmt::format("'{}' has impossible sizes, strides or offset", name));
  }
  const ZipMember* member = zip.Find(member_name);
  if (!member)
    return Bad(zip.path(), fmt::format("the data of '{}' is missing: there is no member '{}'", name, member_name));
  if (member->bytes == 0) {  // exported under FakeTensorMode
    p.has_data = span == 0;
    return p;
  }
  if (member->bytes < needed) {
    return Bad(
        zip.path(),
        fmt::format("'{}' needs {} bytes for its shape, and '{}' holds {}", name, needed, member_name, member->bytes),
        "copy or export the file again");
  }
  p.has_data = true;
  p.source.offset = member->offset + skip;
  p.source.bytes = member->bytes - skip;
  return p;
}

Status ReadConfig(const ZipDirectory& zip, const std::string& folder, const std::string& config_name,
                  std::map<std::string, Payload>* out) {
  const std::string member = folder + config_name;
  if (!zip.Find(member)) return Ok();
  ASSIGN_OR_RETURN(const std::string text, zip.Read(member));
  RETURN_IF_ERROR(CheckJsonDepth(text, member + " in " + zip.path()));
  std::string at;
  try {
    const json config = json::parse(text);
    for (const auto& [name, entry] : config.at("config").items()) {
      at = name;
      ASSIGN_OR_RETURN(Payload p, ReadPayload(zip, folder, name, entry));
      out->emplace(name, std::move(p));
    }
  } catch (const json::exception& e) {
    return Bad(zip.path(), fmt::format("'{}' is broken{}: {}", member, at.empty() ? "" : " at '" + at + "'", e.what()));
  }
  return Ok();
}

}  // namespace

int64_t Integer(const json& value) {
  if (!value.is_number_integer() || (value.is_number_unsigned() && value.get<uint64_t>() > INT64_MAX))
    throw json::type_error::create(302, "type must be a 64-bit integer", &value);
  return value.get<int64_t>();
}

Result<ir::DType> ExportDType(int64_t code) {
  using D = ir::DType;
  switch (code) {
    case 1:
      return D::kUInt8;
    case 2:
      return D::kInt8;
    case 3:
      return D::kInt16;
    case 4:
      return D::kInt32;
    case 5:
      return D::kInt64;
    case 6:
      return D::kFloat16;
    case 7:
      return D::kFloat32;
    case 8:
      return D::kFloat64;
    case 10:
      return D::kComplex64;
    case 11:
      return D::kComplex128;
    case 12:
      return D::kBool;
    case 13:
      return D::kBFloat16;
    default:
      break;
  }
  constexpr std::array<std::pair<int64_t, std::string_view>, 6> kOthers = {{{9, "complex32"},
                                                                            {28, "uint16"},
                                                                            {29, "float8_e4m3fn"},
                                                                            {30, "float8_e5m2"},
                                                                            {31, "float8_e4m3fnuz"},
                                                                            {32, "float8_e5m2fnuz"}}};
  for (const auto& [other, name] : kOthers) {
    if (other == code)
      return Error{Code::kUnsupported, fmt::format("element type {} is not supported", name), "",
                   "convert the tensor before exporting"};
  }
  return Error{Code::kBadInput, fmt::format("{} is no element type of a .pt2 file", code), "", ""};
}

program::DType ToProgram(ir::DType dtype) { return static_cast<program::DType>(dtype); }

Result<Archive> OpenArchive(const std::string& path) {
  Archive archive;
  ASSIGN_OR_RETURN(archive.zip, ZipDirectory::Open(path));
  ASSIGN_OR_RETURN(archive.root, FindRoot(archive.zip));
  ASSIGN_OR_RETURN(archive.model_json, archive.zip.Read(archive.root + std::string(kModel)));
  RETURN_IF_ERROR(
      ReadConfig(archive.zip, archive.root + "/data/weights/", "model_weights_config.json", &archive.weights));
  RETURN_IF_ERROR(
      ReadConfig(archive.zip, archive.root + "/data/constants/", "model_constants_config.json", &archive.constants));
  return archive;
}

}  // namespace autospc::import
