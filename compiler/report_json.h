// The figures as the page's script reads them.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <vector>

#include "compiler/report_data.h"

namespace autospc::report {

// Bounds of the page's size: some 60 bytes a sample and 50 a rectangle.
inline constexpr size_t kMaxSamples = 16384;
inline constexpr size_t kMaxRectangles = 40000;

// {instructions, groups, persistent [7], arena, budget, peak, strings,
//  samples: {begin, at, op, source, phase, bytes: [7 lists]}   begin and bytes as differences, at relative to begin,
//  map: {group, bytes, offset, first, length, name, source}    first as differences, length = last - first + 1,
//  curve: [{label, peak, seconds, again, chosen, rule, best}]}
// Arena bytes and offsets are in units of 64 bytes, ops and sources indices into strings.
nlohmann::json Data(const program::ProgramT& program, const std::vector<PlanPoint>& curve, int64_t budget,
                    const Memory& memory, const ArenaMap& map);

}  // namespace autospc::report
