// The scores that define winners (bmu.h), of pairs and of rows with all codes, for searches on the CPU that know how
// little there is to decide.
#pragma once
#include <cstdint>

#include "dtypes.h"

namespace somvae {

// The codes that are searched: some of a codebook's panels of 16 (cpu/codebook_panels.h).
template <class T>
struct SearchedCodes {
  const T* codebook;  // [count, dim]
  int64_t count, dim;
  int64_t first_panel, last_panel;
};

// score[i] of the row at rows[i] and the code at codes[i], for i in [0, count).
template <class T>
void pair_scores_cpu(const T* const* rows, const T* const* codes, int64_t count, int64_t dim, double* score);

// The best k of all codes for the rows at rows[0, count): score and index [count, k].
template <class T>
void exact_search_cpu(const SearchedCodes<T>& codes, const T* const* rows, int64_t count, int k, double* score,
                      int64_t* index);

}  // namespace somvae
