#include "simd/avxvnni/support.h"

namespace larder::simd::avxvnni {

Table make_table(const Table& avx2) noexcept {
  Table table = avx2;
  table.name = "avxvnni";
  table.run_scores_codes = run_scores_codes;
  table.run_accumulate_codes = run_accumulate_codes;
  table.run_scores_bytes = run_scores_bytes;
  table.run_accumulate_bytes = run_accumulate_bytes;
  return table;
}

}  // namespace larder::simd::avxvnni
