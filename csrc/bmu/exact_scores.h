// Exact scores (bmu.h) on the CPU: of the few pairs of a row and a code that a fast first pass leaves, and of all codes
// for the few rows with too many such pairs.
#pragma once
#include <cstdint>

#include "dtypes.h"

namespace somvae {

// A codebook, and the range of its panels of 16 codes (cpu/codebook_panels.h) to search.
template <class T>
struct SearchedCodes {
  const T* codebook;  // [count, dim]
  int64_t count, dim;
  int64_t first_panel, last_panel;
};

// Computes score[i] of the row at rows[i] and the code at codes[i], for i in [0, count).
template <class T>
void pair_scores_cpu(const T* const* rows, const T* const* codes, int64_t count, int64_t dim, double* score);

// Finds the best k of these codes for each of the rows at rows[0, count): score and index [count, k].
template <class T>
void exact_search_cpu(const SearchedCodes<T>& codes, const T* const* rows, int64_t count, int k, double* score,
                      int64_t* index);

}  // namespace somvae
