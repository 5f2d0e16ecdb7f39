#include "compiler/inspect.h"

#include <filesystem>

#include "compiler/import/import.h"
#include "runtime/package/oci.h"

namespace autospc {

Result<std::string> InspectPackage(const std::string& path, bool json) {
  ASSIGN_OR_RETURN(const Package package, Package::Open(path));
  return DescribePackage(package, json);
}

Result<std::string> Inspect(const std::string& path, bool json) {
  std::error_code error;
  if (!std::filesystem::exists(path, error))
    return Error{Code::kBadInput, "no such file or folder", path, "autospc inspect PACKAGE|MODEL.pt2"};
  if (std::filesystem::is_directory(path, error)) return InspectPackage(path, json);
  ASSIGN_OR_RETURN(const import::Model model, import::ImportPt2(path));
  return DescribeModel(model, json);
}

}  // namespace autospc
