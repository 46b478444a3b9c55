// Chooses the winners among the candidates of rows by exact scores. Included once per instruction level by kernel files
// (see cpu/foreach_level.h) after cpu/vector.h, so it has no include guard and includes nothing.

// row(i) returns a pointer to row i of [0, count); take(i, best) receives the row's winners.
template <int k, class T, class Row, class Take>
void decide(const SearchedCodes<T>& codes, Candidates<Compute<T>, k>* candidates, int64_t count, Row row, Take take) {
  using Best = BestCodes<double, int64_t, k>;
  [[maybe_unused]] const KeepSubnormals exact;  // take() rounds scores to distances
  constexpr int most_pairs = 512;               // at a time
  const T *pair_row[most_pairs], *pair_code[most_pairs];
  int32_t pair_index[most_pairs];
  double score[most_pairs];
  int64_t first = 0;
  int pairs = 0;
  const auto decide_until = [&](int64_t last) {
    pair_scores_cpu(pair_row, pair_code, pairs, codes.dim, score);
    int p = 0;
    for (; first < last; ++first) {
      if (candidates[first].are_all_codes()) continue;
      Best best;
      best.reset();
      for (const int end = p + candidates[first].count; p < end; ++p) best.offer(score[p], int64_t(pair_index[p]));
      take(first, best);
    }
    pairs = 0;
  };

  int64_t dense_count = 0;
  for (int64_t i = 0; i < count; ++i) {
    Candidates<Compute<T>, k>& list = candidates[i];
    if (list.are_all_codes()) {
      ++dense_count;
      continue;
    }
    list.drop_losers();
    if (pairs + list.count > most_pairs) decide_until(i);
    for (int32_t c = 0; c < list.count; ++c, ++pairs) {
      pair_row[pairs] = row(i);
      pair_code[pairs] = codes.codebook + list.code[c] * codes.dim;
      pair_index[pairs] = list.code[c];
    }
  }
  decide_until(count);
  if (dense_count == 0) return;

  const Scratch<int64_t> dense_rows(dense_count), index(dense_count * k);
  const Scratch<const T*> rows(dense_count);
  const Scratch<double> scores(dense_count * k);
  int64_t end = 0;
  for (int64_t i = 0; i < count; ++i) {
    if (!candidates[i].are_all_codes()) continue;
    dense_rows[end] = i;
    rows[end++] = row(i);
  }
  exact_search_cpu(codes, rows.data, end, k, scores.data, index.data);
  for (int64_t i = 0; i < end; ++i) {
    Best best;
    for (int n = 0; n < k; ++n) {
      best.score[n] = scores[i * k + n];
      best.index[n] = index[i * k + n];
    }
    take(dense_rows[i], best);
  }
}
